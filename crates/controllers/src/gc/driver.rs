//! Watches every kind, and acts on what [`super::judge`] says.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::graph::{self, FOREGROUND, Graph, Node, ORPHAN, Owner};
use super::{Standing, Verdict, judge};
use crate::discovery::{Kind, Metadata, discover};
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::Key;
use crate::queue::Queue;

const WORKERS: usize = 16;
/// How often the server is asked for new kinds.
const REDISCOVERY: Duration = Duration::from_secs(30);

/// A kind's version and name, as owner references give them.
type KindName = (String, String);

/// The garbage collector.
#[derive(Clone)]
pub(crate) struct Collector {
    client: Client,
    graph: Arc<Mutex<Graph>>,
    kinds: Arc<Mutex<HashMap<KindName, Arc<Kind>>>>,
    queue: Queue<String>,
}

impl Collector {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            graph: Arc::default(),
            kinds: Arc::default(),
            queue: Queue::default(),
        }
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph
            .lock()
            .expect("no code panics while it holds the graph")
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<KindName, Arc<Kind>>> {
        self.kinds
            .lock()
            .expect("no code panics while it holds the kinds")
    }

    /// Collects until the end.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut monitors = Monitors::default();
        let mut working = None;
        loop {
            match discover(&self.client).await {
                Ok(kinds) => self.monitor(kinds, &mut monitors, &shutdown),
                Err(error) => warn!(%error, "garbage collection does not see new kinds"),
            }
            if working.is_none() && !monitors.running.is_empty() {
                // Only a complete graph shows all dependents of an owner that waits for them.
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = monitors.synced() => {}
                }
                let this = self.clone();
                let work =
                    self.queue
                        .clone()
                        .work("garbage collection", WORKERS, shutdown.clone(), move |uid| {
                            let this = this.clone();
                            async move { this.look_at(&uid).await }
                        });
                working = Some(tokio::spawn(work));
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(REDISCOVERY) => {}
            }
        }
    }

    /// Starts watches of new kinds, and ends those of kinds that are gone.
    fn monitor(&self, kinds: Vec<Kind>, monitors: &mut Monitors, shutdown: &CancellationToken) {
        let collected = |kind: &Kind| {
            // Events refer to objects and are owned by none; they come and go by the thousand.
            kind.can(&["list", "watch", "delete"]) && kind.resource.kind != "Event"
        };
        let kinds: Vec<_> = kinds.into_iter().filter(collected).map(Arc::new).collect();
        let by_name = |kind: &Arc<Kind>| {
            let resource = &kind.resource;
            (
                (resource.api_version.clone(), resource.kind.clone()),
                Arc::clone(kind),
            )
        };
        let by_name: HashMap<_, _> = kinds.iter().map(by_name).collect();
        monitors.running.retain(|name, (stop, _)| {
            let stays = by_name.contains_key(name);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for (name, kind) in by_name.iter().filter(|(_, kind)| kind.preferred) {
            if monitors.running.contains_key(name) {
                continue;
            }
            let (stop, synced) = (shutdown.child_token(), watch::Sender::new(false));
            monitors
                .running
                .insert(name.clone(), (stop.clone(), synced.subscribe()));
            monitors
                .tasks
                .spawn(self.clone().watch(Arc::clone(kind), synced, stop));
        }
        *self.kinds() = by_name;
    }

    async fn watch(self, kind: Arc<Kind>, synced: watch::Sender<bool>, stop: CancellationToken) {
        let api = kind.api(self.client.clone(), "");
        let stream = watcher(api, watcher::Config::default()).default_backoff();
        futures::pin_mut!(stream);
        let (mut known, mut listed) = (HashSet::new(), HashSet::new());
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => break,
                event = stream.next() => event,
            };
            match event {
                Some(Ok(watcher::Event::Init)) => listed = HashSet::new(),
                Some(Ok(watcher::Event::InitApply(object))) => {
                    listed.extend(object.metadata.uid.clone());
                    self.observe(&kind, &object);
                }
                Some(Ok(watcher::Event::InitDone)) => {
                    for gone in known.difference(&listed) {
                        self.remove(gone);
                    }
                    known = std::mem::take(&mut listed);
                    synced.send_replace(true);
                }
                Some(Ok(watcher::Event::Apply(object))) => {
                    known.extend(object.metadata.uid.clone());
                    self.observe(&kind, &object);
                }
                Some(Ok(watcher::Event::Delete(object))) => {
                    let uid = object.metadata.uid.unwrap_or_default();
                    known.remove(&uid);
                    self.remove(&uid);
                }
                Some(Err(error)) => debug!(kind = kind.name(), %error, "watch broken"),
                None => break,
            }
        }
    }

    fn observe(&self, kind: &Arc<Kind>, object: &Metadata) {
        let Some(uid) = &object.metadata.uid else { return };
        let node = Node::new(kind, &object.metadata);
        let look = self.graph().observe(uid, node);
        look.into_iter().for_each(|uid| self.queue.add(uid));
    }

    fn remove(&self, uid: &str) {
        let look = self.graph().remove(uid);
        look.into_iter().for_each(|uid| self.queue.add(uid));
    }

    /// Sees to one object.
    async fn look_at(&self, uid: &str) -> Result<(), Error> {
        let (node, has_dependents) = {
            let graph = self.graph();
            let Some(node) = graph.get(uid).cloned() else {
                return Ok(());
            };
            (node, graph.has_dependents(uid))
        };
        if node.orphans_dependents {
            return self.orphan(uid, &node).await;
        }
        if node.waits_for_dependents {
            return self.delete_dependents(uid, &node).await;
        }
        if self.all_solid(&node) {
            return Ok(());
        }
        let Some(live) = self.live(uid, &node).await? else {
            self.remove(uid);
            return Ok(());
        };
        let mut owners = Vec::new();
        for owner in graph::owners(&live) {
            let standing = self.standing(&owner, &node).await?;
            owners.push((owner, standing));
        }
        match judge(&owners, has_dependents) {
            Verdict::Keep => Ok(()),
            Verdict::Unlink(gone) => self.unlink(&node, &live, &gone).await,
            Verdict::Delete => self.delete(uid, &node, &live, own_policy(&live)).await,
            Verdict::DeleteForeground => {
                self.unblock_if_circular(uid, &node, &live).await?;
                self.delete(uid, &node, &live, PropagationPolicy::Foreground)
                    .await
            }
        }
    }

    /// Whether the graph alone says that nothing is to be done, as it does nearly always.
    fn all_solid(&self, node: &Node) -> bool {
        let graph = self.graph();
        let solid = |owner: &Owner| known_standing(&graph, owner, node) == Some(Standing::Solid);
        node.owners.iter().all(solid)
    }

    /// The object's metadata on the server, unless another has taken its place.
    async fn live(&self, uid: &str, node: &Node) -> Result<Option<ObjectMeta>, Error> {
        let api = node.kind.api(self.client.clone(), &node.key.namespace);
        let live = api.get_opt(&node.key.name).await;
        let live = live.doing(|| format!("look at {} {}", node.kind.resource.kind, node.key))?;
        Ok(live
            .map(|live| live.metadata)
            .filter(|live| live.uid.as_deref() == Some(uid)))
    }

    async fn standing(&self, owner: &Owner, node: &Node) -> Result<Standing, Error> {
        if let Some(standing) = known_standing(&self.graph(), owner, node) {
            return Ok(standing);
        }
        let name = (owner.api_version.clone(), owner.kind.clone());
        let kind = self.kinds().get(&name).cloned();
        let Some(kind) = kind else {
            // Of a kind that the server doesn't have nobody can say that it is gone.
            debug!(kind = owner.kind, object = %node.key, "an owner of unknown kind");
            return Ok(Standing::Solid);
        };
        if kind.namespaced && node.key.namespace.is_empty() {
            // Such a reference is void; to delete for it would be worse than to keep.
            return Ok(Standing::Solid);
        }
        let api = kind.api(self.client.clone(), &node.key.namespace);
        let live = api.get_opt(&owner.name).await;
        let live = live.doing(|| format!("look at {} {}", owner.kind, owner.name))?;
        let live = live.map(|live| live.metadata);
        let Some(live) = live.filter(|live| live.uid.as_deref() == Some(&owner.uid)) else {
            return Ok(Standing::Absent);
        };
        let waits = Node::new(&kind, &live).waits_for_dependents;
        Ok(if waits { Standing::Waiting } else { Standing::Solid })
    }

    async fn unlink(&self, node: &Node, live: &ObjectMeta, gone: &[String]) -> Result<(), Error> {
        let mut references = live.owner_references.clone().unwrap_or_default();
        references.retain(|reference| !gone.contains(&reference.uid));
        self.patch(node, live, json!({ "ownerReferences": references }))
            .await
    }

    async fn delete(
        &self,
        uid: &str,
        node: &Node,
        live: &ObjectMeta,
        policy: PropagationPolicy,
    ) -> Result<(), Error> {
        if live.deletion_timestamp.is_some() && policy != PropagationPolicy::Foreground {
            return Ok(());
        }
        debug!(kind = node.kind.resource.kind, object = %node.key, "deleting, its owners are gone");
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                // An owner may be added at this very moment.
                resource_version: live.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        let api = node.kind.api(self.client.clone(), &node.key.namespace);
        let deleted = api.delete(&node.key.name, &params).await;
        let what = || format!("delete {} {}", node.kind.resource.kind, node.key);
        ignore_missing(deleted.doing(what)).map(drop)
    }

    /// Deletes what blocks an owner in foreground deletion; lets the owner go when nothing does.
    async fn delete_dependents(&self, uid: &str, node: &Node) -> Result<(), Error> {
        let dependents = self.graph().dependents(uid);
        let blocks = |dependent: &Node| {
            dependent
                .owners
                .iter()
                .any(|owner| owner.uid == uid && owner.blocks)
        };
        let mut blocking = dependents.into_iter().filter(|(_, node)| blocks(node)).peekable();
        if blocking.peek().is_none() {
            return self.remove_finalizer(uid, node, FOREGROUND).await;
        }
        for (uid, dependent) in blocking {
            if !dependent.waits_for_dependents {
                self.queue.add(uid);
            }
        }
        Ok(())
    }

    /// Objects that own each other in a circle would wait for each other for ever.
    async fn unblock_if_circular(&self, uid: &str, node: &Node, live: &ObjectMeta) -> Result<(), Error> {
        let dependents = self.graph().dependents(uid);
        if !dependents
            .iter()
            .any(|(_, dependent)| dependent.waits_for_dependents)
        {
            return Ok(());
        }
        let mut references = live.owner_references.clone().unwrap_or_default();
        for reference in &mut references {
            reference.block_owner_deletion = Some(false);
        }
        self.patch(node, live, json!({ "ownerReferences": references }))
            .await
    }

    /// Makes the dependents of an object nobody's, then lets it go.
    async fn orphan(&self, uid: &str, node: &Node) -> Result<(), Error> {
        let dependents = self.graph().dependents(uid);
        for (dependent_uid, dependent) in dependents {
            if let Some(live) = self.live(&dependent_uid, &dependent).await? {
                self.unlink(&dependent, &live, &[uid.to_owned()]).await?;
            }
        }
        self.remove_finalizer(uid, node, ORPHAN).await
    }

    async fn remove_finalizer(&self, uid: &str, node: &Node, name: &str) -> Result<(), Error> {
        let Some(live) = self.live(uid, node).await? else {
            return Ok(());
        };
        let mut finalizers = live.finalizers.clone().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != name);
        self.patch(node, &live, json!({ "finalizers": finalizers })).await
    }

    /// Changes metadata, unless the object changed since it was looked at.
    async fn patch(
        &self,
        node: &Node,
        live: &ObjectMeta,
        mut metadata: serde_json::Value,
    ) -> Result<(), Error> {
        metadata["uid"] = json!(live.uid);
        metadata["resourceVersion"] = json!(live.resource_version);
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let api = node.kind.api(self.client.clone(), &node.key.namespace);
        let patched = api.patch(&node.key.name, &PatchParams::default(), &patch).await;
        let what = || format!("change the metadata of {} {}", node.kind.resource.kind, node.key);
        ignore_missing(patched.doing(what)).map(drop)
    }
}

