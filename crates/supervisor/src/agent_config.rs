//! What a node's agent is told.
//!
//! It is written as JSON rather than as the agent's own type, so that the supervisor doesn't have
//! the agent and all its dependencies inside; a test of the command, which has both, reads it back.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::Paths;
use crate::cluster::{Cluster, Node};
use crate::node;

/// The kubelet's port, as everywhere.
pub(crate) const KUBELET_PORT: u16 = 10250;

/// How many pods a node takes, as everywhere.
const MAX_PODS: u32 = 110;

/// The agent's configuration file.
#[must_use]
pub fn render(cluster: &Cluster, paths: &Paths, node: &Node) -> String {
    let text = serde_json::to_string_pretty(&config(cluster, paths, node));
    text.expect("plain data becomes JSON") + "\n"
}

fn config(cluster: &Cluster, paths: &Paths, node: &Node) -> Value {
    let own = paths.node(&node.name);
    let pki = own.pki();
    let listen = node
        .addresses
        .iter()
        .map(|address| SocketAddr::new(*address, KUBELET_PORT));
    let listen: Vec<_> = listen.collect();
    let dns = cluster.ranges.dns_services();
    let (settings, losses) = (&node.settings, &cluster.settings.losses);
    json!({
        "nodeName": node.name,
        "kubeconfig": own.kubeconfig(),
        "dataDir": own.data,
        "runDir": own.run,
        "bpfDir": own.run.join("bpf"),
        "nodeIps": node.addresses,
        "cni": {"confDir": own.cni_conf(), "socket": own.cni_socket()},
        "network": {"nonMasquerade": cluster.non_masquerade, "podNetwork": cluster.pod_network, "nodeLocal": dns},
        "kubelet": {
            "nodeName": node.name,
            "nodeIps": node.addresses,
            "criSocket": own.containerd_socket(),
            "containerdState": own.containerd_state(),
            "rootDir": own.data,
            "cgroupRoot": node::cgroup(cluster, &node.name),
            "listen": listen,
            "serverCert": pki.join("server.crt"),
            "serverKey": pki.join("server.key"),
            "clientCa": pki.join("ca.crt"),
            "resolvConf": own.resolv_conf(),
            "clusterDns": dns,
            "labels": settings.labels,
            "taints": settings.taints,
            "maxPods": settings.max_pods.unwrap_or(MAX_PODS),
            "capacity": {
                "sharedBy": cluster.nodes.len(),
                "cpuMillis": settings.cpu_millis,
                "memoryBytes": settings.memory_bytes,
            },
            "leaseSeconds": losses.node_monitor_grace_period,
        },
    })
}
