//! What the API says about NetworkPolicies, Namespaces and Pods, kept as an index that tells what a change
//! means for this node.
//!
//! ```text
//! NetworkPolicies ─watch─┐
//! Namespaces ──────watch─┼─► Policies ──► what changes in the kernel ──► the network part
//! Pods ────────────watch─┘      ▲
//! ADD ──► API: what is there now ┘ waits until the watches have come as far (settle)
//! ```
//!
//! Watches alone change what is known, so nothing older can undo what is newer. Nothing is told before all
//! three lists are complete; while the API is away what was known stays.

mod settle;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::watcher;
use kube::{Api, Client};
use model::{AttachmentId, NamespacedName, PolicyAttachment};
use plan::PolicyIndex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::watching::{self, Follower, Keeps, Key, Watched, key};

pub(crate) use settle::Unsettled;

/// How many objects are read at once.
const PAGE: u32 = 500;

/// A kind of object that policies depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Policies,
    Namespaces,
    Pods,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Policies, Kind::Namespaces, Kind::Pods];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Policies => "NetworkPolicies",
            Kind::Namespaces => "Namespaces",
            Kind::Pods => "Pods",
        })
    }
}

/// What a node's policies depend on, as the API has it.
pub struct Policies {
    client: Client,
    known: Mutex<Known>,
    /// How often something came.
    changes: watch::Sender<u64>,
    /// How often each kind's watch was to begin anew.
    anew: [watch::Sender<u64>; 3],
}

/// What came so far.
#[derive(Debug)]
struct Known {
    index: PolicyIndex,
    /// The versions of policies, by namespace and name.
    policies: BTreeMap<String, BTreeMap<String, String>>,
    namespaces: BTreeSet<String>,
    pods: HashMap<Key, Seen>,
    /// Who has an address, as `NAMESPACE/NAME`.
    at: HashMap<IpAddr, Arc<str>>,
    listed: [bool; 3],
}

/// What is kept of a pod beside what the index has.
#[derive(Debug)]
struct Seen {
    uid: String,
    addresses: Vec<IpAddr>,
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").finish_non_exhaustive()
    }
}

impl Policies {
    /// Nothing is known yet. `node_local` are the addresses that each node answers at itself.
    pub fn new(client: Client, node: &str, node_local: &BTreeSet<IpAddr>) -> Policies {
        let mut index = PolicyIndex::new(node);
        index.set_node_local(node_local);
        Policies {
            client,
            known: Mutex::new(Known {
                index,
                policies: BTreeMap::new(),
                namespaces: BTreeSet::new(),
                pods: HashMap::new(),
                at: HashMap::new(),
                listed: [false; 3],
            }),
            changes: watch::Sender::new(0),
            anew: [(); 3].map(|()| watch::Sender::new(0)),
        }
    }

    /// Says when something came.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Looks at the index, or changes it; `None` until all three lists are complete.
    pub(crate) fn with_index<T>(&self, look: impl FnOnce(&mut PolicyIndex) -> T) -> Option<T> {
        let mut known = self.known();
        known.unlisted().is_none().then(|| look(&mut known.index))
    }

    /// Whether all three lists were complete, ever.
    pub(crate) fn listed(&self) -> Result<(), Unsettled> {
        self.known()
            .unlisted()
            .map_or(Ok(()), |kind| Err(Unsettled::NotListed(kind)))
    }

    /// Ends when all three lists are complete.
    pub(crate) async fn until_listed(&self) {
        let mut changes = self.changes();
        while self.listed().is_err() {
            // Nobody but this drops the sender.
            let _ = changes.changed().await;
        }
    }

    /// Has everything written that isn't yet.
    pub(crate) fn wake(&self) {
        self.change(|_| ());
    }

    /// A pod has its addresses on this node.
    pub(crate) fn attach(&self, id: AttachmentId, attachment: PolicyAttachment) {
        let mut known = self.known();
        if !attachment.pod.name.is_empty() {
            known.claim(&attachment.pod.to_string(), &attachment.addresses);
        }
        known.index.attach(id, attachment);
    }

    /// The pod that has an address, as `NAMESPACE/NAME`.
    pub(crate) fn pod_at(&self, address: IpAddr) -> Option<String> {
        self.known().at.get(&address).map(|name| name.to_string())
    }

    /// A pod has left them.
    pub(crate) fn detach(&self, id: &AttachmentId) {
        self.known().index.detach(id);
    }

    /// Takes something in, and tells of it.
    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known());
        self.changes.send_modify(|count| *count += 1);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// A kind whose list wasn't complete yet.
    fn unlisted(&self) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| !self.listed[*kind as usize])
    }

    /// A pod is as it is now.
    fn see(&mut self, key: Key, uid: String, addresses: Vec<IpAddr>) {
        let name = format!("{}/{}", key.0, key.1);
        if let Some(before) = self.pods.get(&key).map(|seen| seen.addresses.clone())
            && before != addresses
        {
            self.disclaim(&name, &before);
        }
        self.claim(&name, &addresses);
        self.pods.insert(key, Seen { uid, addresses });
    }

    fn claim(&mut self, name: &str, addresses: &[IpAddr]) {
        let has = |address: &&IpAddr| self.at.get(*address).is_none_or(|held| **held != *name);
        let new: Vec<IpAddr> = addresses.iter().filter(has).copied().collect();
        if !new.is_empty() {
            let name: Arc<str> = name.into();
            self.at
                .extend(new.into_iter().map(|address| (address, name.clone())));
        }
    }

    /// Unless another has them by now.
    fn disclaim(&mut self, name: &str, addresses: &[IpAddr]) {
        for address in addresses {
            if self.at.get(address).is_some_and(|held| **held == *name) {
                self.at.remove(address);
            }
        }
    }
}

