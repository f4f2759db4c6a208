//! The nodes and what is on them, decisions that the watch does not show yet included.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::requests::{Amounts, PODS, Requests};

/// A pod that has a node.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) requests: Requests,
    /// Pods of the same kin are spread over the nodes.
    pub(crate) kin: Option<String>,
    /// It was deleted, and goes as soon as it has ended.
    pub(crate) leaving: bool,
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
}

impl NodeState {
    fn put(&mut self, uid: &str, placed: Placed) {
        self.take(uid);
        self.requested.add(&placed.requests.amounts);
        self.pods.insert(uid.to_owned(), placed);
    }

    fn take(&mut self, uid: &str) -> Option<Placed> {
        let placed = self.pods.remove(uid)?;
        self.requested.subtract(&placed.requests.amounts);
        Some(placed)
    }

    /// How many pods of a kin are on the node and stay there.
    pub(crate) fn count(&self, kin: &str) -> usize {
        let same = |pod: &&Placed| !pod.leaving && pod.kin.as_deref() == Some(kin);
        self.pods.values().filter(same).count()
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
}

impl Cluster {
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, &NodeState)> {
        let known = self.nodes.iter().filter(|(_, state)| state.node.is_some());
        known.map(|(name, state)| (name.as_str(), state))
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
            Some(node) if !has_ended(pod) => self.place(uid, node, pod, false),
            // An older state than what was decided says nothing new.
            None if self.is_assumed(uid) => {}
            _ => self.remove_pod(uid),
        }
    }

    /// Counts a pod as being on a node from now on.
    pub(crate) fn assume(&mut self, pod: &Pod, node: &str) {
        self.place(uid(pod), node, pod, true);
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
        if let Some(name) = self.places.remove(uid) {
            if let Some(state) = self.nodes.get_mut(&name) {
                state.take(uid);
            }
            self.forget_if_empty(&name);
        }
    }

    fn place(&mut self, uid: &str, node: &str, pod: &Pod, assumed: bool) {
        if self.places.get(uid).is_some_and(|place| place != node) {
            self.remove_pod(uid);
        }
        let placed = Placed {
            requests: Requests::of(pod),
            kin: kin(pod),
            leaving: pod.metadata.deletion_timestamp.is_some(),
            assumed,
        };
        self.nodes.entry(node.to_owned()).or_default().put(uid, placed);
        self.places.insert(uid.to_owned(), node.to_owned());
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
            .is_some_and(|state| state.node.is_none() && state.pods.is_empty())
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

/// What a pod is one of many of: its controller's, or, without one, those with its labels.
pub(crate) fn kin(pod: &Pod) -> Option<String> {
    let meta = &pod.metadata;
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    if let Some(controller) = owners.iter().find(|owner| owner.controller == Some(true)) {
        return Some(controller.uid.clone());
    }
    let labels = meta.labels.as_ref().filter(|labels| !labels.is_empty())?;
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    Some(format!("{namespace}/{}", labels.join(",")))
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
        let (_, state) = cluster.nodes().find(|(node, _)| *node == name).unwrap();
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
        assert_eq!(cluster.nodes().count(), 1);
        let node = json!({ "metadata": { "name": "a" } });
        cluster.set_node(&Arc::new(serde_json::from_value(node).unwrap()));
        assert_eq!(cpu(&cluster, "a"), 1000);
    }
}
