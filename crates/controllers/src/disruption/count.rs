//! What a budget's status is to be. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::deployment::numbers::{Rounding, resolve};
use crate::pods;

/// An evicted pod that is still there after this long wasn't deleted after all.
const DELETION: SignedDuration = SignedDuration::from_mins(2);
const ALLOWED: &str = "DisruptionAllowed";

/// The status, and in how long it is to be looked at again, if nothing happens before.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) status: PodDisruptionBudgetStatus,
    pub(super) again: Option<SignedDuration>,
    /// Evicted pods that are still there.
    pub(super) overdue: Vec<String>,
}

/// Whether the budget needs to know how many pods there should be.
pub(super) fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let Some(spec) = &budget.spec else { return false };
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// Counts. `scale` is how many pods there should be, where the budget needs it.
pub(super) fn count(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scale: i32, now: Timestamp) -> Counted {
    let (disrupted, overdue) = disrupted(budget, pods, now);
    let is_healthy = |pod: &&Arc<Pod>| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        !pods::is_leaving(pod) && !disrupted.contains_key(name) && pods::is_ready(pod)
    };
    let healthy = number(pods.iter().filter(is_healthy).count());
    let (expected, desired) = bounds(budget, number(pods.len()), scale);
    let allowed = match expected {
        0 => 0,
        _ => (healthy - desired).max(0),
    };
    let (whether, reason) = match allowed {
        0 => ("False", "InsufficientPods"),
        _ => ("True", "SufficientPods"),
    };
    let soonest = disrupted.values().map(|time| time.0).min();
    let again = soonest.map(|time| time.duration_since(now) + DELETION);
    let status = PodDisruptionBudgetStatus {
        conditions: Some(with_condition(budget, whether, reason, "", now)),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: budget.metadata.generation,
    };
    Counted {
        status,
        again,
        overdue,
    }
}

/// The status of a budget that can't be counted: nothing may be evicted.
pub(super) fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    PodDisruptionBudgetStatus {
        disruptions_allowed: Some(0),
        observed_generation: budget.metadata.generation,
        conditions: Some(with_condition(budget, "False", "SyncFailed", why, now)),
        ..budget.status.clone().unwrap_or_default()
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// How many pods there should be, and how many of them healthy.
fn bounds(budget: &PodDisruptionBudget, pods: i32, scale: i32) -> (i32, i32) {
    let spec = budget.spec.as_ref();
    let amount = |of: fn(&k8s_openapi::api::policy::v1::PodDisruptionBudgetSpec) -> Option<&IntOrString>| {
        spec.and_then(of)
    };
    if let Some(most) = amount(|spec| spec.max_unavailable.as_ref()) {
        let unavailable = resolve(most, scale, Rounding::Up);
        return (scale, (scale - unavailable).max(0));
    }
    match amount(|spec| spec.min_available.as_ref()) {
        Some(IntOrString::Int(least)) => (pods, *least),
        Some(percent) => (scale, resolve(percent, scale, Rounding::Up)),
        None => (0, 0),
    }
}

/// Evicted pods that are still to go, and those that should be gone.
fn disrupted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Vec<String>) {
    let before = budget
        .status
        .as_ref()
        .and_then(|status| status.disrupted_pods.as_ref());
    let (mut disrupted, mut overdue) = (BTreeMap::new(), Vec::new());
    for pod in pods.iter().filter(|pod| !pods::is_leaving(pod)) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        match before.and_then(|before| before.get(&name)) {
            Some(time) if now.duration_since(time.0) < DELETION => {
                disrupted.insert(name, time.clone());
            }
            Some(_) => overdue.push(name),
            None => {}
        }
    }
    (disrupted, overdue)
}

