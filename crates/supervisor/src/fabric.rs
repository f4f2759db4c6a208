//! The links of a cluster: a bridge in a namespace of its own, to which every node and the machine
//! are connected.
//!
//! ```text
//!  machine            ripstop-NAME-switch                 ripstop-NAME-node-1
//!  rs-NAME .1 ─────── machine ─┐                  ┌ node-1 ─── eth0 .11
//!          ::1                 ├─ switch .2 ::2 ──┤               ::11
//!                              │  (API server)    └ node-2 ─── eth0 .12 ::12  …
//! ```
//!
//! The bridge isn't in the machine's namespace because its firewall would see the frames between
//! nodes there (`bridge-nf-call-iptables`), and Docker's drops what it doesn't know.
//!
//! Everything here may be done again: what is there stays.

use std::net::IpAddr;

use kernel::link::{LinkChange, VethEnd};
use kernel::route::Route;
use kernel::{NetNs, Netlink, mountns, netns, sysctl};
use model::MacAddr;

use crate::cluster::{Cluster, Node};
use crate::{Error, network};

mod ipv6;

/// The bridge.
const SWITCH: &str = "switch";
/// The bridge's port to the machine.
const MACHINE: &str = "machine";
/// The node's end of its link.
pub const NODE_LINK: &str = "eth0";
/// Routes made by an administrator (`RTPROT_STATIC`). Not Ripstop's own number: the node's agent
/// removes routes of that number that it doesn't know.
const STATIC: u8 = 4;

/// Makes the switch and its link to the machine.
///
/// # Errors
/// When the kernel refuses.
pub async fn build_switch(cluster: &Cluster) -> Result<(), Error> {
    let switch = ensure_netns(&cluster.name.switch_netns())?;
    quiet_bridge_filter(&switch)?;
    ipv6::quiet_namespace(&switch, &cluster.ranges)?;
    let inside = Netlink::open(&switch)?;
    inside.set_up("lo").await?;
    if inside.link(SWITCH).await?.is_none() {
        inside.add_bridge(SWITCH).await?;
    }
    let bridge = inside.link_index(SWITCH).await?;
    // A bridge without an address of its own takes that of one of its ports, another one each
    // time a port comes or goes, and neighbours would go on sending to the old one.
    let fixed = LinkChange {
        address: Some(mac(cluster.ranges.preferred().server())),
        ..LinkChange::default()
    };
    inside.set_link(bridge, &fixed).await?;
    for ranges in cluster.ranges.iter() {
        let address = network::with_prefix(ranges.server(), ranges.node_network);
        inside.add_address(bridge, address).await?;
    }
    connect_machine(cluster, &inside, bridge).await?;
    default_routes(cluster, &inside, bridge).await
}

async fn connect_machine(cluster: &Cluster, inside: &Netlink, bridge: u32) -> Result<(), Error> {
    let machine_netns = NetNs::current()?;
    let machine = Netlink::open(&machine_netns)?;
    let name = cluster.name.machine_link();
    let whole = inside.link(MACHINE).await?.is_some() && machine.link(&name).await?.is_some();
    if !whole {
        // A half of an earlier cluster of this name.
        machine.delete_link(&name).await?;
        let port = VethEnd {
            name: MACHINE,
            master: Some(bridge),
            up: true,
            ..VethEnd::default()
        };
        let end = VethEnd {
            name: &name,
            address: Some(mac(cluster.ranges.preferred().gateway().addr())),
            netns: Some(&machine_netns),
            ..VethEnd::default()
        };
        inside.add_veth(&port, &end).await?;
    }
    ipv6::quiet_link(&machine_netns, &name, &cluster.ranges)?;
    // Not at birth: a veth's far end can't be up before its near end exists.
    machine.set_up(&name).await?;
    let link = machine.link_index(&name).await?;
    for ranges in cluster.ranges.iter() {
        machine.add_address(link, ranges.gateway()).await?;
    }
    Ok(())
}

