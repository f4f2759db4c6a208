//! From what the programs tell to what people read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bpf_abi::policy::{Event, Id, event};
use jiff::{SignedDuration, Timestamp};
use model::{Direction, Flow, FlowEnd, FlowEvent, FlowPolicy, Snapshot};
use plan::{RuleId, SetId};
use tokio::sync::watch;

use crate::policies::Policies;
use crate::services::Catalogue;

/// Who knows what addresses and ids are called.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) node: String,
    pub(crate) policies: Arc<Policies>,
    pub(crate) services: Arc<Catalogue>,
    pub(crate) nodes: watch::Receiver<Option<Arc<Snapshot>>>,
}

/// Two clocks at one moment: the programs' and people's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    pub(crate) since_boot: Duration,
    pub(crate) now: Timestamp,
}

impl Names {
    /// An event in words.
    pub(crate) fn flow(&self, event: &Event, clocks: Clocks) -> Flow {
        let (source, destination) = (
            self.end(address(event, event.source), event.source_port),
            self.end(address(event, event.destination), event.destination_port),
        );
        let has_endpoint = event.bits & event::PEER != 0;
        Flow {
            time: time(event.time, clocks),
            node: self.node.clone(),
            event: match event.kind {
                event::NEW => FlowEvent::New,
                event::CLOSED => FlowEvent::Closed,
                _ => FlowEvent::Dropped,
            },
            protocol: protocol(event.protocol),
            source,
            destination,
            endpoint: has_endpoint.then(|| self.end(address(event, event.peer), event.peer_port)),
            denied: denied(event),
            policies: self.policies_of(event),
        }
    }

    fn end(&self, address: IpAddr, port: u16) -> FlowEnd {
        let pod = self.policies.pod_at(address);
        let service = match pod {
            Some(_) => None,
            None => self.services.at(address).map(|name| name.to_string()),
        };
        let node = match (&pod, &service) {
            (None, None) => self.node_at(address),
            _ => None,
        };
        FlowEnd {
            address,
            port: u16::from_be(port),
            pod,
            service,
            node,
        }
    }

    fn node_at(&self, address: IpAddr) -> Option<String> {
        let snapshot = self.nodes.borrow();
        let mut nodes = snapshot.as_ref()?.nodes.iter();
        let node = nodes.find(|(_, node)| node.addresses.contains(&address));
        node.map(|(name, _)| name.clone())
    }

    /// The rules that allow it; of a drop, the policies of which no rule does.
    fn policies_of(&self, event: &Event) -> Vec<FlowPolicy> {
        let named = self.policies.with_index(|index| {
            if let Some(direction) = denied(event) {
                let set = event.sets[usize::from(direction == Direction::Ingress)];
                let name = index.set_name(SetId(number(set)));
                let policies = name.into_iter().flat_map(|name| name.policies);
                let denying = |policy: model::NamespacedName| FlowPolicy {
                    direction,
                    policy: policy.to_string(),
                    rule: None,
                };
                return policies.map(denying).collect();
            }
            let rules = event
                .rules
                .iter()
                .filter_map(|rule| index.rule_name(RuleId(number(*rule))));
            let allowing = rules.map(|name| FlowPolicy {
                direction: name.direction,
                policy: name.policy.to_string(),
                rule: Some(name.index),
            });
            allowing.collect()
        });
        named.unwrap_or_default()
    }
}

/// The direction whose set doesn't allow it, if it was dropped.
fn denied(event: &Event) -> Option<Direction> {
    match (event.kind, event.direction) {
        (event::DROPPED, event::EGRESS) => Some(Direction::Egress),
        (event::DROPPED, _) => Some(Direction::Ingress),
        _ => None,
    }
}

/// An address as its words stand in packets.
fn address(event: &Event, words: [u32; 4]) -> IpAddr {
    if event.bits & event::V6 == 0 {
        return Ipv4Addr::from(words[0].to_ne_bytes()).into();
    }
    let mut bytes = [0; 16];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(bytes).into()
}

fn number([low, high]: Id) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Six digits, always: so texts are in order of time.
fn time(nanoseconds: u64, clocks: Clocks) -> String {
    let at = Duration::from_nanos(nanoseconds);
    let ago = clocks.since_boot.saturating_sub(at);
    let ago = SignedDuration::try_from(ago).unwrap_or_default();
    let time = clocks.now.checked_sub(ago).unwrap_or(clocks.now);
    format!("{time:.6}")
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}
