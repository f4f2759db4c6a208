//! Namespaces joined by veth pairs: what plain routing and others' plugins stand on. They have no
//! names and end with this process.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net};
use kernel::link::VethEnd;
use kernel::route::Route;
use kernel::{NetNs, Netlink, sysctl};

/// A namespace that routes.
pub(crate) fn node() -> Result<Arc<NetNs>> {
    let node = NetNs::anonymous()?;
    sysctl::write_in(&node, &[("net/ipv4/ip_forward", "1")])?;
    Ok(Arc::new(node))
}

/// Two nodes, and the namespace whose bridge joins them as it does a cluster's. Each routes the
/// other's pods (`pods(1)`, `pods(2)`) to it.
pub(crate) async fn two_nodes(pods: impl Fn(u8) -> Ipv4Addr) -> Result<([Arc<NetNs>; 2], NetNs)> {
    let switch = NetNs::anonymous()?;
    let links = Netlink::open(&switch)?;
    links.add_bridge("br0").await?;
    let bridge = links.link_index("br0").await?;
    links.set_up("br0").await?;
    let nodes = [node()?, node()?];
    let uplink = |number| Ipv4Addr::new(10, 251, 0, number);
    for (number, node) in (1..).zip(&nodes) {
        let near = VethEnd {
            name: &format!("port{number}"),
            master: Some(bridge),
            up: true,
            ..VethEnd::default()
        };
        plug(&links, &near, node, "eth0", whole(uplink(number))).await?;
    }
    for (number, node) in (1..).zip(&nodes) {
        let other = 3 - number;
        let links = Netlink::open(node)?;
        let link = links.link_index("eth0").await?;
        let route = Route::via(whole(pods(other)).trunc(), uplink(other).into(), link);
        links.replace_route(&route).await?;
    }
    Ok((nodes, switch))
}

/// Joins a namespace to another by a veth pair, and gives its end an address.
pub(crate) async fn plug(
    links: &Netlink,
    near: &VethEnd<'_>,
    into: &NetNs,
    name: &str,
    address: IpNet,
) -> Result<()> {
    let far = VethEnd {
        name,
        netns: Some(into),
        ..VethEnd::default()
    };
    links.add_veth(near, &far).await?;
    let inside = Netlink::open(into)?;
    inside.set_up("lo").await?;
    inside.set_up(name).await?;
    let link = inside.link_index(name).await?;
    inside.add_address(link, address).await?;
    Ok(())
}

/// An address with its /24.
pub(crate) fn whole(address: Ipv4Addr) -> IpNet {
    IpNet::V4(Ipv4Net::new(address, 24).expect("24 is a prefix length"))
}
