//! What the API says about the cluster, as a stream of snapshots; and what it said last, for a
//! start while the API is away.
//!
//! ```text
//! Nodes, ServiceCIDRs ──watch──► Followed::step ──► Snapshot ──► watch::Sender ──► the network part
//!                                                       └──► nodes.json ──► the next start
//! ```
//!
//! A snapshot is published only when the list of nodes is complete: half a list would take the routes to the
//! other half away. One that says what the last one said is not published.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
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

/// The objects of a kind by name, followed event by event.
#[derive(Debug)]
struct Followed<V> {
    known: BTreeMap<String, V>,
    /// A list that is being read anew.
    relisting: Option<BTreeMap<String, V>>,
}

impl<V> Default for Followed<V> {
    fn default() -> Followed<V> {
        Followed {
            known: BTreeMap::new(),
            relisting: None,
        }
    }
}

impl<V> Followed<V> {
    /// Takes an event in; true if what is known is a complete list now.
    fn step<K: Convert<Into = V>>(&mut self, event: Event<K>) -> bool {
        match event {
            Event::Init => self.relisting = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                let (name, value) = object.convert();
                self.relisting.get_or_insert_default().insert(name, value);
            }
            Event::InitDone => self.known = self.relisting.take().unwrap_or_default(),
            Event::Apply(object) => {
                let (name, value) = object.convert();
                self.known.insert(name, value);
            }
            Event::Delete(object) => {
                self.known.remove(&object.convert().0);
            }
        }
        self.relisting.is_none()
    }
}

/// An object, boiled down to what is kept of it.
trait Convert {
    type Into;

    /// Its name, and what is kept.
    fn convert(&self) -> (String, Self::Into);
}

impl Convert for Node {
    type Into = model::Node;

    fn convert(&self) -> (String, model::Node) {
        let (node, problems) = kube_objects::node(self);
        for problem in problems {
            warn!(%problem, "a part of a Node is left out");
        }
        (self.metadata.name.clone().unwrap_or_default(), node)
    }
}

impl Convert for ServiceCIDR {
    type Into = Vec<IpNet>;

    fn convert(&self) -> (String, Vec<IpNet>) {
        let name = self.metadata.name.clone().unwrap_or_default();
        let texts = self.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
        let parsed = texts.filter_map(|text| match text.parse::<IpNet>() {
            Ok(net) => Some(net.trunc()),
            Err(error) => {
                warn!(%name, %text, %error, "a range of a ServiceCIDR is left out");
                None
            }
        });
        let ranges = parsed.collect();
        (name, ranges)
    }
}

/// What of the cluster every snapshot says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its nodes, by name.
    pub nodes: BTreeMap<String, model::Node>,
    /// Where Services' addresses are from.
    #[serde(default)]
    pub service_ranges: BTreeSet<IpNet>,
}

impl Cluster {
    /// A snapshot that says it; `blank` holds the rest.
    pub fn snapshot(&self, blank: Snapshot) -> Snapshot {
        Snapshot {
            nodes: self.nodes.clone(),
            service_ranges: self.service_ranges.clone(),
            ..blank
        }
    }
}

/// What is known while the API is followed.
struct Known {
    cluster: Cluster,
    /// Whether there was a whole list of nodes: nothing is published before.
    has_nodes: bool,
}

/// Follows the API until `shutdown`, however often it goes away. What `blank` holds beside the cluster is
/// in every snapshot. `last`: what was known before.
pub async fn follow(
    client: Client,
    blank: Snapshot,
    last: Cluster,
    memory: Memory,
    latest: Latest,
    shutdown: CancellationToken,
) {
    let known = Mutex::new(Known {
        cluster: last,
        has_nodes: false,
    });
    let change = |change: &dyn Fn(&mut Known)| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        if known.has_nodes {
            publish(&known.cluster, &blank, &memory, &latest);
        }
    };
    let mut nodes = Followed::default();
    let node = |event: Event<Node>| {
        if nodes.step(event) {
            change(&|known| {
                known.cluster.nodes.clone_from(&nodes.known);
                known.has_nodes = true;
            });
        }
    };
    let mut blocks = Followed::default();
    let block = |event: Event<ServiceCIDR>| {
        if blocks.step(event) {
            let ranges: BTreeSet<IpNet> = blocks.known.values().flatten().copied().collect();
            change(&|known| known.cluster.service_ranges.clone_from(&ranges));
        }
    };
    let config = || watcher::Config::default().any_semantic();
    tokio::join!(
        watching::follow(Api::all(client.clone()), config(), node, &shutdown),
        watching::follow(Api::all(client), config(), block, &shutdown),
    );
}

