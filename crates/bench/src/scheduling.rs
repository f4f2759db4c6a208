//! The scheduler: how long until a thousand pods have nodes. The nodes are objects alone, so that
//! nothing starts and nothing but decisions and their writing is measured.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::extent::Extent;
use crate::figures::{Figures, Unit};
use crate::known;

const NAMESPACE: &str = "bench-schedule";
const NODES: usize = 100;
const PODS: usize = 1000;
const WRITERS: usize = 16;
const LIMIT: Duration = Duration::from_secs(120);
/// 100 pods a second.
const BAR: f64 = 10.0;
/// The label of the nodes, which the pods select.
const LABEL: &str = "bench=schedule";

pub(crate) async fn measure(cluster: &Cluster, extent: &Extent, figures: &mut Figures) -> Result<()> {
    let client = cluster.client().await?;
    let (nodes, pods): (Api<Node>, Api<Pod>) = (
        Api::all(client.clone()),
        Api::namespaced(client.clone(), NAMESPACE),
    );
    known::namespace(&client, NAMESPACE).await?;
    let count = PODS / extent.divisor;
    for number in 0..NODES {
        add_node(&nodes, number).await?;
    }
    let begin = Instant::now();
    let create = stream::iter(0..count)
        .map(|number| create(&pods, number))
        .buffer_unordered(WRITERS)
        .try_collect::<Vec<()>>();
    let bound = tokio::time::timeout(LIMIT, bound(&pods, count));
    let (_, given) = tokio::try_join!(create, async {
        bound
            .await
            .with_context(|| format!("not all pods had nodes within {LIMIT:?}"))?
    })?;
    let note =
        format!("{NODES} nodes, spread over zones; from the first pod's creation on, {WRITERS} at once");
    let what = format!("{count} pods given nodes");
    let bar = (count == PODS).then_some(BAR);
    figures.add(&what, (given - begin).as_secs_f64(), Unit::Seconds, bar, note);
    let now = DeleteParams::default().grace_period(0);
    pods.delete_collection(&now, &ListParams::default()).await?;
    nodes
        .delete_collection(&DeleteParams::default(), &ListParams::default().labels(LABEL))
        .await?;
    known::remove_namespace(&client, NAMESPACE).await
}

/// A node that is ready as far as the API knows.
async fn add_node(nodes: &Api<Node>, number: usize) -> Result<()> {
    let name = &format!("bench-{number}");
    let amounts = json!({"cpu": "16", "memory": "64Gi", "pods": "110"});
    let zone = format!("zone-{}", number % 3);
    let labels =
        json!({"bench": "schedule", "topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name});
    let node = json!({"metadata": {"name": name, "labels": labels}});
    nodes
        .create(&PostParams::default(), &serde_json::from_value(node)?)
        .await?;
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "as far as is told",
        "lastHeartbeatTime": now, "lastTransitionTime": now});
    let status = json!({"status": {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}});
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await?;
    Ok(())
}

fn pod(number: usize) -> Value {
    let requests = json!({"requests": {"cpu": "100m", "memory": "64Mi"}});
    let spread = json!({"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "bench"}}});
    json!({
        "metadata": {"name": format!("w-{number}"), "labels": {"app": "bench"}},
        "spec": {
            "nodeSelector": {"bench": "schedule"},
            "topologySpreadConstraints": [spread],
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "web", "image": "registry.example/web:1.2.3", "resources": requests}],
        },
    })
}

async fn create(pods: &Api<Pod>, number: usize) -> Result<()> {
    let pod = serde_json::from_value(pod(number))?;
    pods.create(&PostParams::default(), &pod).await?;
    Ok(())
}

/// Waits until so many pods have nodes; says when that was.
async fn bound(pods: &Api<Pod>, count: usize) -> Result<Instant> {
    let mut events = pin!(pods.watch(&WatchParams::default(), "0").await?);
    let mut bound = BTreeSet::new();
    while bound.len() < count {
        let event = events.try_next().await?.context("the watch ended")?;
        if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event
            && pod.spec.is_some_and(|spec| spec.node_name.is_some())
        {
            bound.insert(pod.metadata.name);
        }
    }
    Ok(Instant::now())
}
