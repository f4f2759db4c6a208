//! What of Services can't be used, told in Events on them: `kubectl describe service` shows it.
//!
//! ```text
//! Services as the API has them ─► problems ─┐
//!                                           ├─► Complaints ── what is new ──► one Event for all nodes
//! Services' parts of the plan ──► notes ────┘
//! ```
//!
//! Every node finds the same. An Event's name follows from what it says of which Service, so that whoever writes
//! it first has written it for all.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{PartialObjectMeta, PostParams};
use kube::{Api, Client, Resource};
use model::ServiceName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Complaints that wait to be written; more are in the log alone.
const BACKLOG: usize = 256;
/// How often writing one is tried, and after how long again.
const TRIES: u32 = 10;
const RETRY: Duration = Duration::from_secs(3);
const REASON: &str = "CannotBeUsed";

/// Where something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// In the Service itself.
    Object,
    /// When it was planned.
    Plan,
}

/// One thing that can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    service: ServiceName,
    text: String,
}

/// What was found last of each Service.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    writer: Option<mpsc::Sender<Complaint>>,
    found: HashMap<(ServiceName, Source), Vec<String>>,
}

impl Complaints {
    /// Those that are told in Events, too, by [`write`] with the other end.
    pub(crate) fn with_writer() -> (Complaints, mpsc::Receiver<Complaint>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let complaints = Complaints {
            writer: Some(sender),
            ..Complaints::default()
        };
        (complaints, receiver)
    }

    /// Takes in all that there is to say now, and tells what wasn't said the last time.
    pub(crate) fn find(&mut self, service: &ServiceName, source: Source, texts: Vec<String>) {
        if texts.is_empty() && self.found.is_empty() {
            return;
        }
        let key = (service.clone(), source);
        let before = match texts.is_empty() {
            true => self.found.remove(&key),
            false => self.found.insert(key, texts.clone()),
        };
        let before = before.unwrap_or_default();
        for text in texts.into_iter().filter(|text| !before.contains(text)) {
            warn!(%service, problem = text, "a part of a Service can't be used");
            let Some(writer) = &self.writer else { continue };
            let service = service.clone();
            if writer.try_send(Complaint { service, text }).is_err() {
                debug!("too many complaints for Events");
            }
        }
    }

    /// A Service is gone.
    pub(crate) fn forget(&mut self, service: &ServiceName) {
        for source in [Source::Object, Source::Plan] {
            self.found.remove(&(service.clone(), source));
        }
    }
}

/// Writes Events until `shutdown`.
pub(crate) async fn write(
    client: Client,
    node: String,
    mut complaints: mpsc::Receiver<Complaint>,
    shutdown: CancellationToken,
) {
    loop {
        let complaint = tokio::select! {
            () = shutdown.cancelled() => return,
            complaint = complaints.recv() => match complaint {
                Some(complaint) => complaint,
                None => return,
            },
        };
        for _ in 0..TRIES {
            let Err(error) = write_one(&client, &node, &complaint).await else {
                break;
            };
            debug!(%error, service = %complaint.service, "an Event can't be written");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}

async fn write_one(client: &Client, node: &str, complaint: &Complaint) -> Result<(), kube::Error> {
    let ServiceName { namespace, name } = &complaint.service;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let Some(service) = services.get_metadata_opt(name).await? else {
        return Ok(());
    };
    let event = event(&service, node, &complaint.text, Time(Timestamp::now()));
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    match events.create(&PostParams::default(), &event).await {
        // Another node has said it.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

fn event(service: &PartialObjectMeta<Service>, node: &str, text: &str, now: Time) -> Event {
    let meta = &service.metadata;
    // Nodes of another build may hash otherwise, and say it once more.
    let mut hasher = DefaultHasher::new();
    (&meta.uid, text).hash(&mut hasher);
    let name = meta.name.as_deref().unwrap_or_default();
    let mut about = service.object_ref(&());
    (about.api_version, about.kind) = (Some("v1".to_owned()), Some("Service".to_owned()));
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:016x}", hasher.finish())),
            namespace: meta.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: about,
        reason: Some(REASON.to_owned()),
        message: Some(text.to_owned()),
        type_: Some("Warning".to_owned()),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource {
            component: Some("ripstop-agent".to_owned()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some("ripstop-agent".to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(receiver: &mut mpsc::Receiver<Complaint>) -> Vec<String> {
        let texts = std::iter::from_fn(|| receiver.try_recv().ok());
        texts
            .map(|complaint| format!("{} {}", complaint.service, complaint.text))
            .collect()
    }

    #[test]
    fn what_is_new_is_told_once() {
        let (mut complaints, mut receiver) = Complaints::with_writer();
        let service = ServiceName::new("shop", "web");
        let mut find = |source, texts: &[&str]| {
            let texts = texts.iter().map(|text| (*text).to_owned()).collect();
            complaints.find(&service, source, texts);
            told(&mut receiver)
        };
        assert_eq!(find(Source::Object, &["a"]), ["shop/web a"]);
        assert_eq!(find(Source::Object, &["a", "b"]), ["shop/web b"]);
        assert_eq!(find(Source::Plan, &["c"]), ["shop/web c"]);
        assert_eq!(find(Source::Object, &["a", "b"]), [""; 0]);
        assert_eq!(find(Source::Object, &[]), [""; 0]);
        assert_eq!(
            find(Source::Object, &["a"]),
            ["shop/web a"],
            "it was mended meanwhile"
        );
        complaints.forget(&service);
        complaints.find(&service, Source::Plan, vec!["c".to_owned()]);
        assert_eq!(told(&mut receiver), ["shop/web c"], "another one of that name");
    }

    #[test]
    fn an_events_name_is_the_same_whichever_node_writes_it() {
        let service = |uid: &str| PartialObjectMeta::<Service> {
            metadata: ObjectMeta {
                name: Some("web".to_owned()),
                namespace: Some("shop".to_owned()),
                uid: Some(uid.to_owned()),
                ..ObjectMeta::default()
            },
            ..PartialObjectMeta::default()
        };
        let of = |uid, node, text| event(&service(uid), node, text, Time(Timestamp::UNIX_EPOCH));
        let name = |event: Event| event.metadata.name;
        assert_eq!(name(of("1", "a", "x")), name(of("1", "b", "x")));
        assert_ne!(name(of("1", "a", "x")), name(of("1", "a", "y")));
        assert_ne!(
            name(of("1", "a", "x")),
            name(of("2", "a", "x")),
            "another Service of that name"
        );
        let about = of("1", "a", "x").involved_object;
        assert_eq!(
            (about.kind.as_deref(), about.uid.as_deref()),
            (Some("Service"), Some("1"))
        );
    }
}
