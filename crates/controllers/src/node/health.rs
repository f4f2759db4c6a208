//! Whether nodes live, by what they let hear of themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::taints;
use super::zones::{Permit, Zones};
use crate::awake::Awake;
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Change, Informer, Key};
use crate::queue::{Queue, Reconcile};
use crate::recorder::{EventType, Recorder};
use crate::{Config, pods};

/// The namespace of the nodes' Leases.
pub(crate) const LEASES: &str = "kube-node-lease";
/// A node that never posted a status gets a little longer.
const STARTUP_GRACE: Duration = Duration::from_secs(60);
/// How often a node that is not ready is looked at for pods that still count as ready.
const RECHECK: Duration = Duration::from_secs(5);
/// Conditions that only the kubelet knows.
const KUBELET_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// When a node was last heard of, by our own clock, which stands still while we do: clocks of others are not
/// trusted.
#[derive(Debug, Clone)]
struct Heard {
    uid: Option<String>,
    renewed: Option<MicroTime>,
    heartbeats: Vec<Option<Time>>,
    at: Duration,
}

impl Heard {
    fn from(node: &Node, lease: Option<&Lease>, at: Duration) -> Self {
        let conditions = node
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        // What this controller itself writes is no sign of life.
        let posted = conditions.filter(|condition| condition.status != "Unknown");
        Self {
            uid: node.metadata.uid.clone(),
            renewed: lease.and_then(|lease| lease.spec.as_ref()?.renew_time.clone()),
            heartbeats: posted
                .map(|condition| condition.last_heartbeat_time.clone())
                .collect(),
            at,
        }
    }

    /// What was heard last, and when, if this is no news.
    fn or_older(self, older: Option<Self>) -> Self {
        match older {
            Some(older) if older.uid == self.uid && older.is_not_older_than(&self) => older,
            _ => self,
        }
    }

    fn is_not_older_than(&self, new: &Self) -> bool {
        // Fewer conditions are ones that became unknown.
        let silent = new.heartbeats.iter().all(|beat| self.heartbeats.contains(beat));
        new.renewed <= self.renewed && silent
    }
}

/// How long a node may be silent.
fn grace(node: &Node, configured: Duration) -> Duration {
    match super::condition(node, "Ready") {
        Some(_) => configured,
        None => configured.max(STARTUP_GRACE),
    }
}

