//! Which ranges a new cluster gets.
//!
//! Pod and Service addresses exist inside the cluster's namespaces only, so two clusters may use
//! the same ones. The node network is a link of the machine: it must not overlap anything that the
//! machine reaches, nor the cluster's own ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{FIRST_NODE, Family, FamilyRanges, IpFamily, Ranges, nth, overlap};
use crate::Error;

pub(super) const NODE_NETWORK: &str = "--node-network";
pub(super) const POD_CIDR: &str = "--pod-cidr";
pub(super) const SERVICE_CIDR: &str = "--service-cidr";

/// How many node networks are tried: 172.30.0.0/24 to 172.31.255.0/24, to the end of that private
/// block, and as many in IPv6.
const CANDIDATES: u16 = 512;

/// What `up` was asked for; what is left out is chosen. Ranges are lists of one a family.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Which families.
    pub ip_family: IpFamily,
    /// The node network.
    pub node_network: Vec<IpNet>,
    /// The pod range.
    pub pod_cidr: Vec<IpNet>,
    /// The Service range.
    pub service_cidr: Vec<IpNet>,
}

/// Something that has addresses already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which addresses.
    pub range: IpNet,
    /// By what, as in `route by eth0` or `cluster other`.
    pub by: String,
}

impl Ranges {
    /// Chooses, given what else has addresses here and how many nodes there will be.
    ///
    /// # Errors
    /// When ranges are of another family than the cluster, overlap, are of a form that can't be
    /// used, or no node network is free.
    pub fn choose(wish: &Wish, taken: &[Taken], nodes: usize) -> Result<Self, Error> {
        let families = wish.families()?;
        let ranges = families.into_iter().map(|family| wish.of(family, taken, nodes));
        Ok(Self(ranges.collect::<Result<_, _>>()?))
    }
}

/// For an existing cluster: exactly what it has.
impl From<&Ranges> for Wish {
    fn from(ranges: &Ranges) -> Self {
        Self {
            ip_family: ranges.ip_family(),
            node_network: ranges.node_networks(),
            pod_cidr: ranges.pod_cidrs(),
            service_cidr: ranges.service_cidrs(),
        }
    }
}

impl Wish {
    fn lists(&self) -> [(&'static str, &[IpNet]); 3] {
        [
            (NODE_NETWORK, &self.node_network),
            (POD_CIDR, &self.pod_cidr),
            (SERVICE_CIDR, &self.service_cidr),
        ]
    }

    /// The cluster's families, the preferred one first: as in Kubernetes, it's the one whose ranges
    /// are written first.
    fn families(&self) -> Result<Vec<Family>, Error> {
        let mut order: Option<(&'static str, Family)> = None;
        for (flag, ranges) in self.lists() {
            check_families(flag, ranges, self.ip_family)?;
            let &[first, _] = ranges else { continue };
            let first = Family::of(first.addr());
            match order {
                Some((other, before)) if before != first => {
                    return Err(Error::FamilyOrder {
                        first: (other, before),
                        second: (flag, first),
                    });
                }
                _ => order = Some((flag, first)),
            }
        }
        let mut families = self.ip_family.families().to_vec();
        if order.is_some_and(|(_, first)| first != families[0]) {
            families.reverse();
        }
        Ok(families)
    }

    fn of(&self, family: Family, taken: &[Taken], nodes: usize) -> Result<FamilyRanges, Error> {
        let given = |ranges: &[IpNet]| {
            let range = ranges.iter().find(|range| Family::of(range.addr()) == family);
            range.map(IpNet::trunc)
        };
        let pod_cidr = given(&self.pod_cidr).unwrap_or_else(|| family.default_pod_cidr());
        let service_cidr = given(&self.service_cidr).unwrap_or_else(|| family.default_service_cidr());
        check_usable(POD_CIDR, pod_cidr)?;
        check_usable(SERVICE_CIDR, service_cidr)?;
        check_pod_cidr(pod_cidr, nodes)?;
        check_service_cidr(service_cidr)?;
        if overlap(service_cidr, pod_cidr) {
            return Err(Error::RangesOverlap {
                first: (SERVICE_CIDR, service_cidr),
                second: (POD_CIDR, pod_cidr),
            });
        }
        let own = |range, by: &str| Taken {
            range,
            by: by.to_owned(),
        };
        let mut others = taken.to_vec();
        others.push(own(pod_cidr, "the pods"));
        others.push(own(service_cidr, "the Services"));
        let node_network = match given(&self.node_network) {
            Some(network) => check_node_network(network, &others, nodes)?,
            None => free_node_network(family, &others)?,
        };
        Ok(FamilyRanges {
            node_network,
            pod_cidr,
            service_cidr,
        })
    }
}

impl Family {
    /// Pods, unless asked otherwise.
    #[must_use]
    pub fn default_pod_cidr(self) -> IpNet {
        match self {
            Self::V4 => v4([10, 244, 0, 0], 16),
            Self::V6 => v6([0xfd00, 0x10, 0x244, 0], 56),
        }
    }

    /// Services, unless asked otherwise.
    #[must_use]
    pub fn default_service_cidr(self) -> IpNet {
        match self {
            Self::V4 => v4([10, 96, 0, 0], 16),
            Self::V6 => v6([0xfd00, 0x10, 0x96, 0], 112),
        }
    }

    /// The node network with this number, of those that are tried.
    fn node_network(self, number: u16) -> IpNet {
        match self {
            Self::V4 => {
                let [high, low] = number.to_be_bytes();
                v4([172, 30 + high, low, 0], 24)
            }
            Self::V6 => v6([0xfd00, 0x172, 0x30, number], 64),
        }
    }
}

fn v4(octets: [u8; 4], length: u8) -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::from(octets), length).into()
}

