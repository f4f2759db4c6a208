//! Nodes: addresses, silence, and what becomes of their pods.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{CA, Cluster, create, eventually, template, until, until_gone};

fn config(grace: Duration) -> controllers::Config {
    controllers::Config {
        cluster_cidrs: ["10.244.0.0/23", "fd00:10:244::/56"]
            .map(|net| net.parse().unwrap())
            .to_vec(),
        ca_pem: CA.to_owned(),
        node_monitor_grace: grace,
        ..Default::default()
    }
}

fn nodes(cluster: &Cluster) -> Api<Node> {
    Api::all(cluster.client.clone())
}

fn cidrs(node: &Node) -> Vec<String> {
    node.spec
        .as_ref()
        .and_then(|spec| spec.pod_cidrs.clone())
        .unwrap_or_default()
}

async fn heartbeat(nodes: &Api<Node>, name: &str) {
    let condition = json!({ "type": "Ready", "status": "True",
        "lastHeartbeatTime": jiff::Timestamp::now(), "lastTransitionTime": jiff::Timestamp::now() });
    let status = json!({ "status": { "conditions": [condition] } });
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Strategic(status))
        .await
        .unwrap();
}

fn pod_on(name: &str, node: &str, tolerations: Value) -> Value {
    let mut pod = template("x", "v1");
    pod["metadata"]["name"] = json!(name);
    pod["spec"]["nodeName"] = json!(node);
    pod["spec"]["tolerations"] = tolerations;
    pod
}

fn ready(node: &Node) -> Option<&str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    Some(conditions.iter().find(|c| c.type_ == "Ready")?.status.as_str())
}

fn taints(node: &Node) -> Vec<String> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints
        .map(|taint| format!("{}:{}", taint.key, taint.effect))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_gets_addresses_until_there_are_none_and_gives_them_back() {
    let cluster = Cluster::start_with(config(Duration::from_secs(40))).await;
    let nodes = nodes(&cluster);
    for name in ["a", "b", "c"] {
        create(&nodes, json!({ "metadata": { "name": name } })).await;
        if name != "c" {
            until(&nodes, name, "addresses", |node| cidrs(node).len() == 2).await;
        }
    }
    let (a, b) = (nodes.get("a").await.unwrap(), nodes.get("b").await.unwrap());
    assert_eq!(cidrs(&a), ["10.244.0.0/24", "fd00:10:244::/64"]);
    assert_eq!(cidrs(&b), ["10.244.1.0/24", "fd00:10:244:1::/64"]);
    assert_eq!(a.spec.unwrap().pod_cidr.as_deref(), Some("10.244.0.0/24"));
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), "default");
    let told = || async {
        let list = events.list(&ListParams::default()).await.unwrap().items;
        list.into_iter()
            .find(|event| event.reason.as_deref() == Some("CIDRNotAvailable"))
    };
    eventually("the exhausted range is told", told).await;
    nodes.delete("a", &DeleteParams::default()).await.unwrap();
    let c = until(&nodes, "c", "addresses", |node| cidrs(node).len() == 2).await;
    assert_eq!(cidrs(&c)[0], "10.244.0.0/24");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_lost_and_comes_back() {
    let cluster = Cluster::start_with(config(Duration::from_secs(2))).await;
    let (nodes, pods) = (nodes(&cluster), cluster.api::<Pod>());
    for name in ["alive", "silent"] {
        create(&nodes, json!({ "metadata": { "name": name } })).await;
        heartbeat(&nodes, name).await;
    }
    // One renews its Lease and is believed, although its status gets old.
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), "kube-node-lease");
    create(&leases, json!({ "metadata": { "name": "alive" }, "spec": {} })).await;
    let renewing = tokio::spawn(async move {
        loop {
            let now = jiff::Timestamp::now();
            let renewed = Patch::Merge(json!({ "spec": { "renewTime": format!("{now:.6}") } }));
            if leases
                .patch("alive", &PatchParams::default(), &renewed)
                .await
                .is_err()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let forever = json!([{ "operator": "Exists" }]);
    create(&pods, pod_on("stays", "silent", forever)).await;
    let short = json!([{ "key": "node.kubernetes.io/unreachable", "operator": "Exists",
                         "effect": "NoExecute", "tolerationSeconds": 1 }]);
    create(&pods, pod_on("leaves", "silent", short)).await;
    create(&pods, pod_on("default", "silent", json!([]))).await;
    for name in ["stays", "leaves", "default"] {
        let condition = json!({ "type": "Ready", "status": "True" });
        let status = json!({ "status": { "phase": "Running", "conditions": [condition] } });
        pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(status))
            .await
            .unwrap();
    }
    until(&nodes, "silent", "it is unknown", |node| {
        ready(node) == Some("Unknown")
    })
    .await;
    let tainted = until(&nodes, "silent", "it is tainted", |node| taints(node).len() == 2).await;
    let unreachable = "node.kubernetes.io/unreachable";
    let expected = [
        format!("{unreachable}:NoSchedule"),
        format!("{unreachable}:NoExecute"),
    ];
    assert_eq!(taints(&tainted), expected);
    until(&pods, "stays", "its pods count as not ready", |pod| {
        let conditions = pod.status.as_ref().unwrap().conditions.as_ref().unwrap();
        conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "False")
    })
    .await;
    until(&pods, "leaves", "it is evicted", |pod| {
        pod.metadata.deletion_timestamp.is_some()
    })
    .await;
    for name in ["stays", "default"] {
        assert!(
            pods.get(name)
                .await
                .unwrap()
                .metadata
                .deletion_timestamp
                .is_none(),
            "{name}"
        );
    }
    assert_eq!(ready(&nodes.get("alive").await.unwrap()), Some("True"));
    heartbeat(&nodes, "silent").await;
    until(&nodes, "silent", "its taints go", |node| taints(node).is_empty()).await;
    renewing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn cordoned_nodes_are_tainted_and_a_pod_that_does_not_tolerate_a_taint_goes() {
    let cluster = Cluster::start_with(config(Duration::from_secs(40))).await;
    let (nodes, pods) = (nodes(&cluster), cluster.api::<Pod>());
    create(&nodes, json!({ "metadata": { "name": "a" } })).await;
    heartbeat(&nodes, "a").await;
    until(&nodes, "a", "no taints", |node| taints(node).is_empty()).await;
    nodes.cordon("a").await.unwrap();
    let cordoned = ["node.kubernetes.io/unschedulable:NoSchedule"];
    until(&nodes, "a", "it is tainted", |node| taints(node) == cordoned).await;
    nodes.uncordon("a").await.unwrap();
    until(&nodes, "a", "the taint goes", |node| taints(node).is_empty()).await;

    create(&pods, pod_on("p", "a", json!([]))).await;
    let taint = json!([{ "key": "example.com/out", "effect": "NoExecute" }]);
    let patch = Patch::Merge(json!({ "spec": { "taints": taint } }));
    nodes.patch("a", &PatchParams::default(), &patch).await.unwrap();
    until(&pods, "p", "it is evicted", |pod| {
        let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        pod.metadata.deletion_timestamp.is_some()
            && conditions.into_iter().any(|c| c.type_ == "DisruptionTarget")
    })
    .await;
    cluster.play_kubelets();
    until_gone(&pods, "p").await;
}