/// The conditions of a node that has been silent for too long; nothing when they are so already.
fn unknown(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let old = node.status.as_ref().and_then(|status| status.conditions.clone());
    let mut conditions = old.unwrap_or_default();
    let before = conditions.clone();
    for kind in KUBELET_CONDITIONS {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    (conditions != before).then_some(conditions)
}

/// The controller of nodes' conditions and taints.
#[derive(Clone)]
pub(crate) struct Controller {
    client: Client,
    recorder: Recorder,
    grace: Duration,
    nodes: Cache<Node>,
    leases: Cache<Lease>,
    pods: Cache<Pod>,
    heard: Arc<Mutex<HashMap<Key, Heard>>>,
    zones: Arc<Mutex<Zones>>,
    clock: Awake,
    queue: Queue<Key>,
}

impl Controller {
    pub(crate) fn new(
        client: Client,
        recorder: &Recorder,
        config: &Config,
        nodes: &mut Informer<Node>,
        leases: &mut Informer<Lease>,
        pods: &Informer<Pod>,
    ) -> Self {
        let controller = Self {
            client,
            recorder: recorder.named("node-controller"),
            grace: config.node_monitor_grace,
            nodes: nodes.cache(),
            leases: leases.cache(),
            pods: pods.cache(),
            heard: Arc::default(),
            zones: Arc::default(),
            clock: Awake::default(),
            queue: Queue::default(),
        };
        let this = controller.clone();
        nodes.on_change(move |change| this.node_changed(change));
        let queue = controller.queue.clone();
        leases.on_change(move |change| {
            queue.add(Key::new(
                "",
                change.object().metadata.name.as_deref().unwrap_or_default(),
            ));
        });
        controller
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<Key, Heard>> {
        self.heard
            .lock()
            .expect("no code panics while it holds what was heard")
    }

    fn zones(&self) -> MutexGuard<'_, Zones> {
        self.zones
            .lock()
            .expect("no code panics while it holds the zones")
    }

    fn node_changed(&self, change: &Change<Node>) {
        let node = change.object();
        self.queue.add(Key::of(&**node));
        let name = super::name(node);
        match change {
            Change::Added(_) => {
                let message = format!("Node {name} event: Registered Node {name} in Controller");
                self.recorder
                    .event(&**node, EventType::Normal, "RegisteredNode", message);
            }
            Change::Deleted(_) => {
                let message = format!("Node {name} event: Removing Node {name} from Controller");
                self.recorder
                    .event(&**node, EventType::Normal, "RemovingNode", message);
            }
            Change::Updated { old, new } if super::is_ready(old) != super::is_ready(new) => {
                // The first to be ready, or the last, matters to the taints of all.
                self.nodes
                    .list()
                    .iter()
                    .for_each(|node| self.queue.add(Key::of(&**node)));
            }
            Change::Updated { .. } => {}
        }
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "node health";
    const WORKERS: usize = 4;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(node) = self.nodes.get(&key) else {
            self.heard().remove(&key);
            self.zones().forget(&key.name);
            return Ok(());
        };
        let now = Timestamp::now();
        let silent_for = self.listen(&key, &node);
        let grace = grace(&node, self.grace);
        if silent_for < grace {
            self.queue
                .add_after(key.clone(), grace - silent_for + Duration::from_millis(10));
        } else if let Some(conditions) = unknown(&node, now) {
            // The taints follow when the watch shows this.
            return self.write_conditions(&node, &conditions).await;
        } else {
            self.queue.add_after(key.clone(), RECHECK);
        }
        let evict = self.may_evict(&key, &node);
        if let Some(taints) = taints::wanted(&node, evict, now) {
            self.write_taints(&node, &taints).await?;
        }
        if super::condition(&node, "Ready").is_some_and(|ready| ready.status == "Unknown") {
            self.mark_pods(super::name(&node), now).await?;
        }
        Ok(())
    }
}

impl Controller {
    /// Keeps the clock going by which nodes are judged.
    pub(crate) async fn tick(clock: Awake, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = clock.tick() => {}
        }
    }

    pub(crate) fn clock(&self) -> Awake {
        self.clock.clone()
    }

    /// Whether pods may be driven from a node that is lost. Where they are driven out already, that goes on,
    /// unless it turns out that everything is lost.
    fn may_evict(&self, key: &Key, node: &Node) -> bool {
        let nodes = self.nodes.list();
        let mut zones = self.zones();
        let is_back = zones.look(nodes.iter().map(|node| &**node));
        let permit = if !taints::is_lost(node) {
            zones.forget(super::name(node));
            Permit::Refused
        } else if zones.is_cut_off() {
            Permit::Refused
        } else if taints::is_driven_out(node) {
            Permit::Granted
        } else {
            zones.ask(node, self.clock.now())
        };
        drop(zones);
        if is_back {
            info!("a node is ready again: the others get their time to come back, too");
            let now = self.clock.now();
            self.heard().values_mut().for_each(|heard| heard.at = now);
        }
        match permit {
            Permit::Granted => true,
            Permit::After(wait) => {
                self.queue.add_after(key.clone(), wait);
                false
            }
            // It is looked at again when another node changes.
            Permit::Refused => false,
        }
    }

    /// How long nothing was heard of a node.
    fn listen(&self, key: &Key, node: &Node) -> Duration {
        let lease = self.leases.get(&Key::new(LEASES, &key.name));
        let new = Heard::from(node, lease.as_deref(), self.clock.now());
        let mut heard = self.heard();
        let latest = new.or_older(heard.remove(key));
        let silent_for = self.clock.now().saturating_sub(latest.at);
        heard.insert(key.clone(), latest);
        silent_for
    }

    async fn write_conditions(&self, node: &Node, conditions: &[NodeCondition]) -> Result<(), Error> {
        let name = super::name(node);
        warn!(node = name, "not heard of for too long");
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({
            // The node may speak up at this very moment.
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "status": { "conditions": conditions },
        }));
        let written = api.patch_status(name, &PatchParams::default(), &patch).await;
        let written = written.doing(|| format!("write the conditions of node {name}"));
        if ignore_missing(written)?.is_some() {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.recorder
                .event(node, EventType::Normal, "NodeNotReady", message);
        }
        Ok(())
    }

    async fn write_taints(
        &self,
        node: &Node,
        taints: &[k8s_openapi::api::core::v1::Taint],
    ) -> Result<(), Error> {
        let name = super::name(node);
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": taints },
        }));
        let written = api.patch(name, &PatchParams::default(), &patch).await;
        let written = written.doing(|| format!("write the taints of node {name}"));
        ignore_missing(written).map(drop)
    }

    /// Nothing must be sent to pods of which nothing is heard.
    async fn mark_pods(&self, node: &str, now: Timestamp) -> Result<(), Error> {
        let pods = self.pods.list();
        let on_node = |pod: &&Arc<Pod>| pods::node_name(pod) == Some(node);
        for pod in pods.iter().filter(on_node).filter(|pod| pods::is_ready(pod)) {
            let key = Key::of(&**pod);
            let status = pod.status.as_ref();
            let mut conditions = status.and_then(|s| s.conditions.clone()).unwrap_or_default();
            for condition in conditions.iter_mut().filter(|c| c.type_ == "Ready") {
                condition.status = "False".to_owned();
                condition.reason = Some("NodeNotReady".to_owned());
                condition.message = Some(format!("node {node} is not heard of"));
                condition.last_transition_time = Some(Time(now));
            }
            let patch = Patch::Merge(json!({
                "metadata": { "resourceVersion": pod.metadata.resource_version },
                "status": { "conditions": conditions },
            }));
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
            let marked = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
            let marked = marked.doing(|| format!("mark pod {key} as not ready"));
            if ignore_missing(marked)?.is_some() {
                info!(pod = %key, node, "not ready, for its node is not heard of");
                let message = "Node is not ready";
                self.recorder
                    .event(&**pod, EventType::Warning, "NodeNotReady", message);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(conditions: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": "a", "uid": "1" }, "status": { "conditions": conditions } }))
        .unwrap()
    }

    fn ready(heartbeat: &str) -> Node {
        node(json!([{ "type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat }]))
    }

    fn lease(renewed: &str) -> Lease {
        serde_json::from_value(json!({ "metadata": {}, "spec": { "renewTime": renewed } })).unwrap()
    }

    const T1: &str = "2026-11-21T12:00:01Z";
    const T2: &str = "2026-11-21T12:00:02Z";

    #[test]
    fn a_renewed_lease_or_a_new_heartbeat_is_a_sign_of_life() {
        let (start, later) = (Duration::ZERO, Duration::from_secs(30));
        let (lease_1, lease_2) = (lease("2026-11-21T12:00:01.5Z"), lease("2026-11-21T12:00:02.5Z"));
        let first = || Some(Heard::from(&ready(T1), Some(&lease_1), start));
        let silent = Heard::from(&ready(T1), Some(&lease_1), later).or_older(first());
        assert_eq!(silent.at, start);
        let renewed = Heard::from(&ready(T1), Some(&lease_2), later).or_older(first());
        assert_eq!(renewed.at, later);
        let posted = Heard::from(&ready(T2), Some(&lease_1), later).or_older(first());
        assert_eq!(posted.at, later);
    }

    #[test]
    fn what_we_write_ourselves_is_no_sign_of_life() {
        let (start, later) = (Duration::ZERO, Duration::from_secs(30));
        let first = Heard::from(&ready(T1), None, start);
        let marked = node(json!(unknown(&ready(T1), Timestamp::UNIX_EPOCH).unwrap()));
        assert_eq!(Heard::from(&marked, None, later).or_older(Some(first)).at, start);
    }

    #[test]
    fn a_silent_node_becomes_unknown_once() {
        let silent = ready(T1);
        let conditions = unknown(&silent, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(conditions.len(), 4);
        assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(conditions[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
        assert!(conditions.iter().all(|condition| condition.status == "Unknown"));
        let marked = node(json!(conditions));
        assert_eq!(unknown(&marked, Timestamp::MAX), None);
    }

    #[test]
    fn a_node_that_never_spoke_gets_longer() {
        let grace = |node| grace(&node, Duration::from_secs(40)).as_secs();
        assert_eq!(grace(ready(T1)), 40);
        assert_eq!(grace(node(json!([]))), 60);
    }
}
