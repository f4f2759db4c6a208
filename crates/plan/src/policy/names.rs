//! What ids are called.

use std::fmt;

use model::{Direction, NamespacedName};

use super::RuleId;
use super::compile::Set;
use super::id::rule;

/// What a set is: the policies that isolate a pod in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetName {
    /// The direction.
    pub direction: Direction,
    /// The policies.
    pub policies: Vec<NamespacedName>,
}

/// What a rule is: the how manieth of which policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleName {
    /// The policy.
    pub policy: NamespacedName,
    /// The direction.
    pub direction: Direction,
    /// Its place in the policy's list, from 0 on.
    pub index: usize,
}

impl SetName {
    pub(super) fn of(set: &Set) -> SetName {
        SetName {
            direction: set.direction,
            policies: set.policies.iter().map(|(name, _)| name.clone()).collect(),
        }
    }
}

impl RuleName {
    /// Its id.
    pub fn id(&self) -> RuleId {
        rule(&self.policy, self.direction, self.index)
    }

    /// The rules of a set, with their ids.
    pub(super) fn of(set: &Set) -> impl Iterator<Item = (RuleId, RuleName)> {
        set.policies.iter().flat_map(|(policy, rules)| {
            let rules = rules.iter().enumerate();
            rules.map(|(index, rule)| {
                let name = RuleName {
                    policy: policy.clone(),
                    direction: set.direction,
                    index,
                };
                (rule.id, name)
            })
        })
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by", self.direction)?;
        for (i, policy) in self.policies.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma} {policy}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rule {} of policy {}",
            self.direction, self.index, self.policy
        )
    }
}
