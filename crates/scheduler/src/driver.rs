//! Runs the decisions against the API.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use controllers::informer::{Cache, Change, Informer, Key};
use controllers::queue::{Queue, Reconcile, serve};
use controllers::recorder::{EventType, Recorder};
use controllers::{Doing, Error};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::cluster::{self, Cluster};
use crate::filter::{filter, summary};
use crate::requests::Requests;
use crate::score::best;

/// The name under which pods ask for this scheduler; it is the default.
const NAME: &str = "default-scheduler";
/// Bindings that are written at once.
const BINDINGS: usize = 64;
/// How long a pod that could not be bound waits, at first and at most.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// A parked pod is looked at again after this time even if nothing seems to have changed.
const RECHECK: Duration = Duration::from_secs(60);

/// Schedules until the shutdown.
///
/// # Errors
/// None at present: requests that fail are tried again.
pub async fn run(client: Client, shutdown: CancellationToken) -> Result<(), Error> {
    let recorder = Recorder::spawn(client.clone(), NAME, shutdown.clone());
    let mut nodes = Informer::new(Api::<Node>::all(client.clone()), watcher::Config::default());
    let mut pods = Informer::new(Api::<Pod>::all(client.clone()), watcher::Config::default());
    let scheduler = Scheduler {
        client,
        recorder,
        pods: pods.cache(),
        cluster: Arc::default(),
        parked: Arc::default(),
        chances: Arc::default(),
        failures: Arc::default(),
        bindings: Arc::new(Semaphore::new(BINDINGS)),
        queue: Queue::default(),
    };
    let this = scheduler.clone();
    nodes.on_change(move |change| this.node_changed(change));
    let this = scheduler.clone();
    pods.on_change(move |change| this.pod_changed(change));
    let caches = (nodes.cache(), pods.cache());
    let watches = async { tokio::join!(nodes.run(shutdown.clone()), pods.run(shutdown.clone())) };
    let work = async {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = async { tokio::join!(caches.0.synced(), caches.1.synced()) } => {}
        }
        info!("scheduler started");
        serve(scheduler, shutdown.clone()).await;
    };
    tokio::join!(watches, work);
    Ok(())
}

/// Decides on one pod after the other.
#[derive(Clone)]
struct Scheduler {
    client: Client,
    recorder: Recorder,
    pods: Cache<Pod>,
    cluster: Arc<Mutex<Cluster>>,
    /// Pods that no node could take when last looked at.
    parked: Arc<Mutex<HashSet<Key>>>,
    /// How often something happened that may let more pods in.
    chances: Arc<AtomicU64>,
    /// How often a pod could not be bound.
    failures: Arc<Mutex<HashMap<Key, u32>>>,
    bindings: Arc<Semaphore>,
    queue: Queue<Key>,
}

