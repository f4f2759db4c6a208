//! Runs the decisions against the API.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use controllers::Error;
use controllers::informer::{Cache, Change, Informer, Key, Watched};
use controllers::recorder::Recorder;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::{self, Cluster};
use crate::filter::{Question, summary};
use crate::hint;
use crate::info::Info;
use crate::line::Line;
use crate::outcome::{Nominated, Why};
use crate::preempt::{self, Budget, Sacrifice};
use crate::score::choose;

/// The name under which pods ask for this scheduler; it is the default.
pub(crate) const NAME: &str = "default-scheduler";
/// Bindings that are written at once.
const BINDINGS: usize = 64;
/// How long a pod that could not be bound waits, at first and at most.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// Parked pods are looked at again after this time even if nothing seems to have changed.
const RECHECK: Duration = Duration::from_secs(60);

/// Schedules until the shutdown.
///
/// # Errors
/// None at present: requests that fail are tried again.
pub async fn run(client: Client, shutdown: CancellationToken) -> Result<(), Error> {
    let recorder = Recorder::spawn(client.clone(), NAME, shutdown.clone());
    let mut nodes: Informer<Node> = all(&client);
    let mut pods: Informer<Pod> = all(&client);
    let mut namespaces: Informer<Namespace> = all(&client);
    let budgets: Informer<PodDisruptionBudget> = all(&client);
    let scheduler = Scheduler {
        client,
        recorder,
        pods: pods.cache(),
        budgets: budgets.cache(),
        cluster: Arc::default(),
        parked: Arc::default(),
        chances: Arc::default(),
        failures: Arc::default(),
        bindings: Arc::new(Semaphore::new(BINDINGS)),
        line: Line::default(),
    };
    let this = scheduler.clone();
    nodes.on_change(move |change| this.node_changed(change));
    let this = scheduler.clone();
    pods.on_change(move |change| this.pod_changed(change));
    let this = scheduler.clone();
    namespaces.on_change(move |change| this.namespace_changed(change));
    let caches = (nodes.cache(), pods.cache(), namespaces.cache(), budgets.cache());
    let watches = async {
        tokio::join!(
            nodes.run(shutdown.clone()),
            pods.run(shutdown.clone()),
            namespaces.run(shutdown.clone()),
            budgets.run(shutdown.clone()),
        )
    };
    let work = async {
        let (nodes, pods, namespaces, budgets) = &caches;
        let synced = async {
            tokio::join!(
                nodes.synced(),
                pods.synced(),
                namespaces.synced(),
                budgets.synced()
            )
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = synced => {}
        }
        info!("scheduler started");
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = scheduler.work() => {}
        }
    };
    tokio::join!(watches, work);
    Ok(())
}

fn all<K: Watched>(client: &Client) -> Informer<K> {
    Informer::new(Api::all(client.clone()), watcher::Config::default())
}

/// A pod that no node could take when last looked at.
#[derive(Debug)]
struct Parked {
    priority: i32,
    /// Other pods decide where it can be: one that comes may let it in.
    looks_at_pods: bool,
}

/// What was decided about a pod.
enum Decision {
    Node(String),
    /// No node can take it; why, and whether one will.
    None(String, Room),
}

/// Whether room is made for a pod.
enum Room {
    No,
    /// It is being made.
    Kept,
    /// By these.
    Made(Sacrifice),
}

/// Decides on one pod after the other.
#[derive(Clone)]
pub(crate) struct Scheduler {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pods: Cache<Pod>,
    budgets: Cache<PodDisruptionBudget>,
    cluster: Arc<Mutex<Cluster>>,
    parked: Arc<Mutex<HashMap<Key, Parked>>>,
    /// How often something happened that may let more pods in.
    chances: Arc<AtomicU64>,
    /// How often a pod could not be bound.
    failures: Arc<Mutex<HashMap<Key, u32>>>,
    bindings: Arc<Semaphore>,
    line: Line,
}

