//! The server's way to pods, for `proxy`: a route to each node's pods by that node's address, as what Kubernetes
//! calls the route controller makes them where a server is no node itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context;
use futures::StreamExt;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kernel::route::Route;
use kernel::{NetNs, Netlink};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

/// Keeps the routes of the namespace of this process until `shutdown`.
pub(crate) async fn keep(client: Client, shutdown: CancellationToken) -> anyhow::Result<()> {
    let netlink = Netlink::open(&NetNs::current()?).context("can't speak to the kernel's network")?;
    let (nodes, writer) = reflector::store();
    let events = watcher(Api::<Node>::all(client), watcher::Config::default());
    let events = events.default_backoff().reflect(writer);
    tokio::pin!(events);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = shutdown.cancelled() => return Ok(()),
        };
        match event {
            // What a listing has so far isn't all of it.
            Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_))) => {}
            Some(Ok(_)) => {
                let wanted = nodes.state().iter().flat_map(|node| wanted(node)).collect();
                if let Err(error) = write(&netlink, &wanted).await {
                    tracing::warn!(%error, "routes to pods, for proxies");
                }
            }
            Some(Err(error)) => tracing::debug!(%error, "watching nodes for routes"),
            None => anyhow::bail!("the watch of nodes ended"),
        }
    }
}

/// Where a node's pods are reached: by its address of the same family.
fn wanted(node: &Node) -> Vec<(IpNet, IpAddr)> {
    let spec = node.spec.iter();
    let ranges = spec.flat_map(|spec| spec.pod_cidrs.iter().flatten());
    let status = node.status.iter();
    let addresses = status.flat_map(|status| status.addresses.iter().flatten());
    let internal: Vec<IpAddr> = addresses
        .filter(|address| address.type_ == "InternalIP")
        .filter_map(|address| address.address.parse().ok())
        .collect();
    ranges
        .filter_map(|range| range.parse::<IpNet>().ok())
        .filter_map(|range| {
            let gateway = internal.iter().find(|it| it.is_ipv4() == range.addr().is_ipv4());
            Some((range.trunc(), *gateway?))
        })
        .collect()
}

/// Writes what is missing and removes what leads nowhere any more; all by the link that nodes are on.
async fn write(netlink: &Netlink, wanted: &BTreeSet<(IpNet, IpAddr)>) -> anyhow::Result<()> {
    let present = netlink.own_routes().await?;
    for route in &present {
        let is = route.gateway.map(|gateway| (route.destination, gateway));
        if is.is_none_or(|is| !wanted.contains(&is)) {
            netlink.delete_route(route).await?;
        }
    }
    for (range, gateway) in wanted {
        if present
            .iter()
            .any(|it| it.destination == *range && it.gateway == Some(*gateway))
        {
            continue;
        }
        let link = link_of(netlink, *gateway).await?;
        netlink.replace_route(&Route::via(*range, *gateway, link)).await?;
    }
    Ok(())
}

async fn link_of(netlink: &Netlink, gateway: IpAddr) -> anyhow::Result<u32> {
    let routes = netlink.routes().await?;
    let direct = routes
        .iter()
        .find(|route| route.gateway.is_none() && route.destination.contains(&gateway));
    let link = direct.and_then(|route| route.link);
    link.with_context(|| format!("{gateway} is on no link of this namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_range_is_reached_by_the_address_of_its_family() {
        let node: Node = serde_json::from_value(serde_json::json!({
            "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64", "rubbish"]},
            "status": {"addresses": [
                {"type": "Hostname", "address": "node-1"},
                {"type": "InternalIP", "address": "fd00:172:30::11"},
                {"type": "InternalIP", "address": "172.30.0.11"},
            ]},
        }))
        .expect("it is a node");
        let texts: Vec<_> = wanted(&node)
            .iter()
            .map(|(range, by)| format!("{range} {by}"))
            .collect();
        assert_eq!(
            texts,
            ["10.244.1.0/24 172.30.0.11", "fd00:10:244:1::/64 fd00:172:30::11"]
        );
        assert!(wanted(&Node::default()).is_empty());
    }
}
