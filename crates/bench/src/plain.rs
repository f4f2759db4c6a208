//! Without Ripstop: pods joined by routed veth pairs and nothing else, and a veth pair alone.
//!
//! ```text
//! pod ── veth ── node ── veth ── pod                       routed, one node
//! pod ── veth ── node ── switch ── node ── veth ── pod     routed, two nodes
//! pod ── veth ── pod                                       alone: the limit
//! ```

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use kernel::link::VethEnd;
use kernel::route::Route;
use kernel::{NetNs, Netlink};

use crate::pair::Pair;
use crate::wiring::{node, plug, two_nodes, whole};

/// Two pods on one node.
pub(crate) async fn one_node() -> Result<Pair> {
    let node = node()?;
    let (client, _) = pod(&node, 1).await?;
    let (server, address) = pod(&node, 2).await?;
    Pair::new(client, server, address.into(), vec![Box::new(node)])
}

/// Two pods on two nodes.
pub(crate) async fn across_nodes() -> Result<Pair> {
    let (nodes, switch) = two_nodes(|number| Ipv4Addr::new(10, 250, number, 0)).await?;
    let (client, _) = pod(&nodes[0], 1).await?;
    let (server, address) = pod(&nodes[1], 2).await?;
    Pair::new(
        client,
        server,
        address.into(),
        vec![Box::new(nodes), Box::new(switch)],
    )
}

/// Two pods with nothing between them.
pub(crate) async fn alone() -> Result<Pair> {
    let (client, server) = (NetNs::anonymous()?, NetNs::anonymous()?);
    let links = Netlink::open(&client)?;
    let near = VethEnd {
        name: "eth0",
        up: true,
        ..VethEnd::default()
    };
    let address = Ipv4Addr::new(10, 250, 0, 2);
    plug(&links, &near, &server, "eth0", whole(address)).await?;
    let link = links.link_index("eth0").await?;
    let own = whole(Ipv4Addr::new(10, 250, 0, 1));
    links.add_address(link, own).await?;
    links.set_up("lo").await?;
    Pair::new(Arc::new(client), Arc::new(server), address.into(), Vec::new())
}

/// A pod with a /24 of its own, so that its node routes.
async fn pod(node: &NetNs, number: u8) -> Result<(Arc<NetNs>, Ipv4Addr)> {
    let pod = NetNs::anonymous()?;
    let (gateway, address) = (
        Ipv4Addr::new(10, 250, number, 1),
        Ipv4Addr::new(10, 250, number, 2),
    );
    let links = Netlink::open(node)?;
    let name = format!("pod{number}");
    let near = VethEnd {
        name: &name,
        up: true,
        ..VethEnd::default()
    };
    plug(&links, &near, &pod, "eth0", whole(address)).await?;
    let link = links.link_index(&name).await?;
    links.add_address(link, whole(gateway)).await?;
    let inside = Netlink::open(&pod)?;
    let link = inside.link_index("eth0").await?;
    inside
        .replace_route(&Route::default_via(gateway.into(), link))
        .await?;
    Ok((Arc::new(pod), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_pods_reach_each_other() {
        for pair in [
            one_node().await.unwrap(),
            across_nodes().await.unwrap(),
            alone().await.unwrap(),
        ] {
            let at = (pair.address, 0);
            let listener = pair
                .server
                .run(|| std::net::TcpListener::bind(at))
                .unwrap()
                .unwrap();
            let at = listener.local_addr().unwrap();
            let limit = std::time::Duration::from_secs(5);
            let stream = pair
                .client
                .run(|| std::net::TcpStream::connect_timeout(&at, limit));
            stream.unwrap().unwrap();
        }
    }
}
