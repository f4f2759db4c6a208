//! What the API says about the cluster, as a stream of snapshots; and what it said last, for a
//! start while the API is away.
//!
//! ```text
//! Nodes, ServiceCIDRs ──watch──► Follower ──► Keeper ──► Snapshot ──► watch::Sender ──► the network part
//!                                                              └──► nodes.json ──► the next start
//! ```
//!
//! A snapshot is published only when the list of nodes is complete: half a list would take the routes to the
//! other half away. One that says what the last one said is not published.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use go_json::Read;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use model::Snapshot;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::file;
use crate::watching::{self, Follower, Keeps, Key};

/// The latest snapshot, without this node's attachments; none until something is known.
pub type Latest = watch::Sender<Option<Arc<Snapshot>>>;

/// A Node, boiled down to what is kept of it.
fn node(object: &Node) -> model::Node {
    let (node, problems) = kube_objects::node(object);
    for problem in problems {
        warn!(%problem, "a part of a Node is left out");
    }
    node
}

/// The ranges of a ServiceCIDR.
fn ranges(object: &ServiceCIDR) -> Vec<IpNet> {
    let texts = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    let parsed = texts.filter_map(|text| match text.parse::<IpNet>() {
        Ok(net) => Some(net.trunc()),
        Err(error) => {
            warn!(name = %object.name_any(), %text, %error, "a range of a ServiceCIDR is left out");
            None
        }
    });
    parsed.collect()
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
#[derive(Debug, Default)]
struct Known {
    cluster: Cluster,
    /// The ServiceCIDRs' ranges, by name.
    ranges: BTreeMap<String, Vec<IpNet>>,
    /// Whether there was a whole list of nodes: nothing is published before.
    has_nodes: bool,
    /// Whether there was a whole list of ServiceCIDRs: what was known before holds until then.
    has_ranges: bool,
}

/// Takes in what the API says of the cluster, and publishes it.
struct Keeper {
    known: Mutex<Known>,
    /// What every snapshot has beside the cluster.
    blank: Snapshot,
    memory: Memory,
    latest: Latest,
}

impl Keeper {
    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        if known.has_ranges {
            known.cluster.service_ranges = known.ranges.values().flatten().copied().collect();
        }
        if known.has_nodes {
            publish(&known.cluster, &self.blank, &self.memory, &self.latest);
        }
    }
}

impl Keeps<Node> for Keeper {
    fn put(&self, object: Node) {
        let node = node(&object);
        self.change(|known| drop(known.cluster.nodes.insert(object.name_any(), node)));
    }

    fn gone(&self, object: &Node) {
        self.change(|known| drop(known.cluster.nodes.remove(&object.name_any())));
    }

    fn listed(&self, all: &BTreeSet<Key>) {
        self.change(|known| {
            known.cluster.nodes.retain(|name, _| is_in(all, name));
            known.has_nodes = true;
        });
    }
}

impl Keeps<ServiceCIDR> for Keeper {
    fn put(&self, object: ServiceCIDR) {
        let ranges = ranges(&object);
        self.change(|known| drop(known.ranges.insert(object.name_any(), ranges)));
    }

    fn gone(&self, object: &ServiceCIDR) {
        self.change(|known| drop(known.ranges.remove(&object.name_any())));
    }

    fn listed(&self, all: &BTreeSet<Key>) {
        self.change(|known| {
            known.ranges.retain(|name, _| is_in(all, name));
            known.has_ranges = true;
        });
    }
}

