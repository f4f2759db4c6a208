//! The ConfigMaps and Secrets that this node's pods use, and no others.
//!
//! Each one in use is followed by a watch of its own, shared by the pods that
//! use it and ended with the last of them: a change is seen at once, a restart
//! of a container while the API server is away finds the last state, and the
//! node holds no more of the cluster than it needs.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::retry::Growing;

/// How long a pod waits for the first answer about an object.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// A kind of object whose data a pod can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    ConfigMap,
    Secret,
}

impl Source {
    /// The kind's name in messages.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }

    /// What Kubernetes says of an object that isn't there.
    pub(crate) fn missing(self, name: &str) -> String {
        let noun = self.noun().to_ascii_lowercase();
        format!("{noun} {name:?} not found")
    }
}

/// An object's data, whichever of its fields it came from.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

/// Who answers for objects in one namespace.
pub(crate) trait Lookup: Send + Sync {
    /// The object's data; `None` if there is no such object; an error if that
    /// can't be known.
    fn data(&self, source: Source, name: &str) -> Result<Option<Data>, String>;
}

/// What is known of one object.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Nothing,
    Unreachable(String),
    Absent,
    Present(Arc<Data>),
}

/// One object, followed for as long as this is held.
pub(crate) struct Followed {
    known: watch::Receiver<Known>,
    _watch: AbortOnDropHandle<()>,
}

impl Followed {
    /// Waits until the server has said something about the object.
    pub(crate) async fn first_answer(&self) {
        let mut known = self.known.clone();
        let answered = known.wait_for(|k| *k != Known::Nothing);
        tokio::time::timeout(FIRST_ANSWER, answered).await.ok();
    }

    /// The object's changes from its first answer on.
    pub(crate) fn changes(&self) -> Changes {
        Changes {
            known: self.known.clone(),
            answered: false,
        }
    }

    fn data(&self) -> Result<Option<Data>, String> {
        match &*self.known.borrow() {
            Known::Present(data) => Ok(Some(Data::clone(data))),
            Known::Absent => Ok(None),
            Known::Unreachable(why) => Err(why.clone()),
            Known::Nothing => Err("timed out waiting for the API server".to_owned()),
        }
    }
}

/// Tells when an object changes.
pub(crate) struct Changes {
    known: watch::Receiver<Known>,
    answered: bool,
}

impl Changes {
    /// Waits for the next change; false when there will be none. The first
    /// answer counts as one only if nobody can have seen it in time.
    pub(crate) async fn next(&mut self) -> bool {
        if !self.answered {
            self.answered = true;
            let begun = Instant::now();
            if self.known.wait_for(|k| *k != Known::Nothing).await.is_err() {
                return false;
            }
            if begun.elapsed() >= FIRST_ANSWER {
                return true;
            }
        }
        self.known.changed().await.is_ok()
    }
}

type Key = (Source, String, String);

/// All objects that are followed now.
pub(crate) struct Objects {
    client: kube::Client,
    followed: Mutex<HashMap<Key, Weak<Followed>>>,
}

impl Objects {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self {
            client,
            followed: Mutex::default(),
        }
    }

    /// Follows an object, together with whoever does already.
    pub(crate) fn follow(&self, source: Source, namespace: &str, name: &str) -> Arc<Followed> {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.retain(|_, weak| weak.strong_count() > 0);
        let key = (source, namespace.to_owned(), name.to_owned());
        if let Some(there) = followed.get(&key).and_then(Weak::upgrade) {
            return there;
        }
        let fresh = Arc::new(match source {
            Source::ConfigMap => start::<ConfigMap>(&self.client, namespace, name, config_map_data),
            Source::Secret => start::<Secret>(&self.client, namespace, name, secret_data),
        });
        followed.insert(key, Arc::downgrade(&fresh));
        fresh
    }
}

fn start<K>(client: &kube::Client, namespace: &str, name: &str, data: fn(K) -> Data) -> Followed
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let (sender, known) = watch::channel(Known::Nothing);
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let name = name.to_owned();
    let task = tokio::spawn(async move {
        let mut stream = std::pin::pin!(watch_object(api, &name).backoff(Growing::for_watches()));
        while let Some(event) = stream.next().await {
            let now = match event {
                Ok(Some(object)) => Known::Present(Arc::new(data(object))),
                Ok(None) => Known::Absent,
                Err(error) => Known::Unreachable(error.to_string()),
            };
            sender.send_if_modified(|before| {
                // An answer that we had stays good while the server is away.
                let had = matches!(before, Known::Present(_) | Known::Absent);
                let keep = had && matches!(now, Known::Unreachable(_));
                let differs = !keep && *before != now;
                if differs {
                    *before = now;
                }
                differs
            });
        }
    });
    Followed {
        known,
        _watch: AbortOnDropHandle::new(task),
    }
}

fn config_map_data(object: ConfigMap) -> Data {
    let text = object
        .data
        .into_iter()
        .flatten()
        .map(|(k, v)| (k, v.into_bytes()));
    let binary = object.binary_data.into_iter().flatten().map(|(k, v)| (k, v.0));
    text.chain(binary).collect()
}

fn secret_data(object: Secret) -> Data {
    object.data.into_iter().flatten().map(|(k, v)| (k, v.0)).collect()
}

/// The objects that one pod uses.
#[derive(Clone, Default)]
pub(crate) struct PodObjects {
    by_name: BTreeMap<(Source, String), Arc<Followed>>,
}

impl PodObjects {
    /// Follows all that are named.
    pub(crate) fn follow(
        objects: &Objects,
        namespace: &str,
        names: impl IntoIterator<Item = (Source, String)>,
    ) -> Self {
        let by_name = names
            .into_iter()
            .map(|(source, name)| {
                let followed = objects.follow(source, namespace, &name);
                ((source, name), followed)
            })
            .collect();
        Self { by_name }
    }

    /// Waits for the first answer about each.
    pub(crate) async fn first_answers(&self) {
        futures::future::join_all(self.by_name.values().map(|f| f.first_answer())).await;
    }

    /// Whether that very object is followed.
    pub(crate) fn has(&self, object: &Arc<Followed>) -> bool {
        self.by_name.values().any(|own| Arc::ptr_eq(own, object))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Followed>> {
        self.by_name.values()
    }
}

impl Lookup for PodObjects {
    fn data(&self, source: Source, name: &str) -> Result<Option<Data>, String> {
        match self.by_name.get(&(source, name.to_owned())) {
            Some(followed) => followed.data(),
            None => Err(format!("{} {name} is not among the pod's objects", source.noun())),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Objects that are simply there.
    #[derive(Default)]
    pub(crate) struct Fixed(BTreeMap<(Source, String), Data>);

    impl Fixed {
        pub(crate) fn with(mut self, source: Source, name: &str, data: &[(&str, &str)]) -> Self {
            let data = data
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()))
                .collect();
            self.0.insert((source, name.to_owned()), data);
            self
        }
    }

    impl Lookup for Fixed {
        fn data(&self, source: Source, name: &str) -> Result<Option<Data>, String> {
            Ok(self.0.get(&(source, name.to_owned())).cloned())
        }
    }
}