fn with_condition(
    budget: &PodDisruptionBudget,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let before = budget
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone());
    let mut conditions = before.unwrap_or_default();
    let old = conditions.iter().find(|condition| condition.type_ == ALLOWED);
    let since = old
        .filter(|condition| condition.status == status)
        .map_or(Time(now), |condition| condition.last_transition_time.clone());
    conditions.retain(|condition| condition.type_ != ALLOWED);
    conditions.push(Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since,
        observed_generation: budget.metadata.generation,
    });
    conditions
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        let object = json!({ "metadata": { "name": "b", "generation": 3 }, "spec": spec, "status": status });
        serde_json::from_value(object).unwrap()
    }

    fn pod(name: &str, ready: bool, leaving: bool) -> Arc<Pod> {
        let mut object = json!({ "metadata": { "name": name },
            "status": { "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] } });
        if leaving {
            object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn counts(spec: Value, pods: &[Arc<Pod>], scale: i32) -> (i32, i32, i32, i32) {
        let status = count(&budget(spec, json!(null)), pods, scale, at(0)).status;
        let known = |count: Option<i32>| count.unwrap();
        (
            known(status.expected_pods),
            known(status.desired_healthy),
            known(status.current_healthy),
            known(status.disruptions_allowed),
        )
    }

    #[test]
    fn what_is_allowed_follows_from_what_is_healthy_and_what_is_wanted() {
        let pods = [
            pod("a", true, false),
            pod("b", true, false),
            pod("c", false, false),
            pod("d", true, true),
        ];
        assert_eq!(counts(json!({ "minAvailable": 1 }), &pods, 0), (4, 1, 2, 1));
        assert_eq!(counts(json!({ "minAvailable": 3 }), &pods, 0), (4, 3, 2, 0));
        assert_eq!(counts(json!({ "minAvailable": "50%" }), &pods, 3), (3, 2, 2, 0));
        assert_eq!(counts(json!({ "maxUnavailable": 2 }), &pods, 3), (3, 1, 2, 1));
        assert_eq!(counts(json!({ "maxUnavailable": "30%" }), &pods, 3), (3, 2, 2, 0));
        assert_eq!(counts(json!({ "maxUnavailable": 9 }), &pods, 3), (3, 0, 2, 2));
        assert_eq!(counts(json!({}), &pods, 0), (0, 0, 2, 0));
        assert_eq!(counts(json!({ "minAvailable": 0 }), &[], 0), (0, 0, 0, 0));
    }

    #[test]
    fn an_evicted_pod_is_not_healthy_until_it_is_gone_or_stays() {
        let time = |seconds| at(seconds).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let budget = budget(
            json!({ "minAvailable": 1 }),
            json!({ "currentHealthy": 3, "desiredHealthy": 1, "expectedPods": 3, "disruptionsAllowed": 0,
                "disruptedPods": { "a": time(0), "b": time(-500), "gone": time(0) } }),
        );
        let pods = [
            pod("a", true, false),
            pod("b", true, false),
            pod("c", true, false),
        ];
        let counted = count(&budget, &pods, 0, at(20));
        assert_eq!(
            (counted.status.current_healthy, counted.status.disruptions_allowed),
            (Some(2), Some(1))
        );
        let left: Vec<String> = counted.status.disrupted_pods.unwrap().into_keys().collect();
        assert_eq!(left, ["a"]);
        assert_eq!(counted.overdue, ["b"]);
        assert_eq!(counted.again, Some(SignedDuration::from_secs(100)));
    }

    #[test]
    fn an_eviction_at_the_end_of_time_is_one_like_any() {
        let budget = budget(
            json!({ "minAvailable": 1 }),
            json!({ "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1, "disruptionsAllowed": 0,
                "disruptedPods": { "a": "9999-12-30T22:00:00Z" } }),
        );
        let counted = count(&budget, &[pod("a", true, false)], 0, at(0));
        assert_eq!(counted.status.current_healthy, Some(0));
        assert!(counted.again.is_some_and(|again| again.as_hours() > 1_000_000));
    }

    #[test]
    fn what_cannot_be_counted_allows_nothing() {
        let budget = budget(
            json!({}),
            json!({ "currentHealthy": 3, "desiredHealthy": 1, "expectedPods": 3, "disruptionsAllowed": 2 }),
        );
        let status = failed(&budget, "no owner", at(0));
        assert_eq!(
            (status.disruptions_allowed, status.current_healthy),
            (Some(0), Some(3))
        );
        let condition = &status.conditions.unwrap()[0];
        assert_eq!(
            (condition.reason.as_str(), condition.message.as_str()),
            ("SyncFailed", "no owner")
        );
        assert_eq!(status.observed_generation, Some(3));
    }
}