/// Whether an object without namespace is among those.
fn is_in(all: &BTreeSet<Key>, name: &str) -> bool {
    all.contains(&(String::new(), name.to_owned()))
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
    let keeper = Keeper {
        known: Mutex::new(Known {
            cluster: last,
            ..Known::default()
        }),
        blank,
        memory,
        latest,
    };
    let (mut nodes, mut blocks) = (Follower::new(&keeper), Follower::new(&keeper));
    let config = || watcher::Config::default().any_semantic();
    let node = |event: Event<Node>| nodes.step(event);
    let block = |event: Event<Read<ServiceCIDR>>| blocks.step(watching::plain(event));
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
        if let Err(error) = file::replace(&self.path, &remembered) {
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

    fn block(name: &str, range: &str) -> ServiceCIDR {
        let object = json!({"metadata": {"name": name}, "spec": {"cidrs": [range]}});
        serde_json::from_value(object).expect("a ServiceCIDR")
    }

    /// Keeps what is known in `dir`, after `last`.
    fn keeper(dir: &Path, last: Cluster) -> Keeper {
        Keeper {
            known: Mutex::new(Known {
                cluster: last,
                ..Known::default()
            }),
            blank: Snapshot::default(),
            memory: Memory::new(dir, "a"),
            latest: Latest::new(None),
        }
    }

    fn published(keeper: &Keeper) -> Option<Vec<String>> {
        let latest = keeper.latest.borrow();
        latest
            .as_ref()
            .map(|latest| latest.nodes.keys().cloned().collect())
    }

    #[test]
    fn ranges_that_are_none_are_left_out() {
        let object =
            json!({"metadata": {"name": "a"}, "spec": {"cidrs": ["10.96.0.7/16", "a", "fd00:96::/112"]}});
        let object: ServiceCIDR = serde_json::from_value(object).expect("a ServiceCIDR");
        let wanted = ["10.96.0.0/16", "fd00:96::/112"].map(|text| text.parse().expect("a range"));
        assert_eq!(ranges(&object), wanted);
    }

    #[test]
    fn nothing_is_published_before_the_list_of_nodes_is_complete() {
        let dir = tempfile::tempdir().expect("a directory");
        let keeper = keeper(dir.path(), Cluster::default());
        let (mut nodes, mut blocks) = (Follower::new(&keeper), Follower::new(&keeper));
        blocks.step(Event::<ServiceCIDR>::Init);
        blocks.step(Event::<ServiceCIDR>::InitDone);
        nodes.step(Event::<Node>::Init);
        nodes.step(Event::InitApply(object("a", "10.0.1.0/24")));
        assert_eq!(published(&keeper), None);
        nodes.step(Event::<Node>::InitDone);
        nodes.step(Event::Apply(object("b", "10.0.2.0/24")));
        assert_eq!(published(&keeper), Some(vec!["a".into(), "b".into()]));
        nodes.step(Event::Delete(object("a", "10.0.1.0/24")));
        assert_eq!(published(&keeper), Some(vec!["b".into()]));
    }

    #[test]
    fn a_new_list_forgets_what_is_not_in_it_and_nothing_before_its_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let keeper = keeper(dir.path(), Cluster::default());
        let mut nodes = Follower::new(&keeper);
        nodes.step(Event::<Node>::InitDone);
        nodes.step(Event::Apply(object("gone", "10.0.1.0/24")));
        nodes.step(Event::<Node>::Init);
        nodes.step(Event::InitApply(object("new", "10.0.2.0/24")));
        assert_eq!(published(&keeper), Some(vec!["gone".into(), "new".into()]));
        nodes.step(Event::<Node>::InitDone);
        assert_eq!(published(&keeper), Some(vec!["new".into()]));
    }

    #[test]
    fn ranges_of_before_hold_until_all_of_now_are_known() {
        let dir = tempfile::tempdir().expect("a directory");
        let range = |text: &str| text.parse::<IpNet>().expect("a range");
        let last = Cluster {
            service_ranges: [range("10.96.0.0/16")].into(),
            ..Cluster::default()
        };
        let keeper = keeper(dir.path(), last);
        let ranges = || {
            let latest = keeper.latest.borrow();
            let ranges = latest.as_ref().map(|latest| latest.service_ranges.clone());
            ranges.unwrap_or_default()
        };
        Follower::new(&keeper).step(Event::<Node>::InitDone);
        let mut blocks = Follower::new(&keeper);
        blocks.step(Event::<ServiceCIDR>::Init);
        blocks.step(Event::InitApply(block("a", "10.97.0.0/16")));
        assert_eq!(ranges(), [range("10.96.0.0/16")].into());
        blocks.step(Event::<ServiceCIDR>::InitDone);
        assert_eq!(ranges(), [range("10.97.0.0/16")].into());
        blocks.step(Event::Apply(block("b", "10.98.0.0/16")));
        blocks.step(Event::Delete(block("a", "10.97.0.0/16")));
        assert_eq!(ranges(), [range("10.98.0.0/16")].into());
    }

    #[test]
    fn the_same_again_is_not_published() {
        let dir = tempfile::tempdir().expect("a directory");
        let keeper = keeper(dir.path(), Cluster::default());
        let mut seen = keeper.latest.subscribe();
        let mut nodes = Follower::new(&keeper);
        nodes.step(Event::Apply(object("a", "10.0.1.0/24")));
        nodes.step(Event::<Node>::Init);
        nodes.step(Event::InitApply(object("a", "10.0.1.0/24")));
        nodes.step(Event::<Node>::InitDone);
        assert!(seen.has_changed().expect("open"));
        seen.mark_unchanged();
        nodes.step(Event::Apply(object("a", "10.0.1.0/24")));
        assert!(!seen.has_changed().expect("open"));
    }

    #[test]
    fn what_is_remembered_is_recalled_by_the_same_node_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let memory = Memory::new(&dir.path().join("cni"), "a");
        assert_eq!(memory.recall(), None);
        let cluster = Cluster {
            service_ranges: ["10.96.0.0/16".parse().expect("a range")].into(),
            nodes: [("a".to_owned(), node(&object("a", "10.0.1.0/24")))].into(),
        };
        memory.remember(&cluster);
        assert_eq!(memory.recall(), Some(cluster));
        assert_eq!(Memory::new(&dir.path().join("cni"), "b").recall(), None);
        fs::write(dir.path().join("cni/nodes.json"), "{").expect("written");
        assert_eq!(memory.recall(), None);
    }
}
