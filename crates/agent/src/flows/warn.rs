//! An Event on a pod whose packets policies drop: `kubectl describe pod` shows it.
//!
//! A pod has one in [`AGAIN`], and all of a node's pods together so many: a flood of packets is no flood of
//! Events.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client};
use model::{Direction, Flow, FlowEnd};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How often a pod may have one.
const AGAIN: Duration = Duration::from_secs(300);
/// How many all pods may have in a minute.
const A_MINUTE: usize = 30;
/// How many pods are remembered.
const REMEMBERED: usize = 1024;

/// What decides who is told.
#[derive(Debug, Default)]
struct Pace {
    told: HashMap<(String, Direction), Instant>,
    minute: Option<(Instant, usize)>,
}

impl Pace {
    /// Whether that pod may be told now.
    fn allows(&mut self, pod: &str, direction: Direction, now: Instant) -> bool {
        let key = (pod.to_owned(), direction);
        if self.told.get(&key).is_some_and(|told| now - *told < AGAIN) {
            return false;
        }
        let (since, count) = match self.minute {
            Some((since, count)) if now - since < Duration::from_secs(60) => (since, count),
            _ => (now, 0),
        };
        if count == A_MINUTE {
            return false;
        }
        self.minute = Some((since, count + 1));
        if self.told.len() == REMEMBERED {
            self.told.retain(|_, told| now - *told < AGAIN);
        }
        if self.told.len() < REMEMBERED {
            self.told.insert(key, now);
        }
        true
    }
}

/// Writes Events about drops until `shutdown`.
pub(crate) async fn warn_pods(client: Client, mut drops: mpsc::Receiver<Flow>, shutdown: CancellationToken) {
    let mut pace = Pace::default();
    loop {
        let flow = tokio::select! {
            () = shutdown.cancelled() => return,
            flow = drops.recv() => match flow {
                Some(flow) => flow,
                None => return,
            },
        };
        let Some((pod, direction, text)) = message(&flow) else {
            continue;
        };
        if pace.allows(&pod, direction, Instant::now())
            && let Err(error) = write(&client, &flow.node, &pod, text).await
        {
            debug!(%error, pod, "an Event about a drop couldn't be written");
        }
    }
}

/// Which pod's policies dropped it, and what to tell.
fn message(flow: &Flow) -> Option<(String, Direction, String)> {
    let direction = flow.denied?;
    let receiver = flow.endpoint.as_ref().unwrap_or(&flow.destination);
    let (own, other) = match direction {
        Direction::Ingress => (receiver, &flow.source),
        Direction::Egress => (&flow.source, receiver),
    };
    let pod = own.pod.clone()?;
    let policies: Vec<&str> = flow
        .policies
        .iter()
        .map(|policy| policy.policy.as_str())
        .collect();
    let by = match policies.as_slice() {
        [] => "nothing is known of the pod yet".to_owned(),
        [one] => format!("no {direction} rule of NetworkPolicy {one} allows it"),
        several => format!(
            "no {direction} rule of NetworkPolicies {} allows it",
            several.join(", ")
        ),
    };
    let what = what(&flow.protocol, receiver);
    let way = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let text = format!("A packet {way} {}{what} was dropped: {by}", who(other));
    Some((pod, direction, text))
}

/// Without the port, which is the sender's own.
fn who(end: &FlowEnd) -> String {
    let end = FlowEnd {
        port: 0,
        ..end.clone()
    };
    format!("{end} ({})", end.address).replace(&format!("{0} ({0})", end.address), &end.address.to_string())
}

fn what(protocol: &str, receiver: &FlowEnd) -> String {
    match receiver.port {
        0 => format!(" ({protocol})"),
        port => format!(" for port {port}/{protocol}"),
    }
}

async fn write(client: &Client, node: &str, pod: &str, text: String) -> Result<(), kube::Error> {
    let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), namespace);
    let about = pods.get_metadata(name).await?;
    let now = Time(Timestamp::now());
    let event = Event {
        metadata: ObjectMeta {
            // As everybody names them: no other Event about it is of the same moment.
            name: Some(format!("{name}.{:x}", now.0.as_nanosecond())),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            uid: about.metadata.uid,
            ..ObjectReference::default()
        },
        reason: Some("NetworkPolicyDrop".to_owned()),
        message: Some(text),
        type_: Some("Warning".to_owned()),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource {
            component: Some("ripstop".to_owned()),
            host: Some(node.to_owned()),
        }),
        ..Event::default()
    };
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    events.create(&PostParams::default(), &event).await.map(drop)
}

#[cfg(test)]
mod tests {
    use model::{FlowEvent, FlowPolicy};

    use super::*;

    fn end(address: &str, port: u16, pod: Option<&str>) -> FlowEnd {
        FlowEnd {
            address: address.parse().expect("an address"),
            port,
            pod: pod.map(str::to_owned),
            service: None,
            node: None,
        }
    }

    fn flow(denied: Direction, policies: &[&str]) -> Flow {
        let policy = |policy: &&str| FlowPolicy {
            direction: denied,
            policy: (*policy).to_owned(),
            rule: None,
        };
        Flow {
            time: String::new(),
            node: "a".to_owned(),
            event: FlowEvent::Dropped,
            protocol: "tcp".to_owned(),
            source: end("10.244.0.2", 40000, Some("shop/web")),
            destination: end("10.244.1.2", 6379, Some("redis/db")),
            endpoint: None,
            denied: Some(denied),
            policies: policies.iter().map(policy).collect(),
        }
    }

    #[test]
    fn the_pod_whose_policy_it_is_is_told_which_one() {
        let (pod, _, text) = message(&flow(Direction::Ingress, &["redis/database"])).expect("a message");
        assert_eq!(pod, "redis/db");
        assert_eq!(
            text,
            "A packet from shop/web (10.244.0.2) for port 6379/tcp was dropped: \
             no ingress rule of NetworkPolicy redis/database allows it"
        );
        let (pod, _, text) = message(&flow(Direction::Egress, &["shop/a", "shop/b"])).expect("a message");
        assert_eq!(pod, "shop/web");
        assert!(text.starts_with("A packet to redis/db (10.244.1.2)"), "{text}");
        assert!(
            text.ends_with("no egress rule of NetworkPolicies shop/a, shop/b allows it"),
            "{text}"
        );
        let mut outside = flow(Direction::Ingress, &["redis/database"]);
        outside.source = end("192.0.2.1", 40000, None);
        let (_, _, text) = message(&outside).expect("a message");
        assert!(text.starts_with("A packet from 192.0.2.1 for port"), "{text}");
    }

    #[test]
    fn a_flood_of_drops_is_no_flood_of_events() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert!(pace.allows("a/b", Direction::Ingress, now));
        assert!(!pace.allows("a/b", Direction::Ingress, now + AGAIN / 2));
        assert!(pace.allows("a/b", Direction::Ingress, now + AGAIN));
        let mut pace = Pace::default();
        let allowed = (0..5000).filter(|n| pace.allows(&format!("a/{n}"), Direction::Egress, now));
        assert_eq!(allowed.count(), A_MINUTE);
        let later = now + Duration::from_secs(60);
        assert!(pace.allows("a/later", Direction::Egress, later));
        for minute in 0..200 {
            let at = later + Duration::from_secs(61 * minute);
            for n in 0..5000 {
                pace.allows(&format!("{minute}/{n}"), Direction::Egress, at);
            }
        }
        assert!(pace.told.len() <= REMEMBERED);
    }
}
