//! Records Events, as `kubectl describe` shows them, without flooding the server.
//!
//! Recording never waits: events go through a bounded channel to one task that writes them. On the
//! way they are correlated: the same event again raises the count of the first; many that differ
//! only in their message are combined into one; and an object that goes on and on is cut off.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Events that wait to be written; more are dropped, for they are advice and not state.
const BACKLOG: usize = 4096;
/// How long an event counts as the same as one before.
const WINDOW: Duration = Duration::from_secs(600);
/// This many different messages of one kind are written out before they are combined.
const DISTINCT_MESSAGES: usize = 10;
/// Writes about one object at once, and how fast further ones are allowed.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);
/// Correlation keeps this many entries of each kind at most.
const MEMORY: usize = 4096;

/// Whether an event is news or a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Things go as they should.
    Normal,
    /// Something may need attention.
    Warning,
}

impl EventType {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

#[derive(Debug, Clone)]
struct Record {
    component: &'static str,
    object: ObjectReference,
    kind: EventType,
    reason: &'static str,
    message: String,
}

/// Records events for one component. Clones share one writer.
#[derive(Debug, Clone)]
pub struct Recorder {
    component: &'static str,
    sender: mpsc::Sender<Record>,
}

impl Recorder {
    /// Starts the writer, which stops with `shutdown`.
    #[must_use]
    pub fn spawn(client: Client, component: &'static str, shutdown: CancellationToken) -> Self {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(write_all(client, receiver, shutdown));
        Self { component, sender }
    }

    /// The same writer in the name of another component.
    #[must_use]
    pub fn named(&self, component: &'static str) -> Self {
        Self {
            component,
            sender: self.sender.clone(),
        }
    }

    /// Records that something happened to an object.
    pub fn event<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        kind: EventType,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let record = Record {
            component: self.component,
            object: object.object_ref(&()),
            kind,
            reason,
            message: message.into(),
        };
        if self.sender.try_send(record).is_err() {
            debug!(reason, "event dropped: the backlog is full");
        }
    }
}

async fn write_all(client: Client, mut records: mpsc::Receiver<Record>, shutdown: CancellationToken) {
    let mut correlator = Correlator::default();
    loop {
        let record = tokio::select! {
            () = shutdown.cancelled() => return,
            record = records.recv() => record,
        };
        let Some(record) = record else { return };
        let Some(write) = correlator.correlate(&record, Instant::now(), Timestamp::now()) else {
            continue;
        };
        if let Err(error) = send(&client, &record, &write).await {
            debug!(reason = record.reason, %error, "event not recorded");
        }
    }
}

async fn send(client: &Client, record: &Record, write: &Write) -> Result<(), kube::Error> {
    let namespace = record.object.namespace.as_deref().unwrap_or("default");
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    if write.count > 1 {
        let patch = json!({
            "count": write.count,
            "lastTimestamp": Time(write.last),
            "message": write.message,
        });
        let patched = api
            .patch(&write.name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        match patched {
            // The server lets events expire.
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            other => return other.map(drop),
        }
    }
    let event = new_event(record, write, namespace);
    api.create(&PostParams::default(), &event).await.map(drop)
}

fn new_event(record: &Record, write: &Write, namespace: &str) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(write.name.clone()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: record.object.clone(),
        reason: Some(record.reason.to_owned()),
        message: Some(write.message.clone()),
        type_: Some(record.kind.name().to_owned()),
        count: Some(write.count),
        first_timestamp: Some(Time(write.first)),
        last_timestamp: Some(Time(write.last)),
        source: Some(EventSource {
            component: Some(record.component.to_owned()),
            host: None,
        }),
        reporting_component: Some(record.component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    }
}

/// Everything but the message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Class {
    component: &'static str,
    object: Subject,
    kind: EventType,
    reason: &'static str,
}

/// An object, by what tells it from others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Subject {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

impl Subject {
    fn of(object: &ObjectReference) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Self {
            kind: text(&object.kind),
            namespace: text(&object.namespace),
            name: text(&object.name),
            uid: text(&object.uid),
        }
    }
}

/// An event as it is to stand on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    name: String,
    message: String,
    count: i32,
    first: Timestamp,
    last: Timestamp,
}