/// Makes a node's namespace and its link to the switch.
///
/// # Errors
/// When the kernel refuses, or there is no switch.
pub async fn build_node(cluster: &Cluster, node: &Node) -> Result<(), Error> {
    let netns = ensure_netns(&cluster.name.node_netns(&node.name))?;
    ipv6::quiet_namespace(&netns, &cluster.ranges)?;
    let inside = Netlink::open(&netns)?;
    inside.set_up("lo").await?;
    if inside.link(NODE_LINK).await?.is_none() {
        let switch = Netlink::open(&NetNs::open_named(&cluster.name.switch_netns())?)?;
        let bridge = switch.link_index(SWITCH).await?;
        // The port of a node whose namespace hasn't quite ended yet.
        switch.delete_link(&node.name).await?;
        let port = VethEnd {
            name: &node.name,
            master: Some(bridge),
            up: true,
            ..VethEnd::default()
        };
        let end = VethEnd {
            name: NODE_LINK,
            address: Some(mac(node.address())),
            netns: Some(&netns),
            ..VethEnd::default()
        };
        switch.add_veth(&port, &end).await?;
    }
    inside.set_up(NODE_LINK).await?;
    let link = inside.link_index(NODE_LINK).await?;
    for (address, network) in node.addresses.iter().zip(cluster.ranges.node_networks()) {
        inside
            .add_address(link, network::with_prefix(*address, network))
            .await?;
    }
    default_routes(cluster, &inside, link).await
}

async fn default_routes(cluster: &Cluster, inside: &Netlink, link: u32) -> Result<(), Error> {
    for ranges in cluster.ranges.iter() {
        let route = Route {
            protocol: STATIC,
            ..Route::default_via(ranges.gateway().addr(), link)
        };
        inside.replace_route(&route).await?;
    }
    Ok(())
}

/// Removes a node's namespace and its port on the switch.
///
/// # Errors
/// When the kernel refuses.
pub async fn remove_node(cluster: &Cluster, node: &str) -> Result<(), Error> {
    // The namespace ends with its last process and takes its links along, some time later.
    unplug_node(cluster, node).await?;
    NetNs::delete_named(&cluster.name.node_netns(node))?;
    Ok(())
}

/// Takes a node off the switch: its port goes, and the node's end with it. From then on it's silent.
pub async fn unplug_node(cluster: &Cluster, node: &str) -> Result<(), Error> {
    let switch = Netlink::open(&NetNs::open_named(&cluster.name.switch_netns())?)?;
    switch.delete_link(node).await?;
    Ok(())
}

/// Opens the namespace of this name, made if it isn't there.
fn ensure_netns(name: &str) -> Result<NetNs, Error> {
    // A file without a namespace on it is what a crash between the two leaves.
    if !mountns::exists(&netns::named(name)) {
        NetNs::delete_named(name)?;
        return Ok(NetNs::create_named(name)?);
    }
    Ok(NetNs::open_named(name)?)
}

/// Keeps bridged frames out of this namespace's packet filter. The settings only exist where the
/// module that would do it is loaded.
fn quiet_bridge_filter(switch: &NetNs) -> Result<(), Error> {
    let keys =
        ["arptables", "iptables", "ip6tables"].map(|table| format!("net/bridge/bridge-nf-call-{table}"));
    switch.run(|| -> Result<(), Error> {
        for key in &keys {
            if sysctl::read(key)?.is_some() {
                sysctl::write(key, "0")?;
            }
        }
        Ok(())
    })?
}

/// An Ethernet address that belongs to the IP address for ever: neighbours needn't ask again after
/// a node's power failed. It has the bit of locally chosen addresses.
fn mac(address: IpAddr) -> MacAddr {
    let mut octets = [0x02, 0x52, 0, 0, 0, 0];
    match address {
        IpAddr::V4(address) => octets[2..].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => octets[2..].copy_from_slice(&address.octets()[12..]),
    }
    MacAddr(octets)
}

#[cfg(test)]
mod tests;
