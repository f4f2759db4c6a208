//! What a node's kernel is like, as far as its plan depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use model::{NodeFacts, Uplink};

use crate::link::Link;
use crate::{Error, Netlink, Result};

/// The largest packets to those of the addresses that routers have said take less than the link.
pub async fn path_mtus(netlink: &Netlink, addresses: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, u32>> {
    let mut known = BTreeMap::new();
    for address in addresses {
        known.extend(netlink.path_mtu(*address).await?.map(|mtu| (*address, mtu)));
    }
    Ok(known)
}

/// The facts about node `name`: its uplink is the link that carries the first of `node_ips`.
pub async fn facts(netlink: &Netlink, name: &str, node_ips: &[IpAddr]) -> Result<NodeFacts> {
    let node_ip = node_ips.first().copied().unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let addresses = netlink.addresses().await?;
    let carrier = addresses.iter().find(|address| address.address.addr() == node_ip);
    let index = carrier
        .map(|address| address.link)
        .ok_or(Error::NoUplink(node_ip))?;
    let links = netlink.links().await?;
    let link: &Link = links
        .iter()
        .find(|link| link.index == index)
        .ok_or(Error::NoUplink(node_ip))?;
    let on_link = addresses
        .iter()
        // What is held for load balancers comes and goes, and isn't the node's.
        .filter(|address| address.link == index && address.global && !address.own);
    // The node's own addresses first: they're the source of what the node sends, and a link may
    // have others of the same family.
    let mut addresses: Vec<IpNet> = on_link.map(|address| address.address).collect();
    let rank = |address: IpAddr| node_ips.iter().position(|own| *own == address);
    addresses.sort_by_key(|address| {
        let rank = rank(address.addr());
        (rank.is_none(), rank, address.addr().is_ipv6())
    });
    let uplink = Uplink {
        name: link.name.clone(),
        mtu: link.mtu,
        addresses,
    };
    Ok(NodeFacts {
        name: name.to_owned(),
        uplink,
        ..NodeFacts::default()
    })
}
