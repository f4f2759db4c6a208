//! Node.

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::columns::{self, column, or_none, wide};
use crate::core::node_validation;
use crate::entry::Entry;
use crate::json::{entries, flag, list, set_default, text};
use crate::kind::Column;
use crate::{decode, pod};

pub(crate) const KIND: Entry = Entry {
    short_names: &["no"],
    subresources: &["proxy"],
    status: true,
    decode: |raw| {
        let mut decoded = decode::typed::<Node>(raw)?;
        pod::quantities::map(&mut decoded.object, "/status/capacity", "status.capacity")?;
        pod::quantities::map(&mut decoded.object, "/status/allocatable", "status.allocatable")?;
        Ok(decoded)
    },
    default,
    rules: node_validation::rules,
    columns: COLUMNS,
    row,
    fields: &[("spec.unschedulable", |node| {
        flag(node, "/spec/unschedulable").to_string()
    })],
    ..Entry::cluster::<Node>("node")
};

fn default(node: &mut Value) {
    set_default(node, "spec", json!({}));
    set_default(node, "status", json!({}));
    if let Some(capacity) = node.pointer("/status/capacity").cloned() {
        set_default(&mut node["status"], "allocatable", capacity);
    }
}

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Status", "string", "The status of the node"),
    column("Roles", "string", "The roles of the node"),
    columns::AGE,
    column("Version", "string", "Kubelet version reported by the node."),
    wide("Internal-IP", "string", "The node's address inside the cluster."),
    wide("External-IP", "string", "The node's address for the outside."),
    wide(
        "OS-Image",
        "string",
        "The operating system as the node reports it.",
    ),
    wide("Kernel-Version", "string", "Kernel version reported by the node."),
    wide(
        "Container-Runtime",
        "string",
        "The container runtime and its version, as in containerd://1.6.20.",
    ),
];

fn row(node: &Value, now: i64) -> Vec<Value> {
    let info = |field: &str| match text(node, &format!("/status/nodeInfo/{field}")) {
        "" => Value::from("<unknown>"),
        text => text.into(),
    };
    vec![
        columns::name(node),
        status(node).into(),
        or_none(&roles(node)),
        columns::age(node, now),
        text(node, "/status/nodeInfo/kubeletVersion").into(),
        or_none(address(node, "InternalIP")),
        or_none(address(node, "ExternalIP")),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn status(node: &Value) -> String {
    let ready = list(node, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == "Ready");
    let ready = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = if flag(node, "/spec/unschedulable") {
        ",SchedulingDisabled"
    } else {
        ""
    };
    format!("{ready}{cordoned}")
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = entries(node, "/metadata/labels")
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role),
                None if key == "kubernetes.io/role" => value.as_str(),
                None => None,
            },
        )
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    list(node, "/status/addresses")
        .iter()
        .find(|address| text(address, "/type") == kind)
        .map_or("", |address| text(address, "/address"))
}
