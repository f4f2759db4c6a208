//! A Deployment's conditions. `kubectl rollout status` and `kubectl wait` read them, so types and
//! reasons are Kubernetes'.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DeploymentCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(super) const AVAILABLE: &str = "Available";
pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Reasons of [`PROGRESSING`].
pub(super) const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
pub(super) const NEW_CREATED: &str = "NewReplicaSetCreated";
pub(super) const FOUND_NEW: &str = "FoundNewReplicaSet";
pub(super) const UPDATED: &str = "ReplicaSetUpdated";
pub(super) const CREATE_ERROR: &str = "ReplicaSetCreateError";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(super) const PAUSED: &str = "DeploymentPaused";
pub(super) const RESUMED: &str = "DeploymentResumed";

pub(super) fn new(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

pub(super) fn find<'a>(conditions: &'a [DeploymentCondition], kind: &str) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

pub(super) fn has_reason(condition: Option<&DeploymentCondition>, reason: &str) -> bool {
    condition.is_some_and(|condition| condition.reason.as_deref() == Some(reason))
}

/// Sets a condition. One that says the same stays as it is; the time of transition changes only
/// with the status.
pub(super) fn set(conditions: &mut Vec<DeploymentCondition>, condition: DeploymentCondition) {
    let old = find(conditions, &condition.type_);
    if old.is_some_and(|old| old.status == condition.status && old.reason == condition.reason) {
        return;
    }
    replace(conditions, condition);
}

/// Sets a condition even if it says the same: its time of update is what counts.
pub(super) fn replace(conditions: &mut Vec<DeploymentCondition>, mut condition: DeploymentCondition) {
    let old = find(conditions, &condition.type_);
    if let Some(old) = old.filter(|old| old.status == condition.status) {
        condition.last_transition_time = old.last_transition_time.clone();
    }
    remove(conditions, &condition.type_);
    conditions.push(condition);
}

pub(super) fn remove(conditions: &mut Vec<DeploymentCondition>, kind: &str) {
    conditions.retain(|condition| condition.type_ != kind);
}
