//! Nodes and pods for tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

/// A node of 4 CPUs, 8 GiB and 110 pods, but for these changes.
pub(crate) fn node(name: &str, changes: Value) -> Arc<Node> {
    let mut node = json!({
        "metadata": { "name": name },
        "status": { "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" } },
    });
    json_patch::merge(&mut node, &changes);
    Arc::new(serde_json::from_value(node).unwrap())
}

/// A pod that asks for nothing, but for these changes.
pub(crate) fn pod(name: &str, changes: Value) -> Pod {
    let mut pod = json!({
        "metadata": { "name": name, "uid": name, "namespace": "default" },
        "spec": { "containers": [{ "name": "c" }] },
    });
    json_patch::merge(&mut pod, &changes);
    serde_json::from_value(pod).unwrap()
}

/// Changes of a pod that make it ask for that much CPU with that priority.
pub(crate) fn asking(cpu: &str, priority: i32) -> Value {
    let resources = json!({ "requests": { "cpu": cpu } });
    json!({ "spec": { "priority": priority, "containers": [{ "name": "c", "resources": resources }] } })
}
