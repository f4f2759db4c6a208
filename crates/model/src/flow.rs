//! Conversations as people are told of them: one line each time that one begins, ends or loses a packet to a
//! policy.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::Direction;

/// Something that happened to a conversation on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// When: RFC 3339 in UTC, always with six digits of the second's fraction, so that texts are in order of
    /// time.
    pub time: String,
    /// The node that saw it.
    pub node: String,
    /// What happened.
    pub event: FlowEvent,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6`, or IP's number.
    pub protocol: String,
    /// Who sent the packet.
    pub source: FlowEnd,
    /// Whom it was for, as its sender knows it.
    pub destination: FlowEnd,
    /// The endpoint in place of a Service's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<FlowEnd>,
    /// Of a packet that was dropped: whether it mayn't come to its receiver or leave its sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Direction>,
    /// What decided: the rules that allow it, or the policies of which no rule does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<FlowPolicy>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowEvent {
    /// It began.
    New,
    /// A side ended it.
    Closed,
    /// A packet was dropped.
    Dropped,
}

/// A side of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowEnd {
    /// Its address.
    pub address: IpAddr,
    /// Its port; zero where there are none.
    pub port: u16,
    /// `NAMESPACE/NAME` of the pod that has the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// `NAMESPACE/NAME` of the Service that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The node that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// A policy's part in what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowPolicy {
    /// As seen from the pod that the policy selects.
    pub direction: Direction,
    /// `NAMESPACE/NAME`.
    pub policy: String,
    /// The number of the rule that allows it, as it stands in the policy; none if no rule does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
}

/// Which flows somebody wants to see. Without wishes: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Those of pods and Services in this namespace.
    pub namespace: Option<String>,
    /// Those of pods of this name.
    pub pod: Option<String>,
    /// Those with this port on either side.
    pub port: Option<u16>,
    /// Only what was dropped.
    pub dropped: bool,
}

impl FlowFilter {
    /// Whether it's wanted.
    pub fn matches(&self, flow: &Flow) -> bool {
        let ends = || {
            [
                Some(&flow.source),
                Some(&flow.destination),
                flow.endpoint.as_ref(),
            ]
            .into_iter()
            .flatten()
        };
        let names = |end: &FlowEnd| -> Vec<(String, String, bool)> {
            let split = |name: &Option<String>, is_pod| {
                let (namespace, name) = name.as_deref()?.split_once('/')?;
                Some((namespace.to_owned(), name.to_owned(), is_pod))
            };
            [split(&end.pod, true), split(&end.service, false)]
                .into_iter()
                .flatten()
                .collect()
        };
        let wanted = |namespace: &str, name: &str, is_pod: bool| {
            let of_namespace = self.namespace.as_deref().is_none_or(|wanted| wanted == namespace);
            let of_pod = self.pod.as_deref().is_none_or(|wanted| is_pod && wanted == name);
            of_namespace && of_pod
        };
        let is_anyones = self.namespace.is_none() && self.pod.is_none();
        (!self.dropped || flow.event == FlowEvent::Dropped)
            && self.port.is_none_or(|port| ends().any(|end| end.port == port))
            && (is_anyones
                || ends().any(|end| {
                    names(end)
                        .iter()
                        .any(|(namespace, name, is_pod)| wanted(namespace, name, *is_pod))
                }))
    }
}

/// `shop/web`, or what else is known: a Service, a node, the address alone; with the port.
impl fmt::Display for FlowEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match (&self.pod, &self.service, &self.node) {
            (Some(pod), ..) => Some(pod.clone()),
            (None, Some(service), _) => Some(format!("svc {service}")),
            (None, None, Some(node)) => Some(format!("node {node}")),
            (None, None, None) => None,
        };
        match (name, self.port) {
            (Some(name), 0) => f.write_str(&name),
            (Some(name), port) => write!(f, "{name}:{port}"),
            (None, 0) => write!(f, "{}", self.address),
            (None, port) => write!(f, "{}", SocketAddr::new(self.address, port)),
        }
    }
}

impl fmt::Display for FlowEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FlowEvent::New => "new",
            FlowEvent::Closed => "closed",
            FlowEvent::Dropped => "dropped",
        })
    }
}

/// `ingress shop/db rule 0`, or `ingress shop/db: no rule`.
impl fmt::Display for FlowPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FlowPolicy {
            direction,
            policy,
            rule,
        } = self;
        match rule {
            Some(rule) => write!(f, "{direction} {policy} rule {rule}"),
            None => write!(f, "{direction} {policy}: no rule"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(address: &str, port: u16, pod: Option<&str>, service: Option<&str>) -> FlowEnd {
        FlowEnd {
            address: address.parse().expect("an address"),
            port,
            pod: pod.map(str::to_owned),
            service: service.map(str::to_owned),
            node: None,
        }
    }

    fn flow() -> Flow {
        Flow {
            time: "2026-05-07T09:30:00.000001Z".to_owned(),
            node: "node-1".to_owned(),
            event: FlowEvent::Dropped,
            protocol: "tcp".to_owned(),
            source: end("10.244.0.2", 40000, Some("shop/web"), None),
            destination: end("10.96.0.20", 80, None, Some("data/db")),
            endpoint: Some(end("10.244.1.2", 6379, Some("data/db-0"), None)),
            denied: Some(Direction::Ingress),
            policies: vec![FlowPolicy {
                direction: Direction::Ingress,
                policy: "data/db".to_owned(),
                rule: None,
            }],
        }
    }

    #[test]
    fn a_filter_wants_what_has_all_that_it_names() {
        let filter = FlowFilter::default;
        let some = |text: &str| Some(text.to_owned());
        assert!(filter().matches(&flow()));
        assert!(
            FlowFilter {
                namespace: some("data"),
                ..filter()
            }
            .matches(&flow())
        );
        assert!(
            !FlowFilter {
                namespace: some("other"),
                ..filter()
            }
            .matches(&flow())
        );
        assert!(
            FlowFilter {
                pod: some("db-0"),
                ..filter()
            }
            .matches(&flow())
        );
        assert!(
            !FlowFilter {
                pod: some("db"),
                ..filter()
            }
            .matches(&flow()),
            "that is a Service"
        );
        // A name counts in its own namespace.
        let both = |namespace, pod| FlowFilter {
            namespace: some(namespace),
            pod: some(pod),
            ..filter()
        };
        assert!(both("shop", "web").matches(&flow()) && !both("data", "web").matches(&flow()));
        assert!(
            FlowFilter {
                port: Some(6379),
                dropped: true,
                ..filter()
            }
            .matches(&flow())
        );
        assert!(
            !FlowFilter {
                port: Some(443),
                ..filter()
            }
            .matches(&flow())
        );
        let began = Flow {
            event: FlowEvent::New,
            ..flow()
        };
        assert!(
            !FlowFilter {
                dropped: true,
                ..filter()
            }
            .matches(&began)
        );
    }

    #[test]
    fn ends_are_named_by_the_best_that_is_known() {
        let flow = flow();
        assert_eq!(flow.source.to_string(), "shop/web:40000");
        assert_eq!(flow.destination.to_string(), "svc data/db:80");
        assert_eq!(end("fd00::1", 53, None, None).to_string(), "[fd00::1]:53");
        assert_eq!(end("fd00::1", 0, None, None).to_string(), "fd00::1");
        assert_eq!(flow.policies[0].to_string(), "ingress data/db: no rule");
    }

    #[test]
    fn flows_survive_the_wire() {
        let text = serde_json::to_string(&flow()).expect("JSON");
        assert_eq!(serde_json::from_str::<Flow>(&text).expect("a flow"), flow());
    }
}
