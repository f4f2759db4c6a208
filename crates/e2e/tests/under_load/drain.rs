//! A node that is drained: its pods go one at a time, as their budget says, and drain on SIGTERM.

use serde_json::json;

use crate::lab::{Lab, WAIT};

pub(crate) fn a_node_is_drained(lab: &Lab) {
    let cluster = &lab.cluster;
    lab.apply(&[
        json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "web" },
        "spec": { "maxUnavailable": 1, "selector": { "matchLabels": { "app": "web" } } } }),
    ]);
    let counted = "--for=jsonpath={.status.disruptionsAllowed}=1";
    cluster
        .kubectl(&["wait", counted, "--timeout=30s", "poddisruptionbudget/web"])
        .ok();
    let loads = lab.load();
    let timeout = format!("--timeout={}s", 2 * WAIT.as_secs());
    // Those that ask stay.
    cluster
        .kubectl(&["drain", "node-2", "--pod-selector=app=web", &timeout])
        .ok();
    cluster
        .kubectl(&["rollout", "status", "--timeout=60s", "deployment/web"])
        .ok();
    let left: Vec<_> = cluster
        .pods("web")
        .into_iter()
        .filter(|pod| pod.node == "node-2")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    loads.assert_whole(lab, "a node is drained");
    cluster.kubectl(&["uncordon", "node-2"]).ok();
}
