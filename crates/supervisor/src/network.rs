//! Which addresses a cluster has: one range of each kind for each of its families.
//!
//! | in the node network | IPv4 | IPv6 | who |
//! | --- | --- | --- | --- |
//! | 1 | .1 | ::1 | the machine |
//! | 2 | .2 | ::2 | the API server |
//! | 11 and up | .11 | ::11 | the nodes |
//! | 200 to 250 | .200 | ::200 | load balancers |
//!
//! A number is written the same in both families, so that `node-1` is 172.30.0.11 and
//! fd00:172:30::11: people compare addresses by eye.

mod choose;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Error;

pub use choose::{Taken, Wish};

const GATEWAY: usize = 1;
const SERVER: usize = 2;
const FIRST_NODE: usize = 11;
const FIRST_BALANCER: usize = 200;
const LAST_BALANCER: usize = 250;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The families of a cluster, as `--ip-family` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IpFamily {
    /// IPv4 alone.
    #[default]
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both.
    Dual,
}

/// The ranges of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyRanges {
    /// The link of the nodes, the server and the machine.
    pub node_network: IpNet,
    /// Pods, a block of it to each node.
    pub pod_cidr: IpNet,
    /// Services.
    pub service_cidr: IpNet,
}

/// The ranges of a cluster, the preferred family's first; one or two of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Ranges(Vec<FamilyRanges>);

/// As `cluster.json` has them. Clusters of before there were families have the only family's
/// ranges among the cluster's own fields.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(default)]
    ranges: Vec<FamilyRanges>,
    #[serde(flatten, skip_serializing)]
    only: Option<FamilyRanges>,
}

impl Family {
    /// Of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The length of each node's block of the pod range.
    #[must_use]
    pub const fn node_mask(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl IpFamily {
    /// The families, in the usual order.
    #[must_use]
    pub const fn families(self) -> &'static [Family] {
        match self {
            Self::Ipv4 => &[Family::V4],
            Self::Ipv6 => &[Family::V6],
            Self::Dual => &[Family::V4, Family::V6],
        }
    }

    /// As it is typed.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Dual => "dual",
        }
    }
}

/// As it is said of a cluster.
impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Dual => "dual-stack",
        })
    }
}

impl FamilyRanges {
    /// Their family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.node_network.addr())
    }

    /// The machine's address, with the prefix length of the link.
    #[must_use]
    pub fn gateway(&self) -> IpNet {
        let address = nth(self.node_network, GATEWAY).expect("a node network has room for the machine");
        with_prefix(address, self.node_network)
    }

    /// The API server's address.
    #[must_use]
    pub fn server(&self) -> IpAddr {
        nth(self.node_network, SERVER).expect("a node network has room for the server")
    }

    /// The address of the node with this index, counted from 0.
    ///
    /// # Errors
    /// When the network ends before.
    pub fn node(&self, index: usize) -> Result<IpAddr, Error> {
        nth(self.node_network, FIRST_NODE + index)
            .ok_or_else(|| choose::node_network_too_small(self.node_network))
    }

    /// The first and the last of the addresses for load balancers; none if the node network ends before.
    #[must_use]
    pub fn load_balancers(&self) -> Option<(IpAddr, IpAddr)> {
        let address = |number| nth(self.node_network, number);
        address(FIRST_BALANCER).zip(address(LAST_BALANCER))
    }

    /// The tenth address of the Service range: the cluster's DNS.
    #[must_use]
    pub fn dns_service(&self) -> IpAddr {
        const NUMBER: u8 = 10;
        match self.service_cidr.network() {
            IpAddr::V4(base) => IpAddr::V4((u32::from(base) + u32::from(NUMBER)).into()),
            IpAddr::V6(base) => IpAddr::V6((u128::from(base) + u128::from(NUMBER)).into()),
        }
    }

    /// The first address of the Service range: the API inside the cluster.
    #[must_use]
    pub fn first_service(&self) -> IpAddr {
        nth(self.service_cidr, 1).expect("a Service range has at least 16 addresses")
    }
}

