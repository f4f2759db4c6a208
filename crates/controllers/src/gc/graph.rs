//! Who depends on whom, as far as the watches have shown.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::discovery::Kind;
use crate::informer::Key;

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// UIDs of this many deleted objects are remembered.
const GRAVES: usize = 2000;

/// An owner, as a dependent names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: String,
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    /// A foreground deletion of the owner waits for this dependent.
    pub(crate) blocks: bool,
}

impl From<&OwnerReference> for Owner {
    fn from(reference: &OwnerReference) -> Self {
        Self {
            uid: reference.uid.clone(),
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            name: reference.name.clone(),
            blocks: reference.block_owner_deletion == Some(true),
        }
    }
}

/// What the graph keeps of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: Arc<Kind>,
    pub(super) key: Key,
    pub(super) owners: Vec<Owner>,
    /// It is deleted and waits for its dependents to go.
    pub(super) waits_for_dependents: bool,
    /// It is deleted and waits for its dependents to be let go.
    pub(super) orphans_dependents: bool,
}

impl Node {
    pub(super) fn new(kind: &Arc<Kind>, meta: &ObjectMeta) -> Self {
        let deleted = meta.deletion_timestamp.is_some();
        let finalizers = meta.finalizers.as_deref().unwrap_or_default();
        let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        Self {
            kind: Arc::clone(kind),
            key: Key::new(namespace, meta.name.as_deref().unwrap_or_default()),
            owners: owners(meta),
            waits_for_dependents: deleted && has(FOREGROUND),
            orphans_dependents: deleted && has(ORPHAN),
        }
    }
}

pub(super) fn owners(meta: &ObjectMeta) -> Vec<Owner> {
    meta.owner_references.iter().flatten().map(Owner::from).collect()
}

/// The graph. Everything that changes it returns the UIDs that should be looked at.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, HashSet<String>>,
    graves: VecDeque<String>,
    buried: HashSet<String>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Whether the object is known to be gone. UIDs are never used again.
    pub(super) fn is_buried(&self, uid: &str) -> bool {
        self.buried.contains(uid)
    }

    /// The dependents of an object, with their UIDs.
    pub(super) fn dependents(&self, uid: &str) -> Vec<(String, Node)> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| Some((uid.clone(), self.nodes.get(uid)?.clone())))
            .collect()
    }

    pub(super) fn has_dependents(&self, uid: &str) -> bool {
        self.dependents
            .get(uid)
            .is_some_and(|dependents| !dependents.is_empty())
    }

    /// An object is there, or changed.
    pub(super) fn observe(&mut self, uid: &str, node: Node) -> Vec<String> {
        let old = self.nodes.insert(uid.to_owned(), node.clone());
        if old.as_ref() == Some(&node) {
            return Vec::new();
        }
        let mut look = vec![uid.to_owned()];
        let old_owners = old.as_ref().map(|old| old.owners.as_slice()).unwrap_or_default();
        if old_owners != node.owners.as_slice() {
            self.unlink(uid, old_owners);
            for owner in &node.owners {
                self.dependents
                    .entry(owner.uid.clone())
                    .or_default()
                    .insert(uid.to_owned());
            }
            look.extend(self.waiting(old_owners));
        }
        if node.waits_for_dependents && !old.is_some_and(|old| old.waits_for_dependents) {
            look.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        }
        look
    }

    /// An object is gone: its dependents may follow, and owners may have waited for it.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        self.bury(uid);
        let mut look = Vec::new();
        if let Some(node) = self.nodes.remove(uid) {
            self.unlink(uid, &node.owners);
            look.extend(self.waiting(&node.owners));
        }
        look.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        look
    }

    fn unlink(&mut self, uid: &str, owners: &[Owner]) {
        for owner in owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }

    /// Those owners that wait for their dependents.
    fn waiting(&self, owners: &[Owner]) -> Vec<String> {
        let waits = |owner: &&Owner| {
            self.nodes
                .get(&owner.uid)
                .is_some_and(|node| node.waits_for_dependents)
        };
        owners
            .iter()
            .filter(waits)
            .map(|owner| owner.uid.clone())
            .collect()
    }

    fn bury(&mut self, uid: &str) {
        if self.buried.insert(uid.to_owned()) {
            self.graves.push_back(uid.to_owned());
        }
        if self.graves.len() > GRAVES
            && let Some(oldest) = self.graves.pop_front()
        {
            self.buried.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(kind: &str, meta: Value) -> Node {
        let meta: ObjectMeta = serde_json::from_value(meta).unwrap();
        Node::new(&Arc::new(Kind::fake("apps/v1", kind, true)), &meta)
    }

    fn owned_by(uids: &[&str]) -> Value {
        let reference = |uid: &&str| {
            json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": uid,
                    "blockOwnerDeletion": true })
        };
        json!({ "name": "pod", "namespace": "default",
                "ownerReferences": uids.iter().map(reference).collect::<Vec<_>>() })
    }

    fn waiting() -> Value {
        json!({ "name": "x", "namespace": "default", "finalizers": [FOREGROUND],
                "deletionTimestamp": "2026-11-21T12:00:00Z" })
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes() {
        let mut graph = Graph::default();
        assert_eq!(graph.observe("pod", node("Pod", owned_by(&["set"]))), ["pod"]);
        graph.observe("set", node("ReplicaSet", json!({ "name": "x" })));
        assert!(graph.has_dependents("set"));
        assert_eq!(graph.remove("set"), ["pod"]);
        assert!(graph.is_buried("set"));
    }

    #[test]
    fn an_unchanged_object_is_not_looked_at() {
        let mut graph = Graph::default();
        graph.observe("pod", node("Pod", owned_by(&["set"])));
        assert!(graph.observe("pod", node("Pod", owned_by(&["set"]))).is_empty());
    }

    #[test]
    fn an_owner_that_waits_is_looked_at_when_a_dependent_goes_or_is_let_go() {
        let mut graph = Graph::default();
        graph.observe("a", node("Pod", owned_by(&["set"])));
        graph.observe("b", node("Pod", owned_by(&["set"])));
        let mut look = graph.observe("set", node("ReplicaSet", waiting()));
        look.sort();
        assert_eq!(look, ["a", "b", "set"]);
        assert_eq!(graph.remove("a"), ["set"]);
        assert_eq!(graph.observe("b", node("Pod", owned_by(&[]))), ["b", "set"]);
        assert!(!graph.has_dependents("set"));
    }

    #[test]
    fn memory_of_the_dead_is_bounded() {
        let mut graph = Graph::default();
        for n in 0..GRAVES + 10 {
            graph.remove(&n.to_string());
        }
        assert_eq!(graph.buried.len(), GRAVES);
        assert!(!graph.is_buried("9") && graph.is_buried("10"));
    }
}
