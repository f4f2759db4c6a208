//! What a node's DNS is told, as JSON like the agent's.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use crate::Paths;
use crate::cluster::{Cluster, Node};
use crate::network::Family;
use crate::resolver::Resolver;

const DNS_PORT: u16 = 53;
/// Where other clusters' DNS tells its numbers, too.
pub(crate) const METRICS_PORT: u16 = 9153;

/// The DNS's configuration file.
#[must_use]
pub fn render(cluster: &Cluster, paths: &Paths, node: &Node, resolver: &Resolver) -> String {
    let own = paths.node(&node.name);
    let ranges = &cluster.ranges;
    let servers = ranges.dns_services();
    let clients = [ranges.pod_cidrs(), ranges.node_networks(), ranges.service_cidrs()].concat();
    let inside = [ranges.service_cidrs(), ranges.pod_cidrs()].concat();
    let loopback = ranges.iter().map(|ranges| ranges.family().loopback());
    let told = loopback.chain(addresses(cluster, node));
    let metrics: Vec<SocketAddr> = told
        .map(|address| SocketAddr::new(address, METRICS_PORT))
        .collect();
    let mut config = json!({
        "nodeName": node.name,
        "kubeconfig": own.dns_kubeconfig(),
        "dataDir": own.dns_data(),
        "listen": listen(cluster, node),
        "metrics": metrics,
        "servers": servers,
        "clusterRanges": inside,
        "clients": clients,
        "resolvConf": own.resolv_conf(),
        "heard": own.heard(),
    });
    if resolver.on_loopback.is_some() {
        config["resolvConf"] = json!(own.upstreams());
        // The supervisor is in the machine's own; a DNS that runs goes on with that when another one comes.
        config["loopbackNetns"] = json!(format!("/proc/{}/ns/net", std::process::id()));
    }
    serde_json::to_string_pretty(&config).expect("plain data becomes JSON") + "\n"
}

/// Where questions are answered: at the DNS Service's addresses, and at the node's own, which are
/// the Service's endpoints.
pub(crate) fn listen(cluster: &Cluster, node: &Node) -> Vec<SocketAddr> {
    addresses(cluster, node)
        .map(|address| SocketAddr::new(address, DNS_PORT))
        .collect()
}

fn addresses(cluster: &Cluster, node: &Node) -> impl Iterator<Item = IpAddr> {
    let own = node.addresses.clone();
    cluster.ranges.dns_services().into_iter().chain(own)
}

impl Family {
    /// Of a namespace's own link.
    pub(crate) const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        }
    }
}
