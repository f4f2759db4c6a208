//! What a policy says, in terms; and the sets that pods have.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Direction, NamespacedName, Policy, PolicyPort, PortMatch, Protocol};

use super::id::{Canonical, Digests, SetId, rule};
use super::profile::Profile;
use super::term::{Term, TermId};
use super::{RangeKey, RuleId, RuleKey, ports};

/// A policy in terms.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) policy: Arc<Policy>,
    /// Each once; two that differ may have one id.
    pub(super) terms: BTreeSet<(TermId, Arc<Term>)>,
    rules: [Option<Arc<[Rule]>>; 2],
}

/// A rule in terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) id: RuleId,
    /// None: any.
    pub(super) peers: Option<BTreeSet<TermId>>,
    pub(super) ports: BTreeSet<Ports>,
}

/// What a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ports {
    Everything,
    All(Protocol),
    One(Protocol, u16),
    Range(Protocol, u16, u16),
    /// By the receiver's name for it: a pod's own where it receives, its peers' where it sends.
    Named(Protocol, String),
}

impl Compiled {
    pub(super) fn new(name: &NamespacedName, policy: Arc<Policy>, digests: Digests) -> Compiled {
        let mut terms = BTreeSet::new();
        let rules = Direction::ALL.map(|direction| {
            let rules = policy.rules(direction)?.iter().enumerate();
            let compiled = rules.map(|(index, one)| Rule {
                id: rule(name, direction, index),
                peers: one.peers.as_ref().map(|peers| {
                    let peers = peers.iter().map(|peer| {
                        let term = Term::new(peer, &name.namespace);
                        let id = term.id(digests);
                        terms.insert((id, Arc::new(term)));
                        id
                    });
                    peers.collect()
                }),
                ports: one.ports.as_deref().map_or_else(
                    || BTreeSet::from([Ports::Everything]),
                    |ports| ports.iter().map(Ports::new).collect(),
                ),
            });
            Some(compiled.collect())
        });
        Compiled { policy, terms, rules }
    }

    fn rules(&self, direction: Direction) -> Option<&Arc<[Rule]>> {
        self.rules[direction as usize].as_ref()
    }

    /// The names of ports that its egress rules use: their numbers are the receivers' affair.
    pub(super) fn asked_ports(&self) -> impl Iterator<Item = (&str, Protocol)> {
        let rules = self
            .rules(Direction::Egress)
            .into_iter()
            .flat_map(|rules| rules.iter());
        rules
            .flat_map(|rule| &rule.ports)
            .filter_map(|ports| match ports {
                Ports::Named(protocol, name) => Some((name.as_str(), *protocol)),
                _ => None,
            })
    }
}

impl Ports {
    fn new(port: &PolicyPort) -> Ports {
        let protocol = port.protocol;
        match &port.ports {
            PortMatch::All => Ports::All(protocol),
            PortMatch::One(port) => Ports::One(protocol, *port),
            PortMatch::Range(first, last) if first == last => Ports::One(protocol, *first),
            PortMatch::Range(first, last) => Ports::Range(protocol, *first, *last),
            PortMatch::Named(name) => Ports::Named(protocol, name.clone()),
        }
    }

    fn write(&self, text: &mut Canonical) {
        let mut write = |kind: u64, protocol: Option<Protocol>, first: u16, last: u16| {
            text.number(kind)
                .number(protocol.map_or(0, Protocol::number).into())
                .number(first.into())
                .number(last.into());
        };
        match self {
            Ports::Everything => write(0, None, 0, 0),
            Ports::All(protocol) => write(1, Some(*protocol), 0, 0),
            Ports::One(protocol, port) => write(2, Some(*protocol), *port, *port),
            Ports::Range(protocol, first, last) => write(3, Some(*protocol), *first, *last),
            Ports::Named(protocol, name) => {
                write(4, Some(*protocol), 0, 0);
                text.text(name);
            }
        }
    }
}

/// What holds for a pod in one direction: the policies that isolate it, and what they allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) direction: Direction,
    pub(super) policies: Vec<(NamespacedName, Arc<[Rule]>)>,
}

