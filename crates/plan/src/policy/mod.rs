//! NetworkPolicies: who may speak to whom, as tables that a program looks into a few times for the
//! first packet of a conversation, however many policies there are.
//!
//! ```text
//!   the pod's address ─► isolation: its set of policies, in and out ─┐
//!   the peer's address ─► classes, blocks: its class ────────────────┴─► rules, ranges ─► allowed, by this
//! ```
//!
//! - A **term** is what a rule's peer can match: pods by labels, or a block of addresses.
//! - A **class** is what an address matches, of the terms that policies of this node's pods use.
//! - A **set** is what holds for a pod in one direction: the policies that select it, and their rules.
//!
//! Each has a digest of what it is as its id: nothing is allocated, an agent that starts anew has the
//! same, and what changes has another id, so that a pod goes from one set to another in one write.
//! [`PolicyIndex`] keeps them up; [`PolicyPlan`] is all of it, for people and for the tracer.

mod compile;
mod differ;
mod id;
mod index;
mod judge;
mod locals;
mod names;
mod peers;
mod ports;
mod profile;
mod regions;
mod registry;
mod rules;
mod tables;
mod term;
mod text;

#[cfg(test)]
mod naive;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::PolicySnapshot;

pub use id::{ClassId, RuleId, SetId};
pub use index::PolicyIndex;
pub use names::{RuleName, SetName};
pub use tables::{Delta, Isolation, PolicyChange, PolicyTables, RangeKey, RuleKey};

/// What the policies of a node are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyPlan {
    /// The node.
    pub node: String,
    /// What the kernel is to hold.
    pub tables: PolicyTables,
    /// The node's pods by their addresses.
    pub pods: BTreeMap<IpAddr, String>,
    /// The sets in use.
    pub sets: BTreeMap<SetId, SetName>,
    /// The classes in use: what they match.
    pub classes: BTreeMap<ClassId, Vec<String>>,
    /// The rules of the policies in use.
    pub rules: BTreeMap<RuleId, RuleName>,
    /// What couldn't be planned as it's meant, and why.
    pub notes: Vec<String>,
}

impl PolicyPlan {
    /// Of a node and a cluster as they are.
    pub fn new(snapshot: &PolicySnapshot) -> PolicyPlan {
        PolicyIndex::of(snapshot).plan()
    }
}
