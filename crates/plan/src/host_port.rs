//! Ports of the node's own addresses that lead to pods (`hostPort`).
//!
//! ```text
//!   prerouting ─┐ for an address of the node's own       ┌─ host_ports_at4  172.30.0.11 . tcp . 8080 : 10.244.0.5 . 80
//!               ├──────────────────────► chain host_ports ┤
//!   output ─────┘ (not a loopback one)                   └─ host_ports4                 tcp . 8080 : 10.244.0.5 . 80
//!
//!   the node's own sockets ── 127.0.0.1, ::1 ── our programs     loopback 127.0.0.1:8080/tcp : 10.244.0.5:80
//!
//!   postrouting ── a pod that reached itself ── hairpins4  10.244.0.5 . 10.244.0.5 : 172.30.0.11
//! ```
//!
//! The rules are the same on every node; a port is an element of a map, so that a change is one
//! element. Whoever comes from elsewhere keeps its address. Only a pod that reaches itself by the
//! node takes the node's address: it would not take in packets from its own.
//!
//! The loopback is the node's own: packets for it come from nobody else, and don't leave it. So they
//! aren't translated; the calls of the node's sockets are, before there's a packet, and what it sends
//! to the pod is sent from the node's address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use model::{Attachment, HostPort, NodeFacts, Protocol};
use nft::{
    Atom, Base, Chain, ChainKind, Expr, Family, Field, Hook, KeyType, Nat, Policy, Rule, Set, Tuple, Verdict,
    priority,
};

use crate::service::rules;
use crate::{LoopbackPort, Mapping, Object, Part, own_address};

const CHAIN: &str = "host_ports";
const LOOPBACK_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);

/// The maps of our table that are about host ports, by family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MapName {
    /// Ports of all addresses of the node.
    Ports,
    /// Ports of one address of the node.
    PortsAt,
    /// Pods that reach themselves, and the node's address that they take for it.
    Hairpins,
}

impl MapName {
    const ALL: [MapName; 3] = [MapName::PortsAt, MapName::Ports, MapName::Hairpins];

    const fn of(self, v4: bool) -> &'static str {
        match (self, v4) {
            (MapName::Ports, true) => "host_ports4",
            (MapName::Ports, false) => "host_ports6",
            (MapName::PortsAt, true) => "host_ports_at4",
            (MapName::PortsAt, false) => "host_ports_at6",
            (MapName::Hairpins, true) => "hairpins4",
            (MapName::Hairpins, false) => "hairpins6",
        }
    }

    fn set(self, v4: bool) -> Set {
        let address = if v4 { KeyType::Ipv4 } else { KeyType::Ipv6 };
        let (protocol, port) = (KeyType::Protocol, KeyType::Port);
        let name = self.of(v4);
        match self {
            MapName::Ports => Set::map(name, &[protocol, port], &[address, port]),
            MapName::PortsAt => Set::map(name, &[address, protocol, port], &[address, port]),
            MapName::Hairpins => Set::map(name, &[address, address], &[address]),
        }
    }
}

/// The maps of our table.
pub(crate) fn maps() -> impl Iterator<Item = Set> {
    let families = [true, false].into_iter();
    families.flat_map(|v4| MapName::ALL.map(|name| name.set(v4)))
}

/// The chains of our table that translate destinations.
pub(crate) fn chains() -> [Chain; 3] {
    let entrance = |name: &str, hook, first: Option<Rule>| Chain {
        name: name.to_owned(),
        base: Some(Base {
            kind: ChainKind::Nat,
            hook,
            priority: priority::DSTNAT,
            policy: Policy::Accept,
        }),
        rules: first.into_iter().chain([to_host_ports()]).collect(),
    };
    [
        Chain {
            name: CHAIN.to_owned(),
            base: None,
            rules: rules(),
        },
        entrance("prerouting", Hook::Prerouting, Some(rules::prerouting_rule())),
        entrance("output", Hook::Output, None),
    ]
}

fn to_host_ports() -> Rule {
    Rule {
        exprs: vec![Expr::Local, Expr::Verdict(Verdict::Jump(CHAIN.to_owned()))],
        comment: None,
    }
}

