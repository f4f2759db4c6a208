//! ReplicaSets: as many pods as asked for.
//!
//! [`sync`] decides how many pods to create and which to delete; [`status`] says how things are;
//! [`driver`] feeds them from the shared caches and does what they say.

pub(crate) mod driver;
mod rank;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

/// More than this is never created or deleted at one go.
const BURST: usize = 500;

/// What a ReplicaSet's pods look like.
pub(crate) struct Observed<'a> {
    pub(crate) replica_set: &'a ReplicaSet,
    /// Its pods that count (see [`crate::pods::is_active`]).
    pub(crate) pods: &'a [Arc<Pod>],
    /// The pods of all ReplicaSets of the same Deployment, these included: where many of them
    /// share a node, one can go.
    pub(crate) related: &'a [Arc<Pod>],
    pub(crate) now: Timestamp,
}

/// What to do about them.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// How many pods a ReplicaSet asks for.
pub(crate) fn desired(replica_set: &ReplicaSet) -> i32 {
    let spec = replica_set.spec.as_ref();
    spec.and_then(|spec| spec.replicas).unwrap_or(1).max(0)
}

pub(crate) fn min_ready_seconds(replica_set: &ReplicaSet) -> i32 {
    let spec = replica_set.spec.as_ref();
    spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

/// Compares what is with what should be.
pub(crate) fn sync(observed: &Observed<'_>) -> Option<Action> {
    if observed.replica_set.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let desired = usize::try_from(desired(observed.replica_set)).unwrap_or(0);
    let actual = observed.pods.len();
    if actual < desired {
        return Some(Action::Create((desired - actual).min(BURST)));
    }
    if actual > desired {
        let surplus = (actual - desired).min(BURST);
        let ranked = rank::for_deletion(observed.pods, observed.related, observed.now);
        return Some(Action::Delete(ranked.into_iter().take(surplus).collect()));
    }
    None
}

#[cfg(test)]
mod tests;
