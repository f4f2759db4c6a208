//! Deletes pods that nobody else will: their node is gone, or they ended and are too many.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Config;
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Key};
use crate::pods;

const PERIOD: Duration = Duration::from_secs(20);
/// A node may be deleted and registered again at once; its pods are spared for that long.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Why a pod is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Ended pods are more than the threshold.
    Ended,
    /// Its node is gone.
    Orphaned,
    /// It was deleted before it had a node, so no kubelet will confirm.
    Unscheduled,
    /// It was deleted, and its node is declared to be out of service.
    OutOfService,
}

/// Picks the pods to delete. `gone` are nodes that have been absent for long enough.
fn pick(
    pods: &[Arc<Pod>],
    nodes: &[Arc<Node>],
    gone: &HashSet<String>,
    threshold: usize,
) -> Vec<(Arc<Pod>, Reason)> {
    let out_of_service: HashSet<&str> = nodes
        .iter()
        .filter(|node| is_out_of_service(node))
        .map(|node| super::name(node))
        .collect();
    let mut picked: Vec<_> = ended(pods, threshold);
    for pod in pods {
        let leaving = pods::is_leaving(pod);
        let reason = match pods::node_name(pod) {
            None if leaving => Reason::Unscheduled,
            Some(node) if gone.contains(node) => Reason::Orphaned,
            Some(node) if leaving && out_of_service.contains(node) => Reason::OutOfService,
            _ => continue,
        };
        picked.push((Arc::clone(pod), reason));
    }
    picked
}

/// The oldest of the ended pods beyond the threshold; evicted ones first.
fn ended(pods: &[Arc<Pod>], threshold: usize) -> Vec<(Arc<Pod>, Reason)> {
    let mut ended: Vec<_> = pods.iter().filter(|pod| pods::has_ended(pod)).collect();
    let surplus = ended.len().saturating_sub(threshold);
    if surplus == 0 {
        return Vec::new();
    }
    ended.sort_by_key(|pod| {
        let evicted = pod.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("Evicted");
        (
            Reverse(evicted),
            pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        )
    });
    ended
        .into_iter()
        .take(surplus)
        .map(|pod| (Arc::clone(pod), Reason::Ended))
        .collect()
}

fn is_out_of_service(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| taint.key == OUT_OF_SERVICE) && !super::is_ready(node)
}

/// The controller; it looks at all pods every now and then.
pub(crate) struct Controller {
    pub(crate) client: Client,
    pub(crate) nodes: Cache<Node>,
    pub(crate) pods: Cache<Pod>,
    threshold: usize,
    absent: HashMap<String, Instant>,
}

impl Controller {
    pub(crate) fn new(client: Client, config: &Config, nodes: Cache<Node>, pods: Cache<Pod>) -> Self {
        let threshold = config.terminated_pod_threshold;
        Self {
            client,
            nodes,
            pods,
            threshold,
            absent: HashMap::new(),
        }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            let (pods, nodes) = (self.pods.list(), self.nodes.list());
            let gone = self.gone(&pods, &nodes).await;
            for (pod, reason) in pick(&pods, &nodes, &gone, self.threshold) {
                if let Err(error) = self.delete(&pod, reason).await {
                    warn!(%error, "will try again");
                }
            }
        }
    }

    /// The nodes that pods name and that have been absent for long enough, by the server itself.
    async fn gone(&mut self, pods: &[Arc<Pod>], nodes: &[Arc<Node>]) -> HashSet<String> {
        let present: HashSet<&str> = nodes.iter().map(|node| super::name(node)).collect();
        let named: HashSet<&str> = pods.iter().filter_map(|pod| pods::node_name(pod)).collect();
        let absent: HashSet<&str> = named.difference(&present).copied().collect();
        self.absent.retain(|name, _| absent.contains(name.as_str()));
        let now = Instant::now();
        let api: Api<Node> = Api::all(self.client.clone());
        let mut gone = HashSet::new();
        for name in absent {
            let since = *self.absent.entry(name.to_owned()).or_insert(now);
            let long = now.duration_since(since) >= QUARANTINE;
            if long && matches!(api.get_opt(name).await, Ok(None)) {
                gone.insert(name.to_owned());
            }
        }
        gone
    }

    async fn delete(&self, pod: &Pod, reason: Reason) -> Result<(), Error> {
        let key = Key::of(pod);
        info!(pod = %key, ?reason, "deleting");
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        if reason != Reason::Ended && !pods::has_ended(pod) {
            let mut status = json!({ "phase": "Failed" });
            if reason == Reason::Orphaned {
                let message = "PodGC: node no longer exists";
                let now = Timestamp::now();
                let disruption = super::disruption("DeletionByPodGC", message, now);
                status["conditions"] = json!([disruption]);
            }
            let patch = Patch::Strategic(json!({
                "metadata": { "uid": pod.metadata.uid }, "status": status }));
            let failed = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
            ignore_missing(failed.doing(|| format!("mark pod {key} as failed")))?;
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let deleted = api.delete(&key.name, &params).await;
        ignore_missing(deleted.doing(|| format!("delete pod {key}"))).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, changes: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": { "name": name, "uid": name },
            "spec": { "nodeName": "a", "containers": [] },
            "status": { "phase": "Running" },
        });
        json_patch::merge(&mut pod, &changes);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn leaving() -> Value {
        json!({ "metadata": { "deletionTimestamp": "2026-11-21T12:00:00Z" } })
    }

    fn picked(pods: &[Arc<Pod>], nodes: &[Arc<Node>], gone: &[&str]) -> Vec<(String, Reason)> {
        let gone = gone.iter().map(|&name| name.to_owned()).collect();
        let picked = pick(pods, nodes, &gone, 2);
        picked
            .iter()
            .map(|(pod, reason)| (pod.metadata.name.clone().unwrap(), *reason))
            .collect()
    }

    #[test]
    fn pods_of_a_node_that_is_gone_go() {
        let pods = [
            pod("1", json!({})),
            pod("2", json!({ "spec": { "nodeName": "b" } })),
        ];
        assert_eq!(picked(&pods, &[], &["b"]), [("2".to_owned(), Reason::Orphaned)]);
    }

    #[test]
    fn the_oldest_ended_pods_beyond_the_threshold_go() {
        let ended = |name: &str, created: &str| {
            pod(
                name,
                json!({ "metadata": { "creationTimestamp": created },
                              "status": { "phase": "Succeeded" } }),
            )
        };
        let pods = [
            ended("1", "2026-11-21T12:00:03Z"),
            ended("2", "2026-11-21T12:00:01Z"),
            pod("running", json!({})),
            ended("3", "2026-11-21T12:00:02Z"),
        ];
        assert_eq!(picked(&pods, &[], &[]), [("2".to_owned(), Reason::Ended)]);
    }

    #[test]
    fn a_deleted_pod_without_a_kubelet_to_confirm_goes() {
        let mut unscheduled = leaving();
        unscheduled["spec"] = json!({ "nodeName": null });
        let pods = [pod("1", unscheduled), pod("2", leaving())];
        assert_eq!(picked(&pods, &[], &[]), [("1".to_owned(), Reason::Unscheduled)]);
        let node = json!({ "metadata": { "name": "a" },
            "spec": { "taints": [{ "key": OUT_OF_SERVICE, "effect": "NoExecute" }] } });
        let node = Arc::new(serde_json::from_value(node).unwrap());
        let both = [
            ("1".to_owned(), Reason::Unscheduled),
            ("2".to_owned(), Reason::OutOfService),
        ];
        assert_eq!(picked(&pods, &[node], &[]), both);
    }
}
