//! Follows the API: what names are made of, and what people have set.
//!
//! Objects are turned into records as they come and aren't kept.

mod listing;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use go_json::Read;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::complain::Complaints;
use crate::control::Control;
use crate::object;
use crate::record::{Key, Records};
use crate::resolver::Resolver;
use listing::{Listing, Step};

/// Where people's settings are.
pub(crate) const SETTINGS_NAMESPACE: &str = "kube-system";
/// And by what name.
pub(crate) const SETTINGS: &str = "ripstop-dns";

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// Kinds without which names aren't known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needed {
    Namespaces,
    Services,
    Slices,
    Nodes,
}

const NEEDED: usize = 4;

/// What all watches share.
pub(crate) struct Watches {
    pub(crate) client: Client,
    pub(crate) node: String,
    pub(crate) domain: String,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) control: Arc<Control>,
    pub(crate) complaints: Complaints,
    /// Something changed that is to be remembered.
    pub(crate) changed: Arc<Notify>,
    /// What is known from the last time.
    pub(crate) remembered: Records,
    pub(crate) shutdown: CancellationToken,
    listed: Mutex<Vec<Needed>>,
    away: Mutex<Option<Instant>>,
}

impl Watches {
    #[expect(clippy::too_many_arguments, reason = "each is named where it is made")]
    pub(crate) fn new(
        client: Client,
        node: String,
        domain: String,
        resolver: Arc<Resolver>,
        control: Arc<Control>,
        changed: Arc<Notify>,
        remembered: Records,
        shutdown: CancellationToken,
    ) -> Watches {
        Watches {
            complaints: Complaints::new(client.clone(), &node),
            client,
            node,
            domain,
            resolver,
            control,
            changed,
            remembered,
            shutdown,
            listed: Mutex::default(),
            away: Mutex::default(),
        }
    }

    /// Follows everything until the shutdown.
    pub(crate) async fn run(&self) {
        tokio::join!(
            self.namespaces(),
            self.services(),
            self.slices(),
            self.nodes(),
            self.pods(),
            self.settings(),
        );
    }

    async fn namespaces(&self) {
        let known = self
            .remembered
            .namespaces
            .iter()
            .map(|name| (String::new(), name.clone()));
        let api = Api::<Namespace>::all(self.client.clone());
        self.follow(api, watcher::Config::default(), Listing::of(known), |step| {
            let mut changed = false;
            self.resolver.change(|table| {
                for (_, name) in &step.gone {
                    changed |= table.remove_namespace(name);
                }
                if let Some(object) = step.put {
                    changed |= table.put_namespace(object::key(object.meta()).1);
                }
            });
            self.note(changed);
            self.needed(step.whole, Needed::Namespaces);
        })
        .await;
    }

    async fn services(&self) {
        let known = keys(&self.remembered.services);
        let api = Api::<Read<Service>>::all(self.client.clone());
        self.follow(api, watcher::Config::default(), Listing::of(known), |step| {
            let mut changed = false;
            self.resolver.change(|table| {
                for key in &step.gone {
                    changed |= table.remove_service(key);
                }
                if let Some(Read(found)) = step.put {
                    let key = object::key(found.meta());
                    changed |= match object::service(&found) {
                        Some(service) => table.put_service(key, service),
                        None => table.remove_service(&key),
                    };
                }
            });
            self.note(changed);
            self.needed(step.whole, Needed::Services);
        })
        .await;
    }

    async fn slices(&self) {
        let known = keys(&self.remembered.slices);
        let api = Api::<EndpointSlice>::all(self.client.clone());
        self.follow(api, watcher::Config::default(), Listing::of(known), |step| {
            let mut changed = false;
            self.resolver.change(|table| {
                for key in &step.gone {
                    changed |= table.remove_slice(key);
                }
                if let Some(found) = step.put {
                    let key = object::key(found.meta());
                    changed |= match object::slice(&found) {
                        Some(slice) => table.put_slice(key, slice),
                        None => table.remove_slice(&key),
                    };
                }
            });
            self.note(changed);
            self.needed(step.whole, Needed::Slices);
        })
        .await;
    }