fn v6([a, b, c, d]: [u16; 4], length: u8) -> IpNet {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), length).into()
}

fn check_families(flag: &'static str, ranges: &[IpNet], cluster: IpFamily) -> Result<(), Error> {
    for (number, range) in ranges.iter().enumerate() {
        let family = Family::of(range.addr());
        if !cluster.families().contains(&family) {
            return Err(Error::WrongFamily {
                flag,
                range: *range,
                cluster,
            });
        }
        let same = |other: &&IpNet| Family::of(other.addr()) == family;
        if let Some(other) = ranges[..number].iter().find(same) {
            return Err(Error::TwoOfOneFamily {
                flag,
                first: *other,
                second: *range,
            });
        }
    }
    Ok(())
}

/// Addresses that mean something else everywhere can be nobody's.
fn check_usable(flag: &'static str, range: IpNet) -> Result<(), Error> {
    const RESERVED: [(&str, &str); 9] = [
        ("0.0.0.0/8", "\"this host\""),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local, as the gateway that pods see"),
        ("224.0.0.0/3", "multicast and reserved"),
        ("::/96", "loopback and unspecified"),
        ("::ffff:0:0/96", "IPv4 inside IPv6"),
        ("64:ff9b::/96", "translated to IPv4"),
        ("fe80::/10", "link-local, as the gateway that pods see"),
        ("ff00::/8", "multicast"),
    ];
    let hit = RESERVED.iter().find(|(reserved, _)| {
        let reserved: IpNet = reserved.parse().expect("the table holds ranges");
        overlap(reserved, range)
    });
    match hit {
        Some((reserved, what)) => Err(Error::RangeReserved {
            flag,
            range,
            reserved,
            what,
        }),
        None => Ok(()),
    }
}

fn check_pod_cidr(range: IpNet, nodes: usize) -> Result<(), Error> {
    let block = Family::of(range.addr()).node_mask();
    let room = block
        .checked_sub(range.prefix_len())
        .map_or(0, |bits| 1_usize << bits.min(31));
    if room < nodes {
        return Err(Error::PodRangeTooSmall {
            range,
            room,
            nodes,
            block,
        });
    }
    Ok(())
}

fn check_service_cidr(range: IpNet) -> Result<(), Error> {
    const LEAST_BITS: u8 = 4;
    let needs = range.max_prefix_len() - LEAST_BITS;
    if range.prefix_len() > needs {
        return Err(Error::RangeTooSmall {
            flag: SERVICE_CIDR,
            range,
            needs,
        });
    }
    Ok(())
}

fn check_node_network(network: IpNet, taken: &[Taken], nodes: usize) -> Result<IpNet, Error> {
    check_usable(NODE_NETWORK, network)?;
    if nth(network, FIRST_NODE + nodes.max(1) - 1).is_none() {
        return Err(node_network_too_small(network));
    }
    match taken.iter().find(|other| overlap(network, other.range)) {
        Some(other) => Err(Error::NodeNetworkTaken {
            network,
            other: other.clone(),
        }),
        None => Ok(network),
    }
}

pub(super) fn node_network_too_small(range: IpNet) -> Error {
    Error::RangeTooSmall {
        flag: NODE_NETWORK,
        range,
        needs: match range.addr() {
            IpAddr::V4(_) => 24,
            IpAddr::V6(_) => 64,
        },
    }
}

fn free_node_network(family: Family, taken: &[Taken]) -> Result<IpNet, Error> {
    let is_free = |network: &IpNet| !taken.iter().any(|other| overlap(*network, other.range));
    let mut candidates = (0..CANDIDATES).map(|number| family.node_network(number));
    candidates.find(is_free).ok_or_else(|| Error::NoNodeNetwork {
        first: family.node_network(0),
        last: family.node_network(CANDIDATES - 1),
    })
}
