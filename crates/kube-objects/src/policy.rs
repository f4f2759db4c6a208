//! `networking.k8s.io/v1.NetworkPolicy`.
//!
//! What can't be read opens nothing: a peer or a port of that kind is left out of its rule, which then
//! is for the others, or for nobody; a policy that doesn't say clearly whom it's for isolates whomever
//! it may mean, and allows nothing.

use std::collections::BTreeSet;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use model::{
    Operator, Policy, PolicyPeer, PolicyPort, PolicyRule, PortMatch, Protocol, Requirement, Selector,
};

/// A part of a NetworkPolicy that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct PolicyProblem {
    /// Where, as in `spec.ingress[0].from[1]`.
    pub field: String,
    /// What, and what comes of it.
    pub what: PolicyMistake,
}

/// What can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyMistake {
    /// A selector's operator.
    #[error("operator {0:?} isn't In, NotIn, Exists or DoesNotExist")]
    Operator(String),
    /// Values that an operator can't have.
    #[error("operator {0} takes {1}")]
    Values(String, &'static str),
    /// A selector without a key.
    #[error("a label's key is missing")]
    Key,
    /// A range of addresses.
    #[error("{0:?} isn't a range of addresses like 192.0.2.0/24")]
    Range(String),
    /// A peer that says too much or nothing.
    #[error("a peer is pods (podSelector, namespaceSelector) or an ipBlock, and this is {0}")]
    Peer(&'static str),
    /// A protocol.
    #[error("protocol {0:?} isn't TCP, UDP or SCTP")]
    Protocol(String),
    /// A port.
    #[error("{0} isn't a port")]
    Port(i32),
    /// The end of a range of ports.
    #[error("endPort {0} needs a port before it, as a number")]
    EndPort(i32),
    /// What the policy is about.
    #[error("policy type {0:?} isn't Ingress or Egress: what isn't listed beside it is denied whole")]
    Type(String),
    /// What became of the policy.
    #[error("the policy denies all, to every pod that it may mean")]
    Selects,
    /// What became of the peer.
    #[error("the peer is left out")]
    PeerLeftOut,
}

/// A NetworkPolicy, and what of it couldn't be used.
pub fn policy(object: &NetworkPolicy) -> (Policy, Vec<PolicyProblem>) {
    let nothing = NetworkPolicySpec::default();
    let spec = object.spec.as_ref().unwrap_or(&nothing);
    let mut reader = Reader::default();
    let (pods, whole) = reader.selector("spec.podSelector", spec.pod_selector.as_ref());
    let types = Types::new(spec, &mut reader);
    let ingress = spec.ingress.iter().flatten().enumerate().map(|(i, rule)| {
        let field = format!("spec.ingress[{i}]");
        reader.rule(&field, "from", rule.from.as_deref(), rule.ports.as_deref())
    });
    let ingress = types.ingress.rules(ingress.collect());
    let egress = spec.egress.iter().flatten().enumerate().map(|(i, rule)| {
        let field = format!("spec.egress[{i}]");
        reader.rule(&field, "to", rule.to.as_deref(), rule.ports.as_deref())
    });
    let egress = types.egress.rules(egress.collect());
    if !whole {
        reader.problem("spec.podSelector", PolicyMistake::Selects);
    }
    let denied = |rules: Option<Vec<PolicyRule>>| rules.map(|rules| if whole { rules } else { Vec::new() });
    let policy = Policy {
        pods,
        ingress: denied(ingress),
        egress: denied(egress),
    };
    (policy, reader.problems)
}

/// What a policy says of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Nothing,
    Rules,
    /// It may be about it: nothing is allowed then.
    Unclear,
}

impl About {
    fn rules(self, rules: Vec<PolicyRule>) -> Option<Vec<PolicyRule>> {
        match self {
            About::Nothing => None,
            About::Rules => Some(rules),
            About::Unclear => Some(Vec::new()),
        }
    }
}

struct Types {
    ingress: About,
    egress: About,
}

impl Types {
    fn new(spec: &NetworkPolicySpec, reader: &mut Reader) -> Types {
        let types = spec.policy_types.as_deref().unwrap_or_default();
        if types.is_empty() {
            let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
            let egress = if has_egress { About::Rules } else { About::Nothing };
            return Types {
                ingress: About::Rules,
                egress,
            };
        }
        let odd = types
            .iter()
            .filter(|text| !matches!(text.as_str(), "Ingress" | "Egress"));
        let odd: Vec<&String> = odd.collect();
        for text in &odd {
            reader.problem("spec.policyTypes", PolicyMistake::Type((*text).clone()));
        }
        let about = |name: &str| {
            if types.iter().any(|text| text == name) {
                About::Rules
            } else if odd.is_empty() {
                About::Nothing
            } else {
                About::Unclear
            }
        };
        Types {
            ingress: about("Ingress"),
            egress: about("Egress"),
        }
    }
}

/// Reads parts, and keeps what couldn't be.
#[derive(Default)]
struct Reader {
    problems: Vec<PolicyProblem>,
}

impl Reader {
    fn problem(&mut self, field: impl Into<String>, what: PolicyMistake) {
        self.problems.push(PolicyProblem {
            field: field.into(),
            what,
        });
    }

