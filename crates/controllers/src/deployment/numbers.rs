//! How many pods a Deployment may have more, and may lack, while it rolls.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

const DEFAULT_PROGRESS_DEADLINE: i32 = 600;

/// A Deployment's numbers, percentages resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) replicas: i32,
    /// Pods beyond `replicas` during a rollout.
    pub(super) surge: i32,
    /// Pods that may be unavailable during a rollout.
    pub(super) unavailable: i32,
    pub(super) min_ready_seconds: i32,
    /// Absent when progress is not watched.
    pub(super) progress_deadline: Option<i32>,
    /// How many old ReplicaSets are kept; absent for all.
    pub(super) history: Option<usize>,
}

impl Numbers {
    pub(super) fn of(spec: &DeploymentSpec) -> Self {
        let replicas = spec.replicas.unwrap_or(1).max(0);
        let (surge, unavailable) = limits(spec, replicas);
        let deadline = spec
            .progress_deadline_seconds
            .unwrap_or(DEFAULT_PROGRESS_DEADLINE);
        // The largest number is the API's way to say "never".
        let keeps = |limit: &i32| *limit != i32::MAX;
        Self {
            replicas,
            surge,
            unavailable,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            progress_deadline: Some(deadline).filter(keeps),
            history: Some(spec.revision_history_limit.unwrap_or(10))
                .filter(keeps)
                .map(|limit| usize::try_from(limit).unwrap_or(0)),
        }
    }

    /// The most pods that there may be.
    pub(super) fn most(&self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    /// The fewest available pods that there must be.
    pub(super) fn fewest(&self) -> i32 {
        self.replicas - self.unavailable
    }
}

fn limits(spec: &DeploymentSpec, replicas: i32) -> (i32, i32) {
    let strategy = spec.strategy.as_ref();
    if strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate")) {
        return (0, 0);
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let quarter = IntOrString::String("25%".to_owned());
    let surge = rolling.and_then(|r| r.max_surge.as_ref()).unwrap_or(&quarter);
    let unavailable = rolling
        .and_then(|r| r.max_unavailable.as_ref())
        .unwrap_or(&quarter);
    let surge = resolve(surge, replicas, Rounding::Up);
    let unavailable = resolve(unavailable, replicas, Rounding::Down).min(replicas);
    if surge == 0 && unavailable == 0 {
        // Percentages of few pods may both come to nothing, and then nothing could ever move.
        return (0, 1.min(replicas));
    }
    (surge, unavailable)
}

/// Which way a percentage of few is rounded.
#[derive(Clone, Copy)]
pub(crate) enum Rounding {
    Up,
    Down,
}

/// What an amount is, of a total.
pub(crate) fn resolve(value: &IntOrString, total: i32, rounding: Rounding) -> i32 {
    let percent = match value {
        IntOrString::Int(number) => return (*number).max(0),
        IntOrString::String(text) => text.trim_end_matches('%').parse::<i64>().unwrap_or(0).max(0),
    };
    let hundredths = percent.saturating_mul(total.into());
    let resolved = match rounding {
        Rounding::Up => hundredths.saturating_add(99) / 100,
        Rounding::Down => hundredths / 100,
    };
    i32::try_from(resolved).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::defaults(10, json!({}), 3, 2)]
    #[case::absolute(10, json!({ "maxSurge": 4, "maxUnavailable": 0 }), 4, 0)]
    #[case::percent(10, json!({ "maxSurge": "15%", "maxUnavailable": "15%" }), 2, 1)]
    #[case::never_more_than_there_are(3, json!({ "maxUnavailable": 8 }), 1, 3)]
    #[case::never_stuck(3, json!({ "maxSurge": 0, "maxUnavailable": "10%" }), 0, 1)]
    #[case::nothing_at_all(0, json!({}), 0, 0)]
    fn limits_are_resolved(
        #[case] replicas: i32,
        #[case] rolling: Value,
        #[case] surge: i32,
        #[case] unavailable: i32,
    ) {
        let spec: DeploymentSpec = serde_json::from_value(json!({
            "replicas": replicas,
            "selector": {},
            "template": {},
            "strategy": { "type": "RollingUpdate", "rollingUpdate": rolling },
        }))
        .unwrap();
        let numbers = Numbers::of(&spec);
        assert_eq!((numbers.surge, numbers.unavailable), (surge, unavailable));
    }
}