impl Scheduler {
    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster
            .lock()
            .expect("no code panics while it holds the cluster")
    }

    fn parked(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.parked
            .lock()
            .expect("no code panics while it holds the parked pods")
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.failures
            .lock()
            .expect("no code panics while it holds the failures")
    }

    fn node_changed(&self, change: &Change<Node>) {
        match change {
            Change::Added(node) => self.cluster().set_node(node),
            Change::Updated { old, new } => {
                self.cluster().set_node(new);
                if !may_take_more(old, new) {
                    return;
                }
            }
            Change::Deleted(node) => {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                self.cluster().remove_node(name);
            }
        }
        self.wake_parked();
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.object();
        let had_room_taken = self.cluster().is_placed(pod);
        match change {
            Change::Deleted(pod) => {
                self.cluster().remove_pod(cluster::uid(pod));
                let key = Key::of(&**pod);
                self.parked().remove(&key);
                self.failures().remove(&key);
            }
            Change::Added(pod) | Change::Updated { new: pod, .. } => {
                self.cluster().set_pod(pod);
                if is_ours(pod) {
                    self.queue.add(Key::of(&**pod));
                }
            }
        }
        if had_room_taken && !self.cluster().is_placed(pod) {
            self.wake_parked();
        }
    }

    /// Something changed that may let pods in that found no node before.
    fn wake_parked(&self) {
        self.chances.fetch_add(1, Ordering::SeqCst);
        let parked = std::mem::take(&mut *self.parked());
        parked.into_iter().for_each(|key| self.queue.add(key));
    }

    /// Decides on a node, and counts the pod as being there from now on.
    fn decide(&self, pod: &Pod) -> Result<String, String> {
        let requests = Requests::of(pod);
        let mut cluster = self.cluster();
        let (mut fitting, mut reasons, mut count) = (Vec::new(), Vec::new(), 0);
        for (name, state) in cluster.nodes() {
            count += 1;
            match filter(pod, &requests, state) {
                Ok(()) => fitting.push((name, state)),
                Err(why) => reasons.push(why),
            }
        }
        let chosen = best(pod, &requests, &fitting).map(str::to_owned);
        let chosen = chosen.ok_or_else(|| summary(count, &reasons))?;
        cluster.assume(pod, &chosen);
        Ok(chosen)
    }

    /// Writes a decision down, beside others that are being written.
    async fn bind(&self, key: Key, pod: Arc<Pod>, node: String) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: pod.metadata.uid.clone(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.clone()),
                ..ObjectReference::default()
            },
        };
        let params = PostParams::default();
        let bound: Result<Status, _> = api
            .create_subresource("binding", &key.name, &params, &binding)
            .await;
        match bound.doing(|| format!("bind pod {key} to {node}")) {
            Ok(_) => {
                debug!(pod = %key, node, "bound");
                self.failures().remove(&key);
                let message = format!("Successfully assigned {key} to {node}");
                self.recorder
                    .event(&*pod, EventType::Normal, "Scheduled", message);
            }
            Err(error) => {
                self.cluster().forget(&pod);
                if error.is_not_found() || error.is_conflict() {
                    // Gone, or given to a node by somebody else: the watch will show it.
                    debug!(pod = %key, %error, "not bound");
                } else {
                    warn!(pod = %key, %error, "will try again");
                    let message = error.to_string();
                    self.recorder
                        .event(&*pod, EventType::Warning, "FailedScheduling", message);
                }
                self.retry(key);
            }
        }
    }

    /// Tries again after a delay that doubles with each failure.
    fn retry(&self, key: Key) {
        let mut all = self.failures();
        let failures = all.entry(key.clone()).or_insert(0);
        let delay = FIRST_RETRY
            .saturating_mul(1 << (*failures).min(10))
            .min(LAST_RETRY);
        *failures += 1;
        drop(all);
        self.queue.add_after(key, delay);
    }

    /// Says on the pod why it has no node.
    async fn explain(&self, key: &Key, pod: &Pod, why: Why, message: String) -> Result<(), Error> {
        let Some(condition) = condition(pod, why, &message, Timestamp::now()) else {
            return Ok(());
        };
        info!(pod = %key, message, "not scheduled");
        if why == Why::Unschedulable {
            self.recorder
                .event(pod, EventType::Warning, "FailedScheduling", message);
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = Patch::Strategic(json!({
            "metadata": { "uid": pod.metadata.uid },
            "status": { "conditions": [condition] },
        }));
        let written = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
        match written.doing(|| format!("write the condition of pod {key}")) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Reconcile for Scheduler {
    const NAME: &'static str = "scheduler";
    /// Decisions depend on each other.
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(pod) = self.pods.get(&key).filter(|pod| is_ours(pod)) else {
            return Ok(());
        };
        if self.cluster().is_placed(&pod) {
            return Ok(());
        }
        if is_gated(&pod) {
            let message = "Scheduling is blocked due to non-empty scheduling gates".to_owned();
            return self.explain(&key, &pod, Why::Gated, message).await;
        }
        let chances = self.chances.load(Ordering::SeqCst);
        match self.decide(&pod) {
            Ok(node) => {
                let permit = Arc::clone(&self.bindings).acquire_owned().await;
                let this = self.clone();
                tokio::spawn(async move {
                    this.bind(key, pod, node).await;
                    drop(permit);
                });
                Ok(())
            }
            Err(message) => {
                self.parked().insert(key.clone());
                self.queue.add_after(key.clone(), RECHECK);
                if self.chances.load(Ordering::SeqCst) != chances {
                    // It came too late to be woken by what happened meanwhile.
                    self.queue.add(key.clone());
                }
                self.explain(&key, &pod, Why::Unschedulable, message).await
            }
        }
    }
}

/// Why a pod has no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Unschedulable,
    Gated,
}