impl Ranges {
    /// Those of each family, the preferred one's first.
    pub fn iter(&self) -> impl Iterator<Item = &FamilyRanges> {
        self.0.iter()
    }

    /// Those of the preferred family.
    #[must_use]
    pub fn preferred(&self) -> &FamilyRanges {
        &self.0[0]
    }

    /// Which families the cluster has.
    #[must_use]
    pub fn ip_family(&self) -> IpFamily {
        match (self.preferred().family(), self.0.len()) {
            (Family::V4, 1) => IpFamily::Ipv4,
            (Family::V6, 1) => IpFamily::Ipv6,
            _ => IpFamily::Dual,
        }
    }

    /// Whether the cluster has this family.
    #[must_use]
    pub fn has(&self, family: Family) -> bool {
        self.iter().any(|ranges| ranges.family() == family)
    }

    /// The node networks.
    #[must_use]
    pub fn node_networks(&self) -> Vec<IpNet> {
        self.iter().map(|ranges| ranges.node_network).collect()
    }

    /// The addresses of the cluster's DNS.
    #[must_use]
    pub fn dns_services(&self) -> Vec<IpAddr> {
        self.iter().map(FamilyRanges::dns_service).collect()
    }

    /// The pod ranges.
    #[must_use]
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        self.iter().map(|ranges| ranges.pod_cidr).collect()
    }

    /// The ranges for load balancers, as FIRST-LAST.
    #[must_use]
    pub fn load_balancers(&self) -> Vec<String> {
        let ends = self.iter().filter_map(FamilyRanges::load_balancers);
        ends.map(|(first, last)| format!("{first}-{last}")).collect()
    }

    /// Addresses of the node networks that are nobody else's to have: the machine's, the server's, those that
    /// mean the network itself and everybody on it.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let own = |ranges: &FamilyRanges| {
            let network = ranges.node_network;
            let ends = [network.network(), network.broadcast()];
            ends.into_iter().chain([ranges.gateway().addr(), ranges.server()])
        };
        self.iter().flat_map(own).collect()
    }

    /// The Service ranges.
    #[must_use]
    pub fn service_cidrs(&self) -> Vec<IpNet> {
        self.iter().map(|ranges| ranges.service_cidr).collect()
    }
}

impl TryFrom<Stored> for Ranges {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let ranges: Vec<_> = stored.ranges.into_iter().chain(stored.only).collect();
        let families: Vec<_> = ranges.iter().map(FamilyRanges::family).collect();
        let of_family = |ranges: &FamilyRanges| {
            let all = [ranges.node_network, ranges.pod_cidr, ranges.service_cidr];
            all.iter()
                .all(|range| Family::of(range.addr()) == ranges.family())
        };
        match families.as_slice() {
            [] => Err("it has no address ranges"),
            [first, second] if first == second => Err("it has the ranges of one family twice"),
            [_] | [_, _] if ranges.iter().all(of_family) => Ok(Self(ranges)),
            _ => Err("its address ranges are of mixed families"),
        }
    }
}

impl From<Ranges> for Stored {
    fn from(ranges: Ranges) -> Self {
        Self {
            ranges: ranges.0,
            only: None,
        }
    }
}

/// Whether the two have an address in common; a default route isn't a claim to addresses.
#[must_use]
pub fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// An address as it is given to a link of this network.
#[must_use]
pub fn with_prefix(address: IpAddr, network: IpNet) -> IpNet {
    IpNet::new(address, network.prefix_len()).expect("a prefix length of the same family fits")
}

/// The address with this number in the network, if it is inside and isn't the last (broadcast).
fn nth(network: IpNet, number: usize) -> Option<IpAddr> {
    let address = match network.network() {
        IpAddr::V4(base) => IpAddr::V4(u32::from(base).checked_add(u32::try_from(number).ok()?)?.into()),
        IpAddr::V6(base) => {
            let digits = u128::from_str_radix(&number.to_string(), 16).ok()?;
            IpAddr::V6(u128::from(base).checked_add(digits)?.into())
        }
    };
    (network.contains(&address) && address != network.broadcast()).then_some(address)
}

#[cfg(test)]
mod tests;
