//! The nodes and what is on them, decisions that the watch does not show yet included.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};

use crate::info::{Info, Namespaces};
use crate::requests::{Amounts, PODS};

/// A pod that has a node.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) info: Arc<Info>,
    /// Only decided so far; the watch does not show it yet.
    assumed: bool,
}

/// One node.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeState {
    /// Absent while only pods on it are known.
    pub(crate) node: Option<Arc<Node>>,
    pub(crate) allocatable: Amounts,
    pub(crate) requested: Amounts,
    pub(crate) pods: HashMap<String, Placed>,
    /// Pods that others make room for here.
    pub(crate) nominated: HashMap<String, Arc<Info>>,
}

impl NodeState {
    /// Counts a pod as being here.
    pub(crate) fn put(&mut self, info: Arc<Info>, assumed: bool) {
        self.take(&info.uid);
        self.requested.add(&info.requests.amounts);
        self.pods.insert(info.uid.clone(), Placed { info, assumed });
    }

    /// Counts a pod as being here no longer.
    pub(crate) fn take(&mut self, uid: &str) -> Option<Placed> {
        let placed = self.pods.remove(uid)?;
        self.requested.subtract(&placed.info.requests.amounts);
        Some(placed)
    }

    /// The value of one of the node's labels.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let labels = self.node.as_ref()?.metadata.labels.as_ref()?;
        labels.get(key).map(String::as_str)
    }

    /// How many pods of a kin are on the node and stay there.
    pub(crate) fn count(&self, kin: &str) -> usize {
        let same = |pod: &&Placed| !pod.info.leaving && pod.info.kin.as_deref() == Some(kin);
        self.pods.values().filter(same).count()
    }

    /// The node as it will be when those are here that room is made for and that come before this pod;
    /// nothing if there are none.
    pub(crate) fn with_nominated(&self, pod: &Info) -> Option<Self> {
        let before = |other: &&Arc<Info>| other.priority >= pod.priority && other.uid != pod.uid;
        let mut nominated = self.nominated.values().filter(before).peekable();
        nominated.peek()?;
        let mut state = self.clone();
        nominated.for_each(|info| state.put(Arc::clone(info), true));
        Some(state)
    }

    /// How many pods there may be.
    pub(crate) fn most_pods(&self) -> usize {
        usize::try_from(self.allocatable.get(PODS)).unwrap_or(0)
    }
}

/// All nodes.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    nodes: BTreeMap<String, NodeState>,
    /// Where each pod is, by UID.
    places: HashMap<String, String>,
    /// Where room is made for a pod, by UID.
    nominations: HashMap<String, String>,
    namespaces: Namespaces,
}

/// What decisions look at.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    /// The nodes that there are, by name.
    pub(crate) nodes: Vec<(&'a str, &'a NodeState)>,
    pub(crate) namespaces: &'a Namespaces,
}