fn publish(cluster: &Cluster, blank: &Snapshot, memory: &Memory, latest: &Latest) {
    let snapshot = cluster.snapshot(blank.clone());
    let changed = latest.send_if_modified(|last| {
        let changed = last.as_deref() != Some(&snapshot);
        if changed {
            *last = Some(Arc::new(snapshot));
        }
        changed
    });
    if changed {
        debug!(
            nodes = cluster.nodes.len(),
            "the cluster's nodes or its Services' ranges changed"
        );
        memory.remember(cluster);
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
    #[serde(flatten)]
    cluster: Cluster,
}

impl Memory {
    /// The memory of that node in `dir`.
    pub fn new(dir: &Path, node: &str) -> Memory {
        Memory {
            path: dir.join("nodes.json"),
            node: node.to_owned(),
        }
    }

    /// What was known last, if anything.
    pub fn recall(&self) -> Option<Cluster> {
        let bytes = fs::read(&self.path).ok()?;
        match serde_json::from_slice::<Remembered>(&bytes) {
            Ok(remembered) => (remembered.node == self.node).then_some(remembered.cluster),
            Err(error) => {
                warn!(path = %self.path.display(), %error, "what the API said last can't be read: waiting for the API");
                None
            }
        }
    }

    /// Keeps it for the next start. Failing costs no more than waiting for the API then.
    fn remember(&self, cluster: &Cluster) {
        let remembered = Remembered {
            node: self.node.clone(),
            cluster: cluster.clone(),
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

    fn known(nodes: &Followed<model::Node>) -> Cluster {
        Cluster {
            nodes: nodes.known.clone(),
            ..Cluster::default()
        }
    }

    #[test]
    fn ranges_that_are_none_are_left_out() {
        let object =
            json!({"metadata": {"name": "a"}, "spec": {"cidrs": ["10.96.0.7/16", "a", "fd00:96::/112"]}});
        let object: ServiceCIDR = serde_json::from_value(object).expect("a ServiceCIDR");
        let ranges = ["10.96.0.0/16", "fd00:96::/112"].map(|text| text.parse().expect("a range"));
        assert_eq!(object.convert(), ("a".to_owned(), ranges.to_vec()));
    }

    #[test]
    fn a_list_counts_only_when_it_is_complete() {
        let mut nodes = Followed::default();
        assert!(!nodes.step(Event::<Node>::Init));
        assert!(!nodes.step(Event::InitApply(object("a", "10.0.1.0/24"))));
        assert!(nodes.known.is_empty());
        assert!(nodes.step(Event::<Node>::InitDone));
        assert!(nodes.step(Event::Apply(object("b", "10.0.2.0/24"))));
        assert_eq!(nodes.known.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(nodes.step(Event::Delete(object("a", "10.0.1.0/24"))));
        assert_eq!(nodes.known.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_new_list_forgets_what_is_not_in_it_and_nothing_before_its_end() {
        let mut nodes = Followed::default();
        nodes.step(Event::Apply(object("gone", "10.0.1.0/24")));
        nodes.step(Event::<Node>::Init);
        nodes.step(Event::InitApply(object("new", "10.0.2.0/24")));
        assert_eq!(nodes.known.keys().collect::<Vec<_>>(), ["gone"]);
        nodes.step(Event::<Node>::InitDone);
        assert_eq!(nodes.known.keys().collect::<Vec<_>>(), ["new"]);
    }

    #[test]
    fn the_same_again_is_not_published() {
        let dir = tempfile::tempdir().expect("a directory");
        let memory = Memory::new(dir.path(), "a");
        let latest = Latest::new(None);
        let mut seen = latest.subscribe();
        let mut nodes = Followed::default();
        nodes.step(Event::Apply(object("a", "10.0.1.0/24")));
        publish(&known(&nodes), &Snapshot::default(), &memory, &latest);
        assert!(seen.has_changed().expect("open"));
        seen.mark_unchanged();
        publish(&known(&nodes), &Snapshot::default(), &memory, &latest);
        assert!(!seen.has_changed().expect("open"));
    }

    #[test]
    fn what_is_remembered_is_recalled_by_the_same_node_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let memory = Memory::new(&dir.path().join("cni"), "a");
        assert_eq!(memory.recall(), None);
        let mut nodes = Followed::default();
        nodes.step(Event::Apply(object("a", "10.0.1.0/24")));
        let cluster = Cluster {
            service_ranges: ["10.96.0.0/16".parse().expect("a range")].into(),
            ..known(&nodes)
        };
        memory.remember(&cluster);
        assert_eq!(memory.recall(), Some(cluster));
        assert_eq!(Memory::new(&dir.path().join("cni"), "b").recall(), None);
        fs::write(dir.path().join("cni/nodes.json"), "{").expect("written");
        assert_eq!(memory.recall(), None);
    }
}