    async fn nodes(&self) {
        let known = self
            .remembered
            .nodes
            .keys()
            .map(|name| (String::new(), name.clone()));
        let api = Api::<Node>::all(self.client.clone());
        self.follow(api, watcher::Config::default(), Listing::of(known), |step| {
            let mut changed = false;
            self.resolver.change(|table| {
                for (_, name) in &step.gone {
                    changed |= table.remove_node(name);
                }
                if let Some(found) = step.put {
                    changed |= table.put_node(object::key(found.meta()).1, object::node(&found));
                }
            });
            self.note(changed);
            self.needed(step.whole, Needed::Nodes);
        })
        .await;
    }

    /// The pods of this node: what their resolvers search.
    async fn pods(&self) {
        let api = Api::<Pod>::all(self.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node));
        self.follow(api, config, Listing::default(), |step| {
            self.resolver.change_searches(|searches| {
                for key in &step.gone {
                    searches.remove(key);
                }
                if let Some(found) = step.put {
                    let key = object::key(found.meta());
                    match object::searches(&found, &self.domain, &self.control.searches()) {
                        Some((addresses, list)) => searches.put(key, addresses, list),
                        None => searches.remove(&key),
                    }
                }
            });
        })
        .await;
    }

    async fn settings(&self) {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), SETTINGS_NAMESPACE);
        let config = watcher::Config::default().fields(&format!("metadata.name={SETTINGS}"));
        let mut known = false;
        self.follow(api, config, Listing::default(), |step| {
            if let Some(object) = step.put {
                known = true;
                self.set(object.data.clone().unwrap_or_default(), Some(&object));
            } else if !step.gone.is_empty() || (step.whole && !known) {
                // It is gone, or there is none although there was one the last time.
                known = true;
                self.set(BTreeMap::new(), None);
            }
        })
        .await;
    }

    fn set(&self, data: BTreeMap<String, String>, object: Option<&ConfigMap>) {
        let (changed, mistakes) = self.control.set(data);
        if let Some(object) = object {
            self.complaints.about(object, &mistakes);
        }
        self.note(changed);
    }

    /// Takes a kind's changes in until the shutdown, however often the API goes away.
    async fn follow<K>(
        &self,
        api: Api<K>,
        config: watcher::Config,
        mut listing: Listing,
        mut take: impl FnMut(Step<K>),
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut events = pin!(watcher::watcher(api, config.any_semantic()));
        let mut pause = RETRY_FIRST;
        loop {
            let event = tokio::select! {
                () = self.shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    pause = RETRY_FIRST;
                    self.answers();
                    take(listing.step(event));
                }
                Some(Err(error)) => {
                    self.is_away(&error);
                    tokio::select! {
                        () = self.shutdown.cancelled() => return,
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_LAST),
                    }
                }
                // The stream has no end of its own.
                None => return,
            }
        }
    }

    fn answers(&self) {
        let since = self.away.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(since) = since {
            tracing::info!(seconds = since.elapsed().as_secs(), "the API answers again");
        }
    }

    fn is_away(&self, error: &watcher::Error) {
        tracing::debug!(%error, "watching");
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if away.is_none() {
            *away = Some(Instant::now());
            tracing::warn!(%error, "the API doesn't answer: names are told as they were, and it is tried again");
        }
    }

    fn note(&self, changed: bool) {
        if changed {
            self.changed.notify_one();
        }
    }

    /// Once all that names are made of was read, they are known.
    fn needed(&self, whole: bool, kind: Needed) {
        if !whole {
            return;
        }
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if listed.contains(&kind) {
            return;
        }
        listed.push(kind);
        if listed.len() == NEEDED {
            let first = self.resolver.set_known();
            tracing::info!(first, "the cluster's names are known");
            self.changed.notify_one();
        }
    }
}

fn keys<T>(list: &[(Key, T)]) -> Vec<Key> {
    list.iter().map(|(key, _)| key.clone()).collect()
}
