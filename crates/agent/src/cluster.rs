//! What the API says about the cluster, as a stream of snapshots; and what it said last, for a
//! start while the API is away.
//!
//! ```text
//! Nodes ──watch──► Nodes::step ──► Snapshot ──► watch::Sender ──► the network part
//!                                      └──► nodes.json ──► the next start
//! ```
//!
//! A snapshot is published only when the list is complete: half a list would take the routes to the
//! other half away. One that says what the last one said is not published.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use model::Snapshot;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::watching;

/// The latest snapshot, without this node's attachments; none until something is known.
pub type Latest = watch::Sender<Option<Arc<Snapshot>>>;

/// The nodes of the cluster, followed event by event.
#[derive(Debug, Default)]
struct Nodes {
    known: BTreeMap<String, model::Node>,
    /// A list that is being read anew.
    relisting: Option<BTreeMap<String, model::Node>>,
}

impl Nodes {
    /// Takes an event in; true if the nodes are a complete list now.
    fn step(&mut self, event: Event<Node>) -> bool {
        match event {
            Event::Init => self.relisting = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                let (name, node) = convert(&object);
                self.relisting.get_or_insert_default().insert(name, node);
            }
            Event::InitDone => self.known = self.relisting.take().unwrap_or_default(),
            Event::Apply(object) => {
                let (name, node) = convert(&object);
                self.known.insert(name, node);
            }
            Event::Delete(object) => {
                self.known.remove(&convert(&object).0);
            }
        }
        self.relisting.is_none()
    }
}

fn convert(object: &Node) -> (String, model::Node) {
    let (node, problems) = kube_objects::node(object);
    for problem in problems {
        warn!(%problem, "a part of a Node is left out");
    }
    (object.metadata.name.clone().unwrap_or_default(), node)
}

/// Follows the API until `shutdown`, however often it goes away. What `blank` holds beside nodes is
/// in every snapshot.
pub async fn follow(
    client: Client,
    blank: Snapshot,
    memory: Memory,
    latest: Latest,
    shutdown: CancellationToken,
) {
    let mut nodes = Nodes::default();
    let step = |event| {
        if nodes.step(event) {
            publish(&nodes.known, &blank, &memory, &latest);
        }
    };
    let config = watcher::Config::default().any_semantic();
    watching::follow(Api::all(client), config, step, &shutdown).await;
}

fn publish(nodes: &BTreeMap<String, model::Node>, blank: &Snapshot, memory: &Memory, latest: &Latest) {
    let snapshot = Snapshot {
        nodes: nodes.clone(),
        ..blank.clone()
    };
    let changed = latest.send_if_modified(|last| {
        let changed = last.as_deref() != Some(&snapshot);
        if changed {
            *last = Some(Arc::new(snapshot));
        }
        changed
    });
    if changed {
        debug!(nodes = nodes.len(), "the cluster's nodes changed");
        memory.remember(nodes);
    }
}

/// What the API said last, in a file: an agent that starts while the API is away goes on with it.
#[derive(Debug, Clone)]
pub struct Memory {
    path: PathBuf,
    node: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    /// Whose memory it is: a folder that was copied to another node says nothing there.
    node: String,
    nodes: BTreeMap<String, model::Node>,
}

impl Memory {
    /// The memory of that node in `dir`.
    pub fn new(dir: &Path, node: &str) -> Memory {
        Memory {
            path: dir.join("nodes.json"),
            node: node.to_owned(),
        }
    }

    /// The nodes that were known last, if any.
    pub fn recall(&self) -> Option<BTreeMap<String, model::Node>> {
        let bytes = fs::read(&self.path).ok()?;
        match serde_json::from_slice::<Remembered>(&bytes) {
            Ok(remembered) => (remembered.node == self.node).then_some(remembered.nodes),
            Err(error) => {
                warn!(path = %self.path.display(), %error, "what the API said last can't be read: waiting for the API");
                None
            }
        }
    }

    /// Keeps the nodes for the next start. Failing costs no more than waiting for the API then.
    fn remember(&self, nodes: &BTreeMap<String, model::Node>) {
        let remembered = Remembered {
            node: self.node.clone(),
            nodes: nodes.clone(),
        };
        let new = self.path.with_extension("json.new");
        let write = || -> std::io::Result<()> {
            self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&new, serde_json::to_vec(&remembered)?)?;
            fs::rename(&new, &self.path)
        };
        if let Err(error) = write() {
            warn!(path = %self.path.display(), %error, "what the API says can't be kept for the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, block: &str) -> Node {
        let object = json!({"metadata": {"name": name}, "spec": {"podCIDRs": [block]}});
        serde_json::from_value(object).expect("a Node")
    }

    #[test]
    fn a_list_counts_only_when_it_is_complete() {
        let mut nodes = Nodes::default();
        assert!(!nodes.step(Event::Init));
        assert!(!nodes.step(Event::InitApply(object("a", "10.0.1.0/24"))));
        assert!(nodes.known.is_empty());
        assert!(nodes.step(Event::InitDone));
        assert!(nodes.step(Event::Apply(object("b", "10.0.2.0/24"))));
        assert_eq!(nodes.known.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(nodes.step(Event::Delete(object("a", "10.0.1.0/24"))));
        assert_eq!(nodes.known.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_new_list_forgets_what_is_not_in_it_and_nothing_before_its_end() {
        let mut nodes = Nodes::default();
        nodes.step(Event::Apply(object("gone", "10.0.1.0/24")));
        nodes.step(Event::Init);
        nodes.step(Event::InitApply(object("new", "10.0.2.0/24")));
        assert_eq!(nodes.known.keys().collect::<Vec<_>>(), ["gone"]);
        nodes.step(Event::InitDone);
        assert_eq!(nodes.known.keys().collect::<Vec<_>>(), ["new"]);
    }

    #[test]
    fn the_same_again_is_not_published() {
        let dir = tempfile::tempdir().expect("a directory");
        let memory = Memory::new(dir.path(), "a");
        let latest = Latest::new(None);
        let mut seen = latest.subscribe();
        let mut nodes = Nodes::default();
        nodes.step(Event::Apply(object("a", "10.0.1.0/24")));
        publish(&nodes.known, &Snapshot::default(), &memory, &latest);
        assert!(seen.has_changed().expect("open"));
        seen.mark_unchanged();
        publish(&nodes.known, &Snapshot::default(), &memory, &latest);
        assert!(!seen.has_changed().expect("open"));
    }

    #[test]
    fn what_is_remembered_is_recalled_by_the_same_node_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let memory = Memory::new(&dir.path().join("cni"), "a");
        assert_eq!(memory.recall(), None);
        let mut nodes = Nodes::default();
        nodes.step(Event::Apply(object("a", "10.0.1.0/24")));
        memory.remember(&nodes.known);
        assert_eq!(memory.recall(), Some(nodes.known));
        assert_eq!(Memory::new(&dir.path().join("cni"), "b").recall(), None);
        fs::write(dir.path().join("cni/nodes.json"), "{").expect("written");
        assert_eq!(memory.recall(), None);
    }
}
