//! One watch a kind, shared: a cache of what the server has, and handlers that hear of changes.
//!
//! ```text
//! list + watch ──► Cache (read by every controller)
//!             └──► handlers, called in order, once a change; they only put keys into queues
//! ```
//!
//! A watch that breaks is listed anew and compared with the cache, so handlers hear of every
//! object that came, changed or went, and of nothing else.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, RwLock};

use futures::StreamExt;
use go_json::Read;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// An object's place: its namespace (empty for kinds that have none) and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace, or nothing.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The place of an object.
    #[must_use]
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// What an informer can watch.
pub trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// What happened to one object. `old` and `new` are always the same object, by its UID.
#[derive(Debug)]
pub enum Change<K> {
    /// It is new here.
    Added(Arc<K>),
    /// It changed.
    Updated {
        /// As it was.
        old: Arc<K>,
        /// As it is.
        new: Arc<K>,
    },
    /// It is gone; this is the last that was seen of it.
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The object as last seen.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Updated { new: object, .. } | Self::Deleted(object) => object,
        }
    }
}

/// The objects of one kind as last seen. Clones share the same content.
#[derive(Debug)]
pub struct Cache<K> {
    inner: Arc<Inner<K>>,
}

#[derive(Debug)]
struct Inner<K> {
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    synced: watch::Sender<bool>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

const LOCK: &str = "no code panics while it holds a cache";

impl<K: Watched> Cache<K> {
    fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                objects: RwLock::default(),
                synced: watch::Sender::new(false),
            }),
        }
    }

    /// The object at a place.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.inner.objects.read().expect(LOCK).get(key).cloned()
    }

    /// Every object.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        let objects = self.inner.objects.read().expect(LOCK);
        objects.values().cloned().collect()
    }

    /// Every object of a namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let objects = self.inner.objects.read().expect(LOCK);
        objects
            .range(Key::new(namespace, "")..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// Waits until the first list has arrived.
    pub async fn synced(&self) {
        let mut synced = self.inner.synced.subscribe();
        // An error would mean that the sender is gone, which this cache itself holds.
        let _ = synced.wait_for(|&synced| synced).await;
    }

    fn set(&self, object: K) -> Vec<Change<K>> {
        let (key, new) = (Key::of(&object), Arc::new(object));
        let mut objects = self.inner.objects.write().expect(LOCK);
        let old = objects.insert(key, Arc::clone(&new));
        match old {
            None => vec![Change::Added(new)],
            Some(old) if old.uid() != new.uid() => vec![Change::Deleted(old), Change::Added(new)],
            Some(old) if old.resource_version() == new.resource_version() => vec![],
            Some(old) => vec![Change::Updated { old, new }],
        }
    }

    fn remove(&self, key: &Key) -> Vec<Change<K>> {
        let removed = self.inner.objects.write().expect(LOCK).remove(key);
        removed.map(Change::Deleted).into_iter().collect()
    }

    /// Takes over a whole list: what is not in it is gone.
    fn replace(&self, list: Vec<K>) -> Vec<Change<K>> {
        let listed: std::collections::HashSet<Key> = list.iter().map(Key::of).collect();
        let gone: Vec<Key> = {
            let objects = self.inner.objects.read().expect(LOCK);
            let keys = objects.keys().filter(|key| !listed.contains(key));
            keys.cloned().collect()
        };
        let mut changes: Vec<_> = gone.iter().flat_map(|key| self.remove(key)).collect();
        changes.extend(list.into_iter().flat_map(|object| self.set(object)));
        changes
    }
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// Watches one kind. Register handlers first, then [`run`](Self::run) it.
pub struct Informer<K> {
    api: Api<Read<K>>,
    config: watcher::Config,
    cache: Cache<K>,
    handlers: Vec<Handler<K>>,
}

impl<K: Watched> Informer<K> {
    /// An informer that has not begun yet.
    pub fn new(api: Api<Read<K>>, config: watcher::Config) -> Self {
        Self {
            api,
            config,
            cache: Cache::new(),
            handlers: Vec::new(),
        }
    }

    /// The cache that it fills.
    #[must_use]
    pub fn cache(&self) -> Cache<K> {
        self.cache.clone()
    }

    /// Adds a handler. The cache already shows a change when its handlers are called.
    pub fn on_change(&mut self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.handlers.push(Box::new(handler));
    }

    /// Watches until the end; broken watches are mended with back-off.
    pub async fn run(self, shutdown: CancellationToken) {
        let stream = watcher(self.api.clone(), self.config.clone()).default_backoff();
        futures::pin_mut!(stream);
        let mut listing = Vec::new();
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = stream.next() => event,
            };
            match event {
                Some(Ok(event)) => self.observe(event, &mut listing),
                Some(Err(error)) => warn_broken::<K>(&error),
                None => return,
            }
        }
    }

    fn observe(&self, event: watcher::Event<Read<K>>, listing: &mut Vec<K>) {
        match event {
            watcher::Event::Init => listing.clear(),
            watcher::Event::InitApply(Read(object)) => listing.push(slim(object)),
            watcher::Event::InitDone => {
                self.tell(&self.cache.replace(std::mem::take(listing)));
                self.cache.inner.synced.send_replace(true);
            }
            watcher::Event::Apply(Read(object)) => self.tell(&self.cache.set(slim(object))),
            watcher::Event::Delete(Read(object)) => self.tell(&self.cache.remove(&Key::of(&object))),
        }
    }

    fn tell(&self, changes: &[Change<K>]) {
        for change in changes {
            for handler in &self.handlers {
                handler(change);
            }
        }
    }
}

/// Nobody here reads managed fields, and they are half of a small object's size.
fn slim<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

fn warn_broken<K: Watched>(error: &watcher::Error) {
    let kind = K::kind(&());
    match error {
        // The server compacts its history: to list again is the ordinary cure.
        watcher::Error::WatchError(status) if status.code == 410 => {
            debug!(%kind, "watch expired, listing again");
        }
        _ => warn!(%kind, %error, "watch broken, trying again"),
    }
}
