//! Which addresses a cluster gets.
//!
//! Pod and Service addresses exist inside the cluster's namespaces only, so two clusters may use
//! the same ones. The node network is a link of the machine: it must not overlap anything that the
//! machine reaches, nor the cluster's own ranges.
//!
//! | in the node network | who |
//! | --- | --- |
//! | .1 | the machine |
//! | .2 | the API server |
//! | .11 and up | the nodes |
//! | .200 to .250 | load balancers |

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Pods, unless asked otherwise.
pub const DEFAULT_POD_CIDR: &str = "10.244.0.0/16";
/// Services, unless asked otherwise.
pub const DEFAULT_SERVICE_CIDR: &str = "10.96.0.0/16";
/// The first node network that is tried.
const FIRST_NODE_NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 30, 0, 0), 24);
/// The length of each node's part of the pod range.
pub const NODE_MASK: u8 = 24;

const GATEWAY: usize = 1;
const SERVER: usize = 2;
const FIRST_NODE: usize = 11;

/// The address ranges of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ranges {
    /// The link of the nodes, the server and the machine.
    pub node_network: IpNet,
    /// Pods, a part of it to each node.
    pub pod_cidr: IpNet,
    /// Services.
    pub service_cidr: IpNet,
}

/// What `up` was asked for; what is left out is chosen.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The node network.
    pub node_network: Option<IpNet>,
    /// The pod range.
    pub pod_cidr: Option<IpNet>,
    /// The Service range.
    pub service_cidr: Option<IpNet>,
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
    /// When ranges overlap, are of a form that can't be used, or no node network is free.
    pub fn choose(wish: &Wish, taken: &[Taken], nodes: usize) -> Result<Self, Error> {
        let default = |text: &str| text.parse::<IpNet>().expect("a default is a range");
        let pod_cidr = wish.pod_cidr.unwrap_or_else(|| default(DEFAULT_POD_CIDR));
        let service_cidr = wish.service_cidr.unwrap_or_else(|| default(DEFAULT_SERVICE_CIDR));
        for (flag, range) in [("--pod-cidr", pod_cidr), ("--service-cidr", service_cidr)] {
            check_family(flag, range)?;
        }
        check_pod_cidr(pod_cidr, nodes)?;
        if service_cidr.prefix_len() > 28 {
            return Err(Error::RangeTooSmall {
                flag: "--service-cidr",
                range: service_cidr,
                needs: 28,
            });
        }
        disjoint(("--service-cidr", service_cidr), ("--pod-cidr", pod_cidr))?;
        let mut others = taken.to_vec();
        others.push(Taken {
            range: pod_cidr,
            by: "the pods".to_owned(),
        });
        others.push(Taken {
            range: service_cidr,
            by: "the Services".to_owned(),
        });
        let node_network = match wish.node_network {
            Some(network) => given_node_network(network, &others, nodes)?,
            None => free_node_network(&others)?,
        };
        Ok(Self {
            node_network: node_network.trunc(),
            pod_cidr: pod_cidr.trunc(),
            service_cidr: service_cidr.trunc(),
        })
    }
}

fn given_node_network(network: IpNet, taken: &[Taken], nodes: usize) -> Result<IpNet, Error> {
    check_family("--node-network", network)?;
    if nth(network, FIRST_NODE + nodes).is_none() {
        return Err(Error::RangeTooSmall {
            flag: "--node-network",
            range: network,
            needs: 24,
        });
    }
    match taken.iter().find(|other| overlap(network, other.range)) {
        Some(other) => Err(Error::NodeNetworkTaken {
            network,
            other: other.clone(),
        }),
        None => Ok(network),
    }
}

/// The first free one from 172.30.0.0/24 on, to the end of that private block.
fn free_node_network(taken: &[Taken]) -> Result<IpNet, Error> {
    let start = u32::from(FIRST_NODE_NETWORK.addr());
    let end = u32::from(Ipv4Addr::new(172, 32, 0, 0));
    let candidates = (start..end)
        .step_by(256)
        .map(|address| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(address), 24)));
    let is_free = |network: &IpNet| !taken.iter().any(|other| overlap(*network, other.range));
    candidates.into_iter().find(is_free).ok_or(Error::NoNodeNetwork)
}

fn check_family(flag: &'static str, range: IpNet) -> Result<(), Error> {
    match range {
        IpNet::V4(_) => Ok(()),
        IpNet::V6(_) => Err(Error::Ipv6Range { flag, range }),
    }
}

fn check_pod_cidr(range: IpNet, nodes: usize) -> Result<(), Error> {
    let room = NODE_MASK
        .checked_sub(range.prefix_len())
        .map_or(0, |bits| 1_usize << bits.min(31));
    if room < nodes {
        return Err(Error::PodRangeTooSmall { range, room, nodes });
    }
    Ok(())
}

fn disjoint(first: (&'static str, IpNet), second: (&'static str, IpNet)) -> Result<(), Error> {
    if overlap(first.1, second.1) {
        return Err(Error::RangesOverlap { first, second });
    }
    Ok(())
}

/// Whether the two have an address in common; a default route isn't a claim to addresses.
#[must_use]
pub fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The machine's address.
#[must_use]
pub fn gateway_address(network: IpNet) -> IpAddr {
    nth(network, GATEWAY).expect("a node network has room for the machine")
}

/// The API server's address.
#[must_use]
pub fn server_address(network: IpNet) -> IpAddr {
    nth(network, SERVER).expect("a node network has room for the server")
}

/// The address of the node with this index, counted from 0.
///
/// # Errors
/// When the network ends before.
pub fn node_address(network: IpNet, index: usize) -> Result<IpAddr, Error> {
    nth(network, FIRST_NODE + index).ok_or(Error::RangeTooSmall {
        flag: "--node-network",
        range: network,
        needs: 24,
    })
}

/// The first address of the Service range: the API inside the cluster.
#[must_use]
pub fn first_service_address(range: IpNet) -> IpAddr {
    nth(range, 1).expect("a Service range has at least 16 addresses")
}

/// An address as it is given to a link of this network.
#[must_use]
pub fn with_prefix(address: IpAddr, network: IpNet) -> IpNet {
    IpNet::new(address, network.prefix_len()).expect("a prefix length of the same family fits")
}

/// The address `offset` after the network's own, if it is inside and isn't the last (broadcast).
fn nth(network: IpNet, offset: usize) -> Option<IpAddr> {
    let address = match network.network() {
        IpAddr::V4(base) => IpAddr::V4(u32::from(base).checked_add(u32::try_from(offset).ok()?)?.into()),
        IpAddr::V6(base) => IpAddr::V6(u128::from(base).checked_add(offset as u128)?.into()),
    };
    (network.contains(&address) && address != network.broadcast()).then_some(address)
}

#[cfg(test)]
mod tests;