impl Set {
    /// Of a pod, by the policies that select it; none if none of them is about the direction.
    pub(super) fn new<'a>(
        direction: Direction,
        profile: &Profile,
        policies: impl Iterator<Item = (&'a NamespacedName, &'a Compiled)>,
    ) -> Option<Set> {
        let policies: Vec<_> = policies
            .filter_map(|(name, policy)| Some((name, policy.rules(direction)?)))
            .map(|(name, rules)| match direction {
                Direction::Ingress => (name.clone(), resolved(rules, profile)),
                Direction::Egress => (name.clone(), rules.clone()),
            })
            .collect();
        (!policies.is_empty()).then_some(Set { direction, policies })
    }

    pub(super) fn id(&self, digests: Digests) -> SetId {
        let mut text = Canonical::new("set");
        text.direction(self.direction);
        let mut hints = 0;
        for (name, rules) in &self.policies {
            text.name(name).number(rules.len() as u64);
            for rule in &**rules {
                text.number(rule.peers.as_ref().map_or(u64::MAX, |peers| peers.len() as u64));
                for term in rule.peers.iter().flatten() {
                    text.number(term.0);
                }
                text.number(rule.ports.len() as u64);
                rule.ports.iter().for_each(|ports| ports.write(&mut text));
                hints |= hints_of(rule);
            }
        }
        digests.set(text, hints)
    }

    /// Its rules, in the order in which they are named if several allow the same.
    pub(super) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.policies.iter().flat_map(|(_, rules)| rules.iter())
    }
}

/// Rules with the numbers that the pod's own ports have.
fn resolved(rules: &Arc<[Rule]>, profile: &Profile) -> Arc<[Rule]> {
    let named = |ports: &Ports| matches!(ports, Ports::Named(..));
    if !rules.iter().any(|rule| rule.ports.iter().any(named)) {
        return rules.clone();
    }
    let resolve = |rule: &Rule| {
        let mut ports = BTreeSet::new();
        for one in &rule.ports {
            match one {
                Ports::Named(protocol, name) => {
                    let numbers = profile.numbers(name, *protocol);
                    ports.extend(numbers.map(|port| Ports::One(*protocol, port)));
                }
                other => drop(ports.insert(other.clone())),
            }
        }
        Rule {
            ports,
            ..rule.clone()
        }
    };
    rules.iter().map(resolve).collect()
}

/// Which looks may find something because of a rule.
fn hints_of(rule: &Rule) -> u64 {
    let mut hints = 0;
    for ports in &rule.ports {
        let any = rule.peers.is_none();
        hints |= match ports {
            Ports::Everything => SetId::EVERYTHING,
            Ports::All(_) => SetId::PROTOCOLS,
            Ports::One(..) | Ports::Named(..) => SetId::PORTS,
            Ports::Range(..) => SetId::RANGES,
        };
        // What the name of a port means is a matter of the peer's class.
        hints |= match (any, ports) {
            (true, Ports::Named(..)) => SetId::PEERS,
            (true, _) => SetId::ANY_PEER,
            (false, _) if rule.peers.as_ref().is_some_and(BTreeSet::is_empty) => 0,
            (false, _) => SetId::PEERS,
        };
    }
    hints
}

/// An entry of the tables of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Entry {
    Rule(RuleKey),
    Range(RangeKey),
}

/// The entries that ports are in the tables; `key` is that for everything.
pub(super) fn entries(ports: &Ports, key: RuleKey, mut put: impl FnMut(Entry)) {
    let rule = |protocol: Protocol, port: u16| {
        Entry::Rule(RuleKey {
            protocol: protocol.number(),
            port,
            ..key
        })
    };
    match ports {
        Ports::Everything => put(Entry::Rule(key)),
        Ports::All(protocol) => put(rule(*protocol, 0)),
        Ports::One(protocol, port) => put(rule(*protocol, *port)),
        Ports::Range(protocol, first, last) => {
            for (port, bits) in ports::prefixes(*first, *last) {
                put(Entry::Range(RangeKey {
                    set: key.set,
                    class: key.class,
                    protocol: protocol.number(),
                    port,
                    bits,
                }));
            }
        }
        // A class says what it means.
        Ports::Named(..) => {}
    }
}