/// What the graph knows of an owner; nothing, unless it is the very object that is meant.
fn known_standing(graph: &Graph, owner: &Owner, dependent: &Node) -> Option<Standing> {
    if graph.is_buried(&owner.uid) {
        return Some(Standing::Absent);
    }
    let known = graph.get(&owner.uid)?;
    let namespace = if known.kind.namespaced {
        dependent.key.namespace.as_str()
    } else {
        ""
    };
    let same = known.kind.resource.kind == owner.kind && known.key == Key::new(namespace, &owner.name);
    match (same, known.waits_for_dependents) {
        (false, _) => None,
        (true, true) => Some(Standing::Waiting),
        (true, false) => Some(Standing::Solid),
    }
}

/// The way to go that an object's own finalizers ask for.
fn own_policy(meta: &ObjectMeta) -> PropagationPolicy {
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    }
}

/// The watches that are under way.
#[derive(Default)]
struct Monitors {
    running: HashMap<KindName, (CancellationToken, watch::Receiver<bool>)>,
    tasks: JoinSet<()>,
}

impl Monitors {
    /// Waits until every watch has its first list.
    async fn synced(&self) {
        for (_, synced) in self.running.values() {
            // An error means that the watch has ended, and then nothing more will come.
            let _ = synced.clone().wait_for(|&synced| synced).await;
        }
    }
}