impl Cluster {
    pub(crate) fn view(&self) -> View<'_> {
        let known = self.nodes.iter().filter(|(_, state)| state.node.is_some());
        View {
            nodes: known.map(|(name, state)| (name.as_str(), state)).collect(),
            namespaces: &self.namespaces,
        }
    }

    /// A namespace is there, or changed.
    pub(crate) fn set_namespace(&mut self, namespace: &Namespace) {
        let meta = &namespace.metadata;
        let name = meta.name.clone().unwrap_or_default();
        let labels = meta.labels.clone().unwrap_or_default();
        self.namespaces.insert(name, labels);
    }

    pub(crate) fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// A node is there, or changed.
    pub(crate) fn set_node(&mut self, node: &Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let state = self.nodes.entry(name).or_default();
        let status = node.status.as_ref();
        state.allocatable =
            Amounts::of(status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref())));
        state.node = Some(Arc::clone(node));
    }

    /// A node is gone; its pods are still known.
    pub(crate) fn remove_node(&mut self, name: &str) {
        if let Some(state) = self.nodes.get_mut(name) {
            state.node = None;
        }
        self.forget_if_empty(name);
    }

    /// A pod that has a node is there, or changed; one that has ended takes no room.
    pub(crate) fn set_pod(&mut self, pod: &Pod) {
        let (uid, node) = (uid(pod), node_name(pod));
        match node {
            Some(node) if !has_ended(pod) => self.place(pod, node, false),
            // An older state than what was decided says nothing new.
            None if self.is_assumed(uid) => {}
            _ => self.remove_pod(uid),
        }
        let waits = node.is_none() && !self.is_placed(pod) && !has_ended(pod);
        let nominated = pod
            .status
            .as_ref()
            .and_then(|status| status.nominated_node_name.as_deref());
        if let Some(node) = nominated.filter(|node| waits && !node.is_empty()) {
            self.nominate(&Arc::new(Info::of(pod)), node);
        }
    }

    /// Counts a pod as being on a node from now on.
    pub(crate) fn assume(&mut self, pod: &Pod, node: &str) {
        self.place(pod, node, true);
    }

    /// Keeps the room on a node that is being made there for a pod.
    pub(crate) fn nominate(&mut self, info: &Arc<Info>, node: &str) {
        self.withdraw(&info.uid);
        self.nominations.insert(info.uid.clone(), node.to_owned());
        let state = self.nodes.entry(node.to_owned()).or_default();
        state.nominated.insert(info.uid.clone(), Arc::clone(info));
    }

    /// No room needs to be kept for a pod any more.
    pub(crate) fn withdraw(&mut self, uid: &str) {
        if let Some(name) = self.nominations.remove(uid) {
            if let Some(state) = self.nodes.get_mut(&name) {
                state.nominated.remove(uid);
            }
            self.forget_if_empty(&name);
        }
    }

    /// The node on which room is made for a pod.
    pub(crate) fn nomination(&self, uid: &str) -> Option<&NodeState> {
        self.nodes.get(self.nominations.get(uid)?)
    }

    /// Takes a decision back that was not carried out.
    pub(crate) fn forget(&mut self, pod: &Pod) {
        if self.is_assumed(uid(pod)) {
            self.remove_pod(uid(pod));
        }
    }

    /// Whether the pod has been decided on.
    pub(crate) fn is_placed(&self, pod: &Pod) -> bool {
        self.places.contains_key(uid(pod))
    }

    pub(crate) fn remove_pod(&mut self, uid: &str) {
        self.withdraw(uid);
        if let Some(name) = self.places.remove(uid) {
            if let Some(state) = self.nodes.get_mut(&name) {
                state.take(uid);
            }
            self.forget_if_empty(&name);
        }
    }

    fn place(&mut self, pod: &Pod, node: &str, assumed: bool) {
        let info = Info::of(pod);
        self.withdraw(&info.uid);
        if self.places.get(&info.uid).is_some_and(|place| place != node) {
            self.remove_pod(&info.uid);
        }
        self.places.insert(info.uid.clone(), node.to_owned());
        let state = self.nodes.entry(node.to_owned()).or_default();
        state.put(Arc::new(info), assumed);
    }

    fn is_assumed(&self, uid: &str) -> bool {
        let state = self.places.get(uid).and_then(|name| self.nodes.get(name));
        state
            .and_then(|state| state.pods.get(uid))
            .is_some_and(|placed| placed.assumed)
    }

    fn forget_if_empty(&mut self, name: &str) {
        if self
            .nodes
            .get(name)
            .is_some_and(|state| state.node.is_none() && state.pods.is_empty() && state.nominated.is_empty())
        {
            self.nodes.remove(name);
        }
    }
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(crate) fn node_name(pod: &Pod) -> Option<&str> {
    let name = pod.spec.as_ref()?.node_name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

pub(crate) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(changes: Value) -> Pod {
        let mut pod = json!({
            "metadata": { "name": "p", "uid": "p" },
            "spec": { "containers": [
                { "name": "c", "resources": { "requests": { "cpu": "1" } } } ] },
        });
        json_patch::merge(&mut pod, &changes);
        serde_json::from_value(pod).unwrap()
    }

    fn on(node: &str) -> Value {
        json!({ "spec": { "nodeName": node } })
    }

    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        for name in ["a", "b"] {
            let node = json!({ "metadata": { "name": name } });
            cluster.set_node(&Arc::new(serde_json::from_value(node).unwrap()));
        }
        cluster
    }

    fn cpu(cluster: &Cluster, name: &str) -> i64 {
        let view = cluster.view();
        let (_, state) = view.nodes.iter().find(|(node, _)| *node == name).unwrap();
        state.requested.get("cpu")
    }

    #[test]
    fn a_decision_counts_before_the_watch_shows_it_and_only_once() {
        let mut cluster = cluster();
        cluster.assume(&pod(json!({})), "a");
        cluster.set_pod(&pod(json!({})));
        assert_eq!(cpu(&cluster, "a"), 1000);
        cluster.set_pod(&pod(on("a")));
        assert_eq!(cpu(&cluster, "a"), 1000);
        cluster.forget(&pod(json!({})));
        assert_eq!(
            cpu(&cluster, "a"),
            1000,
            "what the watch has shown is no assumption"
        );
    }

    #[test]
    fn a_decision_that_was_not_carried_out_is_taken_back() {
        let mut cluster = cluster();
        cluster.assume(&pod(json!({})), "a");
        cluster.forget(&pod(json!({})));
        assert_eq!(cpu(&cluster, "a"), 0);
        assert!(!cluster.is_placed(&pod(json!({}))));
    }

    #[test]
    fn what_the_watch_shows_counts_more_than_what_was_decided() {
        let mut cluster = cluster();
        cluster.assume(&pod(json!({})), "a");
        cluster.set_pod(&pod(on("b")));
        assert_eq!((cpu(&cluster, "a"), cpu(&cluster, "b")), (0, 1000));
    }

    #[test]
    fn a_pod_that_ended_takes_no_room() {
        let mut cluster = cluster();
        cluster.set_pod(&pod(on("a")));
        let mut ended = on("a");
        ended["status"] = json!({ "phase": "Succeeded" });
        cluster.set_pod(&pod(ended));
        assert_eq!(cpu(&cluster, "a"), 0);
    }

    #[test]
    fn a_node_that_comes_back_still_has_its_pods() {
        let mut cluster = cluster();
        cluster.set_pod(&pod(on("a")));
        cluster.remove_node("a");
        assert_eq!(cluster.view().nodes.len(), 1);
        let node = json!({ "metadata": { "name": "a" } });
        cluster.set_node(&Arc::new(serde_json::from_value(node).unwrap()));
        assert_eq!(cpu(&cluster, "a"), 1000);
    }

    #[test]
    fn room_is_kept_from_pods_that_come_later_and_for_nobody_else() {
        let mut cluster = cluster();
        let important = pod(json!({ "metadata": { "uid": "1" }, "spec": { "priority": 10 } }));
        cluster.nominate(&Arc::new(Info::of(&important)), "a");
        let with = |cluster: &Cluster, priority: i32, uid: &str| {
            let other = pod(json!({ "metadata": { "uid": uid }, "spec": { "priority": priority } }));
            let view = cluster.view();
            let state = view.nodes[0].1.with_nominated(&Info::of(&other));
            state.map(|state| state.requested.get("cpu"))
        };
        assert_eq!(with(&cluster, 0, "2"), Some(1000));
        assert_eq!(with(&cluster, 10, "2"), Some(1000));
        assert_eq!(with(&cluster, 11, "2"), None, "it comes first");
        assert_eq!(with(&cluster, 10, "1"), None, "it is the pod itself");
        cluster.assume(&important, "b");
        assert_eq!(with(&cluster, 0, "2"), None, "it went elsewhere");
    }

    #[test]
    fn a_pods_status_says_where_room_is_made_for_it() {
        let mut cluster = cluster();
        let waiting = json!({ "metadata": { "uid": "1" }, "status": { "nominatedNodeName": "b" } });
        cluster.set_pod(&pod(waiting));
        assert_eq!(cluster.view().nodes[1].1.nominated.len(), 1);
        cluster.remove_pod("1");
        assert!(cluster.view().nodes[1].1.nominated.is_empty());
    }
}