/// Whether a pod waits for a node from this scheduler.
fn is_ours(pod: &Pod) -> bool {
    let scheduler = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    cluster::node_name(pod).is_none()
        && pod.metadata.deletion_timestamp.is_none()
        && !cluster::has_ended(pod)
        && matches!(scheduler, None | Some("" | NAME))
}

fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

/// Whether a node's change may let more pods in. Heartbeats do not.
fn may_take_more(old: &Node, new: &Node) -> bool {
    let allocatable = |node: &Node| node.status.as_ref().and_then(|s| s.allocatable.clone());
    old.spec != new.spec || old.metadata.labels != new.metadata.labels || allocatable(old) != allocatable(new)
}

/// The condition that says why, unless the pod says so already.
fn condition(pod: &Pod, why: Why, message: &str, now: Timestamp) -> Option<PodCondition> {
    let reason = match why {
        Why::Unschedulable => "Unschedulable",
        Why::Gated => "SchedulingGated",
    };
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    let old = conditions
        .unwrap_or_default()
        .iter()
        .find(|c| c.type_ == "PodScheduled");
    let same = |old: &PodCondition| {
        old.status == "False"
            && old.reason.as_deref() == Some(reason)
            && old.message.as_deref() == Some(message)
    };
    if old.is_some_and(same) {
        return None;
    }
    let since = old.filter(|old| old.status == "False");
    let since = since.and_then(|old| old.last_transition_time.clone());
    Some(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: since.or(Some(Time(now))),
        ..PodCondition::default()
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    fn pod(spec: Value) -> Pod {
        let mut pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [] } });
        json_patch::merge(&mut pod["spec"], &spec);
        serde_json::from_value(pod).unwrap()
    }

    #[rstest]
    #[case::plain(json!({}), true)]
    #[case::by_name(json!({ "schedulerName": "default-scheduler" }), true)]
    #[case::of_another_scheduler(json!({ "schedulerName": "other" }), false)]
    #[case::with_a_node(json!({ "nodeName": "a" }), false)]
    fn pods_without_a_node_are_ours(#[case] spec: Value, #[case] expected: bool) {
        assert_eq!(is_ours(&pod(spec)), expected);
    }

    #[test]
    fn a_condition_that_says_the_same_is_not_written_again() {
        let mut pod = pod(json!({}));
        let now = Timestamp::UNIX_EPOCH;
        let first = condition(&pod, Why::Unschedulable, "why", now).unwrap();
        pod.status.get_or_insert_default().conditions = Some(vec![first]);
        assert_eq!(condition(&pod, Why::Unschedulable, "why", now), None);
        let other = condition(&pod, Why::Unschedulable, "other", Timestamp::MAX).unwrap();
        assert_eq!(other.last_transition_time, Some(Time(now)), "it was so before");
    }

    #[test]
    fn heartbeats_wake_no_pods() {
        let node = |text: &str, cpu: &str| -> Node {
            serde_json::from_value(json!({ "metadata": { "name": "a", "resourceVersion": text },
                "status": { "allocatable": { "cpu": cpu } } }))
            .unwrap()
        };
        assert!(!may_take_more(&node("1", "1"), &node("2", "1")));
        assert!(may_take_more(&node("1", "1"), &node("2", "2")));
    }
}
