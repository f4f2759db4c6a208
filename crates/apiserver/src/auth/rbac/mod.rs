//! Role-based access: which rules a user has, from the live roles and bindings.
//!
//! ```text
//! store ──view──► Index: roles, compiled · grants by user and by group ──► authorize, rules_of
//! default ──reconcile──► store: what every cluster has
//! ```

mod default;
mod escalation;
mod index;
mod reconcile;
mod rule;

use std::sync::Arc;

use store::Store;

pub(crate) use self::index::Grant;
use self::index::Index;
use super::authorize::Action;
use super::identity::Identity;
use super::view::View;

pub(crate) use self::escalation::check as check_escalation;
pub(crate) use self::rule::Rule;

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// The rights that roles and bindings give.
pub(crate) struct Rbac(View<Index>);

/// What the bindings say about an action.
pub(crate) enum Verdict {
    Allowed(Arc<Grant>),
    /// Nobody allows it; these roles are bound to the user and don't exist.
    Denied(Vec<String>),
}

impl Rbac {
    pub(crate) fn new(store: &Store) -> Result<Rbac, store::Error> {
        View::new(store).map(Rbac)
    }

    /// Whether the user's roles allow the action.
    pub(crate) fn authorize(
        &self,
        store: &Store,
        identity: &Identity,
        action: &Action<'_>,
    ) -> Result<Verdict, store::Error> {
        self.0.ask(store, |index| {
            let mut missing = Vec::new();
            for grant in index.grants(identity, action.namespace) {
                match index.rules(grant) {
                    Some(rules) if rules.iter().any(|rule| rule.allows(action)) => {
                        return Verdict::Allowed(grant.clone());
                    }
                    Some(_) => {}
                    None => missing.push(grant.missing_role()),
                }
            }
            Verdict::Denied(missing)
        })
    }

    /// Every rule that the user has in a namespace, or cluster-wide where it is empty; and the roles that are
    /// bound and don't exist.
    pub(crate) fn rules_of(
        &self,
        store: &Store,
        identity: &Identity,
        namespace: &str,
    ) -> Result<(Vec<Rule>, Vec<String>), store::Error> {
        self.0.ask(store, |index| {
            let (mut rules, mut missing) = (Vec::new(), Vec::new());
            for grant in index.grants(identity, namespace) {
                match index.rules(grant) {
                    Some(found) => rules.extend_from_slice(found),
                    None => missing.push(grant.missing_role()),
                }
            }
            (rules, missing)
        })
    }
}