impl Scheduler {
    pub(crate) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster
            .lock()
            .expect("no code panics while it holds the cluster")
    }

    fn parked(&self) -> MutexGuard<'_, HashMap<Key, Parked>> {
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
        self.wake(|_| true);
    }

    fn namespace_changed(&self, change: &Change<Namespace>) {
        match change {
            Change::Added(namespace) => self.cluster().set_namespace(namespace),
            Change::Updated { old, new } => {
                self.cluster().set_namespace(new);
                if old.metadata.labels != new.metadata.labels {
                    self.wake(|parked| parked.looks_at_pods);
                }
            }
            Change::Deleted(namespace) => {
                let name = namespace.metadata.name.as_deref().unwrap_or_default();
                self.cluster().remove_namespace(name);
            }
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.object();
        let was_there = self.cluster().is_placed(pod);
        match change {
            Change::Deleted(pod) => {
                self.cluster().remove_pod(cluster::uid(pod));
                let key = Key::of(&**pod);
                self.parked().remove(&key);
                self.failures().remove(&key);
            }
            Change::Added(pod) | Change::Updated { new: pod, .. } => {
                self.cluster().set_pod(pod);
                if is_ours(pod) && is_another_question(change) {
                    self.line.add(Key::of(&**pod), priority(pod));
                }
            }
        }
        let is_there = self.cluster().is_placed(pod);
        if was_there && !is_there {
            self.wake(|_| true);
        } else if is_there && changes_neighbours(change) {
            self.wake(|parked| parked.looks_at_pods);
        }
    }

    /// Something changed that may let pods in that found no node before.
    fn wake(&self, may: impl Fn(&Parked) -> bool) {
        self.chances.fetch_add(1, Ordering::SeqCst);
        let woken = self
            .parked()
            .extract_if(|_, parked| may(parked))
            .collect::<Vec<_>>();
        for (key, parked) in woken {
            self.line.add(key, parked.priority);
        }
    }

    /// Decides until it is dropped: on one pod after the other, for decisions depend on each other.
    async fn work(&self) {
        let mut recheck = tokio::time::interval(RECHECK);
        loop {
            tokio::select! {
                key = self.line.next() => self.schedule(key).await,
                _ = recheck.tick() => self.wake(|_| true),
            }
        }
    }

    async fn schedule(&self, key: Key) {
        let Some(pod) = self.pods.get(&key).filter(|pod| is_ours(pod)) else {
            return;
        };
        if self.cluster().is_placed(&pod) {
            return;
        }
        if is_gated(&pod) {
            let message = "Scheduling is blocked due to non-empty scheduling gates".to_owned();
            let told = self
                .explain(&key, &pod, Why::Gated, message, Nominated::Nowhere)
                .await;
            return self.check(&key, &pod, told);
        }
        let info = Info::of(&pod);
        let chances = self.chances.load(Ordering::SeqCst);
        match self.decide(&pod, &info) {
            Decision::Node(node) => {
                let permit = Arc::clone(&self.bindings).acquire_owned().await;
                let this = self.clone();
                tokio::spawn(async move {
                    this.bind(key, pod, node).await;
                    drop(permit);
                });
            }
            Decision::None(message, room) => {
                let parked = Parked {
                    priority: info.priority,
                    looks_at_pods: info.looks_at_pods() || is_spread(&pod),
                };
                self.parked().insert(key.clone(), parked);
                if self.chances.load(Ordering::SeqCst) != chances {
                    // It came too late to be woken by what happened meanwhile.
                    self.line.add(key.clone(), info.priority);
                }
                let nominated = match &room {
                    Room::No => Nominated::Nowhere,
                    Room::Kept => Nominated::AsBefore,
                    Room::Made(sacrifice) => Nominated::On(sacrifice.node.clone()),
                };
                let told = self
                    .explain(&key, &pod, Why::Unschedulable, message, nominated)
                    .await;
                self.check(&key, &pod, told);
                if let Room::Made(sacrifice) = room {
                    self.make_room(&key, &pod, sacrifice).await;
                }
            }
        }
    }

    /// Decides on a node, and counts the pod as being there from now on; or on making room.
    fn decide(&self, pod: &Pod, info: &Info) -> Decision {
        let mut cluster = self.cluster();
        let view = cluster.view();
        let question = Question::new(pod, info, &view);
        let verdicts = match choose(&question, &view) {
            Ok(chosen) => {
                let chosen = chosen.to_owned();
                cluster.assume(pod, &chosen);
                return Decision::Node(chosen);
            }
            Err(verdicts) => verdicts,
        };
        let message = summary(view.nodes.len(), &verdicts);
        if view.nodes.is_empty() {
            return Decision::None(message, Room::No);
        }
        let budgets = self.budgets.list();
        let budgets: Vec<_> = budgets.iter().filter_map(|budget| Budget::of(budget)).collect();
        let hint = hint::too_large(info, &view);
        let nominated = cluster.nomination(&info.uid);
        match preempt::find(pod, info, &view, &verdicts, nominated, &budgets) {
            Ok(sacrifice) => {
                cluster.nominate(&Arc::new(info.clone()), &sacrifice.node);
                Decision::None(message, Room::Made(sacrifice))
            }
            Err(refusal) => {
                let room = match refusal.is_waiting {
                    true => Room::Kept,
                    false => {
                        cluster.withdraw(&info.uid);
                        Room::No
                    }
                };
                let told = [Some(message), Some(refusal.why), hint];
                Decision::None(told.into_iter().flatten().collect::<Vec<_>>().join(" "), room)
            }
        }
    }

    /// A pod on which something could not be written is looked at again.
    pub(crate) fn check(&self, key: &Key, pod: &Pod, result: Result<(), Error>) {
        if let Err(error) = result {
            warn!(pod = %key, %error, "will try again");
            self.retry(key.clone(), priority(pod));
        }
    }

    /// A pod has been bound.
    pub(crate) fn succeeded(&self, key: &Key) {
        self.failures().remove(key);
    }

    /// Tries again after a delay that doubles with each failure.
    pub(crate) fn retry(&self, key: Key, priority: i32) {
        let mut all = self.failures();
        let failures = all.entry(key.clone()).or_insert(0);
        let delay = FIRST_RETRY
            .saturating_mul(1 << (*failures).min(10))
            .min(LAST_RETRY);
        *failures += 1;
        drop(all);
        self.line.add_after(key, priority, delay);
    }
}

/// Whether a pod waits for a node from this scheduler.
fn is_ours(pod: &Pod) -> bool {
    let scheduler = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    cluster::node_name(pod).is_none()
        && pod.metadata.deletion_timestamp.is_none()
        && !cluster::has_ended(pod)
        && matches!(scheduler, None | Some("" | NAME))
}

pub(crate) fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

fn is_spread(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let constraints = spec.and_then(|spec| spec.topology_spread_constraints.as_ref());
    constraints.is_some_and(|constraints| !constraints.is_empty())
}

/// Whether a pod that waits may get another answer than before: most changes are of its status, as what this
/// scheduler writes there.
fn is_another_question(change: &Change<Pod>) -> bool {
    match change {
        Change::Updated { old, new } => {
            old.spec != new.spec || old.metadata.labels != new.metadata.labels || !is_ours(old)
        }
        _ => true,
    }
}

/// Whether a pod with a node is news to those that want to be near it, or far from it.
fn changes_neighbours(change: &Change<Pod>) -> bool {
    match change {
        Change::Updated { old, new } => {
            cluster::node_name(old) != cluster::node_name(new) || old.metadata.labels != new.metadata.labels
        }
        _ => true,
    }
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

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

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