fn rules() -> Vec<Rule> {
    let not_loopback = |field, loopback: IpNet| Rule {
        exprs: vec![Expr::eq(field, loopback), Expr::Verdict(Verdict::Return)],
        comment: Some("the node's own".to_owned()),
    };
    let to_pod = |name: MapName, v4: bool, key: &[Field]| Rule {
        exprs: vec![translate(Nat::Destination, name, v4, key)],
        comment: Some("host ports".to_owned()),
    };
    let (protocol, port) = (Field::Protocol, Field::DestinationPort);
    let mut rules = vec![
        not_loopback(Field::Ip4Destination, LOOPBACK_V4.into()),
        not_loopback(Field::Ip6Destination, IpAddr::from(Ipv6Addr::LOCALHOST).into()),
    ];
    for (v4, address) in [(true, Field::Ip4Destination), (false, Field::Ip6Destination)] {
        rules.push(to_pod(MapName::PortsAt, v4, &[address, protocol, port]));
        rules.push(to_pod(MapName::Ports, v4, &[protocol, port]));
    }
    rules
}

/// What must be done before other sources are translated.
pub(crate) fn hairpin_rules() -> [Rule; 2] {
    let rule = |v4, source, destination| Rule {
        exprs: vec![translate(
            Nat::Source,
            MapName::Hairpins,
            v4,
            &[source, destination],
        )],
        comment: Some("a pod that reaches itself by the node".to_owned()),
    };
    [
        rule(true, Field::Ip4Source, Field::Ip4Destination),
        rule(false, Field::Ip6Source, Field::Ip6Destination),
    ]
}

fn translate(nat: Nat, name: MapName, v4: bool, key: &[Field]) -> Expr {
    Expr::Translate {
        nat,
        family: if v4 { Family::Ip } else { Family::Ip6 },
        key: key.to_vec(),
        map: name.of(v4).to_owned(),
        port: name != MapName::Hairpins,
    }
}

/// Adds an attachment's host ports to its part.
pub(crate) fn host_ports(part: &mut Part, attachment: &Attachment, facts: &NodeFacts) {
    for port in &attachment.host_ports {
        let to: Vec<IpAddr> = attachment
            .addresses
            .iter()
            .copied()
            .filter(|address| port.host_ip.is_none_or(|at| at.is_ipv4() == address.is_ipv4()))
            .collect();
        if to.is_empty() {
            part.notes.push(format!(
                "host port {port} leads nowhere: the pod has no address of that family"
            ));
        }
        for address in to {
            part.objects.extend(loopback(port, address));
            if port.host_ip.is_none_or(|at| !at.is_loopback()) {
                part.objects.insert(lead(port, address));
                part.objects.extend(hairpin(address, facts));
            }
        }
    }
}

fn lead(port: &HostPort, pod: IpAddr) -> Object {
    let mut key = vec![Atom::Protocol(port.protocol.number()), Atom::Port(port.host_port)];
    let name = match port.host_ip.filter(|at| !at.is_unspecified()) {
        Some(at) => {
            key.insert(0, Atom::Address(at));
            MapName::PortsAt
        }
        None => MapName::Ports,
    };
    Object::Mapping(Mapping {
        map: name.of(pod.is_ipv4()).to_owned(),
        key: Tuple::new(key),
        data: SocketAddr::new(pod, port.container_port).into(),
    })
}

/// Where the node's own processes reach it, if they do: the loopback is one of all addresses. Our programs see no
/// SCTP.
fn loopback(port: &HostPort, pod: IpAddr) -> Option<Object> {
    let any: IpAddr = match pod {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let address = port.host_ip.filter(|at| !at.is_unspecified()).unwrap_or(any);
    (address.is_loopback() && port.protocol != Protocol::Sctp).then(|| {
        Object::LoopbackPort(LoopbackPort {
            address,
            protocol: port.protocol,
            port: port.host_port,
            to: SocketAddr::new(pod, port.container_port),
        })
    })
}

fn hairpin(pod: IpAddr, facts: &NodeFacts) -> Option<Object> {
    let node = own_address(facts, pod)?;
    Some(Object::Mapping(Mapping {
        map: MapName::Hairpins.of(pod.is_ipv4()).to_owned(),
        key: Tuple::new([Atom::Address(pod), Atom::Address(pod)]),
        data: node.into(),
    }))
}