/// What policies depend on, as objects of the API.
trait Listed: Watched {
    const KIND: Kind;
    /// Takes an object in, as it is now.
    fn put(self, known: &mut Known);
    /// Takes an object out.
    fn remove(key: &Key, known: &mut Known);
    /// The namespaces and names of all.
    fn keys(known: &Known) -> Vec<Key>;
}

impl Listed for NetworkPolicy {
    const KIND: Kind = Kind::Policies;

    fn put(self, known: &mut Known) {
        let (namespace, name) = key(&self);
        let version = self.metadata.resource_version.clone().unwrap_or_default();
        let (policy, problems) = kube_objects::policy(&self);
        for problem in problems {
            warn!(policy = format!("{namespace}/{name}"), %problem, "a part of a NetworkPolicy can't be used");
        }
        let versions = known.policies.entry(namespace.clone()).or_default();
        versions.insert(name.clone(), version);
        known
            .index
            .set_policy(NamespacedName::new(namespace, name), Arc::new(policy));
    }

    fn remove((namespace, name): &Key, known: &mut Known) {
        if let Some(versions) = known.policies.get_mut(namespace) {
            versions.remove(name);
            if versions.is_empty() {
                known.policies.remove(namespace);
            }
        }
        known.index.remove_policy(&NamespacedName::new(namespace, name));
    }

    fn keys(known: &Known) -> Vec<Key> {
        let of = |(namespace, names): (&String, &BTreeMap<String, String>)| -> Vec<Key> {
            names
                .keys()
                .map(|name| (namespace.clone(), name.clone()))
                .collect()
        };
        known.policies.iter().flat_map(of).collect()
    }
}

impl Listed for Namespace {
    const KIND: Kind = Kind::Namespaces;

    fn put(self, known: &mut Known) {
        let (_, name) = key(&self);
        let labels = kube_objects::namespace(&self);
        known.namespaces.insert(name.clone());
        known.index.set_namespace(name, labels);
    }

    fn remove((_, name): &Key, known: &mut Known) {
        known.namespaces.remove(name);
        known.index.remove_namespace(name);
    }

    fn keys(known: &Known) -> Vec<Key> {
        let names = known.namespaces.iter();
        names.map(|name| (String::new(), name.clone())).collect()
    }
}

impl Listed for Pod {
    const KIND: Kind = Kind::Pods;

    fn put(self, known: &mut Known) {
        let (namespace, name) = key(&self);
        let (pod, problems) = kube_objects::pod(&self);
        for problem in problems {
            debug!(pod = format!("{namespace}/{name}"), %problem, "a part of a Pod can't be used");
        }
        let addresses = if pod.host_network {
            Vec::new()
        } else {
            pod.addresses.clone()
        };
        known.see((namespace.clone(), name.clone()), pod.uid.clone(), addresses);
        known
            .index
            .set_pod(NamespacedName::new(namespace, name), Arc::new(pod));
    }

    fn remove(key: &Key, known: &mut Known) {
        let (namespace, name) = key;
        if let Some(seen) = known.pods.remove(key) {
            known.disclaim(&format!("{namespace}/{name}"), &seen.addresses);
        }
        known.index.remove_pod(&NamespacedName::new(namespace, name));
    }

    fn keys(known: &Known) -> Vec<Key> {
        known.pods.keys().cloned().collect()
    }
}

impl<K: Listed> Keeps<K> for Policies {
    fn put(&self, object: K) {
        self.change(|known| object.put(known));
    }

    fn gone(&self, object: &K) {
        self.change(|known| K::remove(&key(object), known));
    }

    fn listed(&self, all: &BTreeSet<Key>) {
        self.change(|known| {
            let gone = K::keys(known).into_iter().filter(|key| !all.contains(key));
            gone.for_each(|key| K::remove(&key, known));
            known.listed[K::KIND as usize] = true;
        });
    }
}

/// Follows the API until `shutdown`, however often it goes away.
pub async fn follow(policies: Arc<Policies>, shutdown: CancellationToken) {
    tokio::join!(
        watch_kind::<NetworkPolicy>(&policies, &shutdown),
        watch_kind::<Namespace>(&policies, &shutdown),
        watch_kind::<Pod>(&policies, &shutdown),
    );
}

async fn watch_kind<K: Listed>(policies: &Policies, shutdown: &CancellationToken) {
    let mut anew = policies.anew[K::KIND as usize].subscribe();
    loop {
        let api: Api<K> = Api::all(policies.client.clone());
        let config = watcher::Config::default().page_size(PAGE);
        let mut follower = Follower::new(policies);
        let follow = watching::follow(api, config, |event| follower.step(event), shutdown);
        tokio::select! {
            () = follow => return,
            asked = anew.changed() => if asked.is_err() { return },
        }
        warn!(kind = %K::KIND, "the watch is behind the API: it begins anew");
    }
}
