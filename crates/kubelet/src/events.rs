//! Events: what happened to a pod or the node, for `kubectl describe`.
//!
//! Writing them never holds anything up: they go through a bounded queue to
//! one task, repeats become a count on the first, and an object that repeats
//! itself without end is slowed down.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;

use crate::pod::{self, PodKey};
use crate::retry::Growing;

/// How many events wait when the API server is away; more are dropped.
const QUEUE: usize = 512;
/// How many events are remembered, so as to count their repeats.
const REMEMBERED: usize = 1024;
/// How many events an object may have in a burst, and how soon it earns more.
const BURST: f64 = 25.0;
const EARN_EVERY: Duration = Duration::from_secs(300);
/// How often an event is sent before it is given up.
const ATTEMPTS: usize = 6;

/// What an event is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct About(ObjectReference);

impl About {
    pub(crate) fn pod(pod: &Pod) -> Self {
        Self(PodKey::of(pod).reference(None))
    }

    pub(crate) fn container(pod: &Pod, name: &str) -> Self {
        Self(PodKey::of(pod).reference(pod::field_path(pod, name)))
    }

    pub(crate) fn node(name: &str) -> Self {
        Self(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            // Kubernetes' own events about nodes have the name here, and
            // `kubectl describe node` looks for it.
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        })
    }
}

struct Entry {
    about: About,
    kind: &'static str,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Where events are dropped off. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder(mpsc::Sender<Entry>);

impl Recorder {
    /// A recorder, and the task that writes what it records.
    pub(crate) fn new(client: kube::Client, node: String) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Writer {
            client,
            node,
            known: HashMap::new(),
            order: VecDeque::new(),
            budgets: HashMap::new(),
        };
        (Self(sender), writer.run(receiver))
    }

    pub(crate) fn normal(&self, about: &About, reason: &'static str, message: impl Into<String>) {
        self.record(about, "Normal", reason, message.into());
    }

    pub(crate) fn warning(&self, about: &About, reason: &'static str, message: impl Into<String>) {
        self.record(about, "Warning", reason, message.into());
    }

    fn record(&self, about: &About, kind: &'static str, reason: &'static str, message: String) {
        tracing::debug!(object = ?about.0.name, reason, message, "event");
        let entry = Entry {
            about: about.clone(),
            kind,
            reason,
            message,
            at: Timestamp::now(),
        };
        // A full queue means the API server is away: events are the least of it.
        self.0.try_send(entry).ok();
    }
}

/// Events with the same key are one event, with a count.
type Key = (String, String, &'static str, String);

struct Written {
    name: String,
    count: i32,
}

struct Writer {
    client: kube::Client,
    node: String,
    known: HashMap<Key, Written>,
    order: VecDeque<Key>,
    budgets: HashMap<String, Budget>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Entry>) {
        while let Some(entry) = receiver.recv().await {
            if !self.affordable(&entry) {
                continue;
            }
            let mut growing = Growing::for_requests();
            for _ in 0..ATTEMPTS {
                match self.write(&entry).await {
                    Ok(()) => break,
                    // The server refuses it (a namespace that is going, say): so be it.
                    Err(kube::Error::Api(_)) => break,
                    Err(_) => tokio::time::sleep(growing.delay()).await,
                }
            }
        }
    }

    fn affordable(&mut self, entry: &Entry) -> bool {
        if self.budgets.len() > REMEMBERED {
            self.budgets.retain(|_, budget| !budget.is_full());
        }
        let object = entry.about.0.uid.clone().unwrap_or_default();
        self.budgets.entry(object).or_default().spend()
    }

    async fn write(&mut self, entry: &Entry) -> Result<(), kube::Error> {
        let about = &entry.about.0;
        // Events about what has no namespace are in "default".
        let namespace = about.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let key: Key = (
            about.uid.clone().unwrap_or_default(),
            about.field_path.clone().unwrap_or_default(),
            entry.reason,
            entry.message.clone(),
        );
        if let Some(written) = self.known.get_mut(&key) {
            let count = written.count + 1;
            let patch = json!({"count": count, "lastTimestamp": Time(entry.at)});
            match api
                .patch(&written.name, &PatchParams::default(), &Patch::Merge(patch))
                .await
            {
                Ok(_) => {
                    written.count = count;
                    return Ok(());
                }
                // It has expired: write it anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    self.known.remove(&key);
                }
                Err(error) => return Err(error),
            }
        }
        let event = self.event(entry, namespace);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        self.remember(key, name);
        Ok(())
    }

    fn remember(&mut self, key: Key, name: String) {
        self.known.insert(key.clone(), Written { name, count: 1 });
        self.order.push_back(key);
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    fn event(&self, entry: &Entry, namespace: &str) -> Event {
        let about = &entry.about.0;
        let name = about.name.as_deref().unwrap_or_default();
        let stamp = entry.at.as_nanosecond();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{stamp:x}")),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: about.clone(),
            type_: Some(entry.kind.to_owned()),
            reason: Some(entry.reason.to_owned()),
            message: Some(entry.message.clone()),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node.clone()),
            }),
            first_timestamp: Some(Time(entry.at)),
            last_timestamp: Some(Time(entry.at)),
            count: Some(1),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node.clone()),
            ..Event::default()
        }
    }
}

/// What an object may still say.
struct Budget {
    left: f64,
    since: Instant,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: BURST,
            since: Instant::now(),
        }
    }
}

impl Budget {
    fn earn(&mut self) {
        let earned = self.since.elapsed().as_secs_f64() / EARN_EVERY.as_secs_f64();
        self.left = (self.left + earned).min(BURST);
        self.since = Instant::now();
    }

    fn is_full(&mut self) -> bool {
        self.earn();
        self.left >= BURST
    }

    fn spend(&mut self) -> bool {
        self.earn();
        let affordable = self.left >= 1.0;
        if affordable {
            self.left -= 1.0;
        }
        affordable
    }
}

/// A recorder that nobody reads.
#[cfg(test)]
pub(crate) fn tests_sink() -> Recorder {
    Recorder(mpsc::channel(1).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_never_stops_talking_is_slowed_down() {
        let mut budget = Budget::default();
        let spent = (0..100).filter(|_| budget.spend()).count();
        assert_eq!(spent, 25);
        assert!(!budget.is_full());
    }
}
