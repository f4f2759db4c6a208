//! What a node's agent is told.

use serde_json::json;

use crate::Paths;
use crate::cluster::{Cluster, Node};

/// The agent's configuration file.
pub(crate) fn render(cluster: &Cluster, paths: &Paths, node: &Node) -> String {
    let own = paths.node(&node.name);
    let config = json!({"nodeName": node.name, "kubeconfig": own.kubeconfig()});
    let _ = cluster;
    serde_json::to_string_pretty(&config).expect("plain data becomes JSON") + "\n"
}
