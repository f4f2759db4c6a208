//! What policies say of a packet, where the programs ask them: of what a pod sends on its link, after a
//! Service's backend is picked; of what comes to it wherever it's let in.

use std::net::IpAddr;

use model::{Direction, NamespacedName, Transport};

use super::{Hop, Verdict, Walk, spot_of};
use crate::policy::{PolicyPlan, RuleName, SetId};
use crate::{Endpoint, NodePlan, Object, Part};

/// Why policies let a packet pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passed {
    /// No policy isolates the pod in that direction.
    Free,
    /// This rule allows it.
    Rule(RuleName),
    /// The pod's own node sends it.
    OwnNode,
    /// The pod itself sends it, by a Service.
    Itself,
}

/// What policies were asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The pod whose policies they are.
    pub pod: String,
    /// Its node.
    pub node: String,
    /// Whether it receives or sends.
    pub direction: Direction,
    /// The other side, as the pod's node sees it.
    pub peer: IpAddr,
    /// Whom the other side's address has taken the place of, on the way.
    pub instead_of: Option<IpAddr>,
    /// What it's for.
    pub transport: Transport,
}

/// Why policies don't let a packet pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// These policies isolate the pod, and no rule of theirs allows it.
    Isolated(Vec<NamespacedName>),
    /// Nothing is known of the pod.
    Unknown,
}

impl<'a> Walk<'a> {
    /// What a pod of the node sends, to a peer and a port of it.
    pub(super) fn egress(
        &mut self,
        plan: &'a NodePlan,
        peer: IpAddr,
        transport: Transport,
    ) -> Result<(), Verdict> {
        let source = self.packet.source;
        let Some((part, _)) = self.endpoint(plan, source) else {
            return Ok(());
        };
        if peer == source {
            return Ok(());
        }
        let question = self.question(plan, part, Direction::Egress, peer, transport);
        self.judge(source, question)
    }

    /// What comes to a pod of the node; `iif` is the link that it has come to the node by, if any.
    pub(super) fn ingress(
        &mut self,
        plan: &'a NodePlan,
        part: &Part,
        iif: Option<&str>,
    ) -> Result<(), Verdict> {
        let (own, peer) = (self.packet.destination, self.packet.source);
        let question = self.question(plan, part, Direction::Ingress, peer, self.packet.transport);
        let is_itself = endpoints(part).any(|endpoint| iif == Some(&endpoint.link));
        let passed = match iif {
            None => Some(Passed::OwnNode),
            Some(_) if is_itself => Some(Passed::Itself),
            Some(_) => None,
        };
        match passed {
            Some(passed) => {
                if self.policies.contains_key(&plan.node) {
                    self.hops.push(Hop::Judged { question, passed });
                }
                Ok(())
            }
            None => self.judge(own, question),
        }
    }

    fn question(
        &self,
        plan: &NodePlan,
        part: &Part,
        direction: Direction,
        peer: IpAddr,
        transport: Transport,
    ) -> Question {
        let other = self.sent.source;
        Question {
            pod: part.title.clone(),
            node: plan.node.clone(),
            direction,
            peer,
            instead_of: (direction == Direction::Ingress && peer != other).then_some(other),
            transport,
        }
    }

    fn judge(&mut self, own: IpAddr, question: Question) -> Result<(), Verdict> {
        let Some(policies) = self.policies.get(&question.node) else {
            return Ok(());
        };
        match decide(policies, own, &question) {
            Ok(passed) => {
                self.hops.push(Hop::Judged { question, passed });
                Ok(())
            }
            Err(why) => Err(Verdict::Denied {
                question: question.into(),
                why,
            }),
        }
    }

    /// Whether a link is that of a pod whose address the packet comes from.
    pub(super) fn is_from_pod(&self, plan: &'a NodePlan, iif: &str) -> bool {
        self.endpoint(plan, self.packet.source)
            .is_some_and(|(_, own)| own.link == iif)
    }

    /// Delivers to a pod of the node what policies let in.
    pub(super) fn deliver(&mut self, plan: &'a NodePlan, part: &Part, iif: Option<&str>) -> Verdict {
        match self.ingress(plan, part, iif) {
            Ok(()) => Verdict::Delivered {
                to: spot_of(plan, part),
                source: self.packet.source,
            },
            Err(verdict) => verdict,
        }
    }
}

fn decide(policies: &PolicyPlan, own: IpAddr, question: &Question) -> Result<Passed, Denial> {
    let tables = &policies.tables;
    let isolation = tables.isolation.get(&own).ok_or(Denial::Unknown)?;
    let set: SetId = match question.direction {
        Direction::Ingress => isolation.ingress,
        Direction::Egress => isolation.egress,
    };
    if set.is_free() {
        return Ok(Passed::Free);
    }
    let rule = tables.allows(set, tables.class(question.peer), question.transport);
    match rule.and_then(|rule| policies.rules.get(&rule)) {
        Some(rule) => Ok(Passed::Rule(rule.clone())),
        None => {
            let set = policies.sets.get(&set);
            Err(Denial::Isolated(
                set.map(|set| set.policies.clone()).unwrap_or_default(),
            ))
        }
    }
}

fn endpoints(part: &Part) -> impl Iterator<Item = &Endpoint> {
    part.objects.iter().filter_map(|object| match object {
        Object::Endpoint(endpoint) => Some(endpoint),
        _ => None,
    })
}