/// Decides what becomes of each event.
#[derive(Debug, Default)]
struct Correlator {
    messages: HashMap<Class, (HashSet<String>, Instant)>,
    written: HashMap<(Class, String), (Write, Instant)>,
    allowance: HashMap<(&'static str, Subject), (f64, Instant)>,
}

impl Correlator {
    fn correlate(&mut self, record: &Record, now: Instant, time: Timestamp) -> Option<Write> {
        let subject = Subject::of(&record.object);
        if !self.allowed(record.component, &subject, now) {
            return None;
        }
        let class = Class {
            component: record.component,
            object: subject,
            kind: record.kind,
            reason: record.reason,
        };
        self.forget_old(now);
        let combined = self.is_one_of_many(&class, &record.message, now);
        let (identity, message) = if combined {
            let message = format!("(combined from similar events): {}", record.message);
            (String::new(), message)
        } else {
            (record.message.clone(), record.message.clone())
        };
        let entry = self.written.entry((class, identity));
        let (write, seen) = entry.or_insert_with(|| {
            let object_name = record.object.name.as_deref().unwrap_or_default();
            let write = Write {
                name: format!("{object_name}.{:016x}", rand::random::<u64>()),
                message: String::new(),
                count: 0,
                first: time,
                last: time,
            };
            (write, now)
        });
        write.count = write.count.saturating_add(1);
        write.last = time;
        write.message = message;
        *seen = now;
        Some(write.clone())
    }

    fn is_one_of_many(&mut self, class: &Class, message: &str, now: Instant) -> bool {
        let entry = self.messages.entry(class.clone());
        let (messages, since) = entry.or_insert_with(|| (HashSet::new(), now));
        if now.duration_since(*since) > WINDOW {
            messages.clear();
        }
        *since = now;
        if messages.contains(message) {
            return false;
        }
        if messages.len() >= DISTINCT_MESSAGES {
            return true;
        }
        messages.insert(message.to_owned());
        false
    }

    /// A token bucket for each object.
    fn allowed(&mut self, component: &'static str, subject: &Subject, now: Instant) -> bool {
        let entry = self.allowance.entry((component, subject.clone()));
        let (tokens, since) = entry.or_insert((BURST, now));
        let refill = now.duration_since(*since).as_secs_f64() / REFILL.as_secs_f64();
        *tokens = (*tokens + refill).min(BURST);
        *since = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }

    fn forget_old(&mut self, now: Instant) {
        let fresh = |since: Instant| now.duration_since(since) <= WINDOW;
        if self.written.len() >= MEMORY {
            self.written.retain(|_, (_, since)| fresh(*since));
            if self.written.len() >= MEMORY {
                self.written.clear();
            }
        }
        if self.messages.len() >= MEMORY {
            self.messages.retain(|_, (_, since)| fresh(*since));
            if self.messages.len() >= MEMORY {
                self.messages.clear();
            }
        }
        if self.allowance.len() >= MEMORY {
            let full = REFILL * 25;
            self.allowance
                .retain(|_, (_, since)| now.duration_since(*since) < full);
            if self.allowance.len() >= MEMORY {
                self.allowance.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(object: &str, message: &str) -> Record {
        Record {
            component: "test",
            object: ObjectReference {
                name: Some(object.to_owned()),
                ..ObjectReference::default()
            },
            kind: EventType::Normal,
            reason: "Tested",
            message: message.to_owned(),
        }
    }

    struct Clock(Correlator, Instant);

    impl Clock {
        fn new() -> Self {
            Self(Correlator::default(), Instant::now())
        }

        fn hear(&mut self, record: &Record) -> Option<Write> {
            self.0.correlate(record, self.1, Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn the_same_event_again_raises_the_count_of_the_first() {
        let mut clock = Clock::new();
        let first = clock.hear(&record("a", "x")).unwrap();
        let other = clock.hear(&record("b", "x")).unwrap();
        let again = clock.hear(&record("a", "x")).unwrap();
        assert_eq!((first.count, other.count, again.count), (1, 1, 2));
        assert_eq!(first.name, again.name);
        assert_ne!(first.name, other.name);
    }

    #[test]
    fn many_different_messages_are_combined() {
        let mut clock = Clock::new();
        let writes: Vec<_> = (0..14)
            .map(|n| clock.hear(&record("a", &n.to_string())).unwrap())
            .collect();
        let names: HashSet<_> = writes.iter().map(|write| &write.name).collect();
        assert_eq!(names.len(), DISTINCT_MESSAGES + 1);
        assert_eq!(writes[13].count, 4);
        assert_eq!(writes[13].message, "(combined from similar events): 13");
    }

    #[test]
    fn an_object_that_goes_on_and_on_is_cut_off_for_a_while() {
        let mut clock = Clock::new();
        let heard = |clock: &mut Clock| clock.hear(&record("a", "x")).is_some();
        assert_eq!((0..100).filter(|_| heard(&mut clock)).count(), 25);
        clock.1 += REFILL;
        assert!(heard(&mut clock));
        assert!(!heard(&mut clock));
        assert!(clock.hear(&record("b", "x")).is_some(), "others are not affected");
    }

    #[test]
    fn memory_is_bounded() {
        let mut clock = Clock::new();
        for n in 0..3 * MEMORY {
            clock.hear(&record(&n.to_string(), "x"));
        }
        let Correlator {
            messages,
            written,
            allowance,
        } = &clock.0;
        assert!(messages.len() <= MEMORY && written.len() <= MEMORY);
        assert!(allowance.len() <= MEMORY + 1);
    }
}
