//! A ReplicaSet's status.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::min_ready_seconds;
use crate::pods;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Why pods could not be created or deleted.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The status as it should be. `pods` are those that count; `leaving` have been deleted and run on.
pub(super) fn status(
    replica_set: &ReplicaSet,
    pods: &[Arc<Pod>],
    leaving: usize,
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let min_ready = min_ready_seconds(replica_set);
    let count =
        |predicate: &dyn Fn(&Pod) -> bool| Some(to_i32(pods.iter().filter(|pod| predicate(pod)).count()));
    let old = replica_set.status.as_ref();
    ReplicaSetStatus {
        replicas: to_i32(pods.len()),
        fully_labeled_replicas: count(&|pod| is_fully_labeled(replica_set, pod)),
        ready_replicas: count(&pods::is_ready),
        available_replicas: count(&|pod| pods::is_available(pod, min_ready, now)),
        terminating_replicas: Some(to_i32(leaving)),
        observed_generation: replica_set.metadata.generation,
        conditions: conditions(old.and_then(|status| status.conditions.as_deref()), failure, now),
    }
}

fn conditions(
    old: Option<&[ReplicaSetCondition]>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let old = old.unwrap_or_default();
    let mut conditions: Vec<_> = old
        .iter()
        .filter(|c| c.type_ != REPLICA_FAILURE)
        .cloned()
        .collect();
    if let Some(failure) = failure {
        let same = |c: &&ReplicaSetCondition| {
            c.type_ == REPLICA_FAILURE && c.reason.as_deref() == Some(failure.reason)
        };
        // The first failure stays: its time says how long it has been so.
        conditions.push(
            old.iter()
                .find(same)
                .cloned()
                .unwrap_or_else(|| ReplicaSetCondition {
                    type_: REPLICA_FAILURE.to_owned(),
                    status: "True".to_owned(),
                    reason: Some(failure.reason.to_owned()),
                    message: Some(failure.message.clone()),
                    last_transition_time: Some(Time(now)),
                }),
        );
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// Whether two statuses say the same; absent counts are zero.
pub(super) fn same(a: Option<&ReplicaSetStatus>, b: &ReplicaSetStatus) -> bool {
    let Some(a) = a else { return false };
    let counts = |s: &ReplicaSetStatus| {
        let optional = [
            s.fully_labeled_replicas,
            s.ready_replicas,
            s.available_replicas,
            s.terminating_replicas,
        ];
        (
            s.replicas,
            optional.map(Option::unwrap_or_default),
            s.observed_generation,
        )
    };
    let conditions = |s: &ReplicaSetStatus| s.conditions.clone().unwrap_or_default();
    counts(a) == counts(b) && conditions(a) == conditions(b)
}

fn is_fully_labeled(replica_set: &ReplicaSet, pod: &Pod) -> bool {
    let template = replica_set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let wanted = template
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.as_ref());
    let labels = pod.metadata.labels.as_ref();
    wanted
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
}

fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