    fn rule(
        &mut self,
        field: &str,
        side: &str,
        peers: Option<&[NetworkPolicyPeer]>,
        ports: Option<&[NetworkPolicyPort]>,
    ) -> PolicyRule {
        // Empty and missing is the same to the API: no restriction.
        let peers = peers.filter(|peers| !peers.is_empty()).map(|peers| {
            let peers = peers.iter().enumerate();
            let read = peers.filter_map(|(i, peer)| self.peer(&format!("{field}.{side}[{i}]"), peer));
            read.collect()
        });
        let ports = ports.filter(|ports| !ports.is_empty()).map(|ports| {
            let ports = ports.iter().enumerate();
            let read = ports.filter_map(|(i, port)| self.port(&format!("{field}.ports[{i}]"), port));
            read.collect()
        });
        PolicyRule { peers, ports }
    }

    fn peer(&mut self, field: &str, peer: &NetworkPolicyPeer) -> Option<PolicyPeer> {
        let read = match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
            (Some(block), None, None) => self.block(field, block),
            (Some(_), _, _) => {
                self.problem(field, PolicyMistake::Peer("both"));
                None
            }
            (None, None, None) => {
                self.problem(field, PolicyMistake::Peer("neither"));
                None
            }
            (None, namespaces, pods) => {
                let namespaces = namespaces
                    .as_ref()
                    .map(|selector| self.selector(&format!("{field}.namespaceSelector"), Some(selector)));
                let (pods, whole) = self.selector(&format!("{field}.podSelector"), pods.as_ref());
                let whole = whole && namespaces.as_ref().is_none_or(|(_, whole)| *whole);
                whole.then(|| PolicyPeer::Pods {
                    namespaces: namespaces.map(|(selector, _)| selector),
                    pods,
                })
            }
        };
        if read.is_none() {
            self.problem(field, PolicyMistake::PeerLeftOut);
        }
        read
    }

    fn block(&mut self, field: &str, block: &IPBlock) -> Option<PolicyPeer> {
        let net = self.range(&format!("{field}.ipBlock.cidr"), &block.cidr);
        // Without one of its exceptions it would allow what it's not to.
        let except: Vec<Option<IpNet>> = block
            .except
            .iter()
            .flatten()
            .map(|text| self.range(&format!("{field}.ipBlock.except"), text))
            .collect();
        Some(PolicyPeer::Block {
            net: net?,
            except: except.into_iter().collect::<Option<BTreeSet<IpNet>>>()?,
        })
    }

    fn range(&mut self, field: &str, text: &str) -> Option<IpNet> {
        let net = text.parse::<IpNet>().ok();
        if net.is_none() {
            self.problem(field, PolicyMistake::Range(text.to_owned()));
        }
        net.map(|net| net.trunc())
    }

    fn port(&mut self, field: &str, port: &NetworkPolicyPort) -> Option<PolicyPort> {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP" | "") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(other) => {
                self.problem(
                    format!("{field}.protocol"),
                    PolicyMistake::Protocol(other.to_owned()),
                );
                return None;
            }
        };
        let ports = match (&port.port, port.end_port) {
            (None, None) => PortMatch::All,
            (Some(IntOrString::String(name)), None) => PortMatch::Named(name.clone()),
            (Some(IntOrString::Int(first)), None) => PortMatch::One(self.number(field, *first)?),
            (Some(IntOrString::Int(first)), Some(last)) => {
                let first = self.number(field, *first)?;
                let last = self.number(field, last)?;
                if last < first {
                    self.problem(field, PolicyMistake::EndPort(last.into()));
                    return None;
                }
                PortMatch::Range(first, last)
            }
            (None | Some(IntOrString::String(_)), Some(last)) => {
                self.problem(field, PolicyMistake::EndPort(last));
                return None;
            }
        };
        Some(PolicyPort { protocol, ports })
    }

    fn number(&mut self, field: &str, number: i32) -> Option<u16> {
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        if port.is_none() {
            self.problem(field, PolicyMistake::Port(number));
        }
        port
    }

    /// A selector, and whether it was readable whole: what isn't is left out, so that it selects more
    /// than it's meant to.
    fn selector(&mut self, field: &str, selector: Option<&LabelSelector>) -> (Selector, bool) {
        let Some(selector) = selector else {
            return (Selector::default(), true);
        };
        let labels = selector.match_labels.iter().flatten();
        let mut requirements: BTreeSet<Requirement> = labels
            .map(|(key, value)| Requirement::equals(key.as_str(), value.as_str()))
            .collect();
        let mut whole = true;
        for (i, one) in selector.match_expressions.iter().flatten().enumerate() {
            match requirement(one) {
                Ok(requirement) => drop(requirements.insert(requirement)),
                Err(mistake) => {
                    self.problem(format!("{field}.matchExpressions[{i}]"), mistake);
                    whole = false;
                }
            }
        }
        (Selector { requirements }, whole)
    }
}

fn requirement(object: &LabelSelectorRequirement) -> Result<Requirement, PolicyMistake> {
    if object.key.is_empty() {
        return Err(PolicyMistake::Key);
    }
    let values: BTreeSet<String> = object.values.iter().flatten().cloned().collect();
    let name = object.operator.as_str();
    let some = || match values.is_empty() {
        true => Err(PolicyMistake::Values(name.to_owned(), "one value or more")),
        false => Ok(values.clone()),
    };
    let none = |operator: Operator| match values.is_empty() {
        true => Ok(operator),
        false => Err(PolicyMistake::Values(name.to_owned(), "no values")),
    };
    let operator = match name {
        "In" => Operator::In(some()?),
        "NotIn" => Operator::NotIn(some()?),
        "Exists" => none(Operator::Exists)?,
        "DoesNotExist" => none(Operator::DoesNotExist)?,
        other => return Err(PolicyMistake::Operator(other.to_owned())),
    };
    Ok(Requirement {
        key: object.key.clone(),
        operator,
    })
}

#[cfg(test)]
mod tests;
