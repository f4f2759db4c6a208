//! Terms: what a rule's peer can match.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;
use model::{Labels, Operator, PolicyPeer, Selector};

use super::id::{Canonical, Digests};
use super::profile::Profile;

/// A term's id. Two policies that mean the same pods or addresses use the same term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TermId(pub(super) u64);

/// One thing that a peer can match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Term {
    /// Pods.
    Pods { namespaces: Namespaces, pods: Selector },
    /// Addresses.
    Block { net: IpNet, except: BTreeSet<IpNet> },
}

/// Which namespaces' pods.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Namespaces {
    /// This one's.
    Named(String),
    /// Those with such labels.
    Labelled(Selector),
}

impl Term {
    /// The term of a peer, in a policy of that namespace.
    pub(super) fn new(peer: &PolicyPeer, namespace: &str) -> Term {
        match peer {
            PolicyPeer::Pods { namespaces, pods } => Term::Pods {
                namespaces: namespaces.as_ref().map_or_else(
                    || Namespaces::Named(namespace.to_owned()),
                    |selector| Namespaces::Labelled(selector.clone()),
                ),
                pods: pods.clone(),
            },
            PolicyPeer::Block { net, except } => Term::Block {
                net: net.trunc(),
                except: except.iter().map(IpNet::trunc).collect(),
            },
        }
    }

    pub(super) fn id(&self, digests: Digests) -> TermId {
        let mut text = Canonical::new("term");
        match self {
            Term::Pods { namespaces, pods } => {
                match namespaces {
                    Namespaces::Named(name) => text.text("named").text(name),
                    Namespaces::Labelled(selector) => write_selector(text.text("labelled"), selector),
                };
                write_selector(&mut text, pods);
            }
            Term::Block { net, except } => {
                text.text("block").text(&net.to_string());
                for one in except {
                    text.text(&one.to_string());
                }
            }
        }
        digests.term(text)
    }

    pub(super) fn is_block(&self) -> bool {
        matches!(self, Term::Block { .. })
    }

    /// Whether it matches a pod. Of a namespace that isn't known the labels aren't either: nothing
    /// that asks for them matches.
    pub(super) fn matches(&self, profile: &Profile, namespace: Option<&Labels>) -> bool {
        self.is_in(&profile.namespace, namespace) && self.selects(&profile.labels)
    }

    /// Whether it matches pods of a namespace.
    pub(super) fn is_in(&self, namespace: &str, labels: Option<&Labels>) -> bool {
        match self {
            Term::Pods { namespaces, .. } => match namespaces {
                Namespaces::Named(name) => name == namespace,
                Namespaces::Labelled(selector) => labels.is_some_and(|labels| selector.matches(labels)),
            },
            Term::Block { .. } => false,
        }
    }

    /// Whether it matches pods with such labels, if it does their namespace.
    pub(super) fn selects(&self, labels: &Labels) -> bool {
        match self {
            Term::Pods { pods, .. } => pods.matches(labels),
            Term::Block { .. } => false,
        }
    }

    /// Whether it matches an address that is no pod's.
    #[cfg(test)]
    pub(super) fn contains(&self, address: std::net::IpAddr) -> bool {
        match self {
            Term::Pods { .. } => false,
            Term::Block { net, except } => {
                net.contains(&address) && !except.iter().any(|one| one.contains(&address))
            }
        }
    }
}

fn write_selector<'a>(text: &'a mut Canonical, selector: &Selector) -> &'a mut Canonical {
    text.number(selector.requirements.len() as u64);
    for requirement in &selector.requirements {
        text.text(&requirement.key);
        let (operator, values) = match &requirement.operator {
            Operator::In(values) => ("in", Some(values)),
            Operator::NotIn(values) => ("not in", Some(values)),
            Operator::Exists => ("exists", None),
            Operator::DoesNotExist => ("does not exist", None),
        };
        text.text(operator);
        text.number(values.map_or(0, BTreeSet::len) as u64);
        for value in values.into_iter().flatten() {
            text.text(value);
        }
    }
    text
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespaces, pods) = match self {
            Term::Pods { namespaces, pods } => (namespaces, pods),
            Term::Block { net, except } => {
                let peer = PolicyPeer::Block {
                    net: *net,
                    except: except.clone(),
                };
                return peer.fmt(f);
            }
        };
        match namespaces {
            Namespaces::Named(name) if pods.is_everything() => write!(f, "every pod of namespace {name}"),
            Namespaces::Named(name) => write!(f, "pods with {pods} of namespace {name}"),
            Namespaces::Labelled(selector) => PolicyPeer::Pods {
                namespaces: Some(selector.clone()),
                pods: pods.clone(),
            }
            .fmt(f),
        }
    }
}
