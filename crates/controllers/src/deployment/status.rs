//! A Deployment's status: numbers, availability, and whether it gets anywhere.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::replica_sets::{actual, available, leaving, ready, total_desired};
use super::{Action, Context, condition};

/// What becomes of the Progressing condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress<'a> {
    /// No rollout goes on: only a pause or its end is noted.
    Untouched,
    /// The rollout is watched.
    Watched,
    /// The new ReplicaSet, of this name, is created in this step.
    Created(&'a str),
}

/// Writes the status if it changed, and comes back when the deadline for progress has passed.
pub(super) fn update(context: &Context<'_>, progress: Progress<'_>) -> Vec<Action> {
    let old = context.deployment.status.clone().unwrap_or_default();
    let mut new = numbers(context, &old);
    let mut conditions = old.conditions.clone().unwrap_or_default();
    condition::set(&mut conditions, availability(context, &new));
    if context.numbers.progress_deadline.is_some() {
        note_pause(context, &mut conditions);
        match progress {
            Progress::Untouched => {}
            Progress::Watched => watch(context, &old, &new, &mut conditions),
            Progress::Created(name) => {
                let message = format!("Created new replica set {name:?}");
                let reason = condition::NEW_CREATED;
                set_progressing(&mut conditions, "True", reason, message, context.now);
            }
        }
    } else {
        condition::remove(&mut conditions, condition::PROGRESSING);
    }
    if progress != Progress::Untouched {
        note_failures(context, &mut conditions);
    }
    let come_back = deadline_passes_in(context, &conditions);
    new.conditions = Some(conditions);
    let mut actions = Vec::new();
    if !same(&old, &new) {
        actions.push(Action::UpdateStatus(Box::new(new)));
    }
    actions.extend(come_back.map(Action::ComeBack));
    actions
}

/// Whether everything is new, there and available.
pub(super) fn is_complete(context: &Context<'_>) -> bool {
    let old = context.deployment.status.clone().unwrap_or_default();
    complete(context, &numbers(context, &old))
}

fn numbers(context: &Context<'_>, old: &DeploymentStatus) -> DeploymentStatus {
    let sum = |count: fn(&ReplicaSet) -> i32| context.sets.all().map(|set| count(set)).sum::<i32>();
    let available = sum(available);
    let unavailable = (total_desired(context.sets.all()) - available).max(0);
    DeploymentStatus {
        observed_generation: context.deployment.metadata.generation,
        replicas: Some(sum(actual)),
        updated_replicas: Some(context.sets.new.as_ref().map_or(0, |new| actual(new))),
        ready_replicas: Some(sum(ready)),
        available_replicas: Some(available),
        unavailable_replicas: Some(unavailable),
        terminating_replicas: Some(sum(leaving)),
        collision_count: old.collision_count,
        conditions: None,
    }
}

fn availability(context: &Context<'_>, status: &DeploymentStatus) -> DeploymentCondition {
    let enough = count(status.available_replicas) >= context.numbers.fewest();
    let (status, reason, message) = if enough {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    condition::new(
        condition::AVAILABLE,
        status,
        reason,
        message.to_owned(),
        context.now,
    )
}

fn complete(context: &Context<'_>, status: &DeploymentStatus) -> bool {
    let replicas = context.numbers.replicas;
    count(status.updated_replicas) == replicas
        && count(status.replicas) == replicas
        && count(status.available_replicas) == replicas
        && status.observed_generation >= context.deployment.metadata.generation
}

/// Whether this step's numbers are better than the last one's.
fn progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let outdated = |s: &DeploymentStatus| count(s.replicas) - count(s.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

fn watch(
    context: &Context<'_>,
    old: &DeploymentStatus,
    new: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
) {
    let current = condition::find(conditions, condition::PROGRESSING);
    let all_updated = count(new.replicas) == count(new.updated_replicas);
    if all_updated && condition::has_reason(current, condition::NEW_AVAILABLE) {
        // It was complete once; pods that fail later are no matter of progress.
        return;
    }
    let name = name(context);
    let now = context.now;
    if complete(context, new) {
        let message = format!("{name} has successfully progressed.");
        set_progressing(conditions, "True", condition::NEW_AVAILABLE, message, now);
    } else if progressed(old, new) {
        let message = format!("{name} is progressing.");
        let reason = condition::UPDATED;
        let updated = condition::new(condition::PROGRESSING, "True", reason, message, now);
        condition::replace(conditions, updated);
    } else if timed_out(context, current) {
        let message = format!("{name} has timed out progressing.");
        set_progressing(conditions, "False", condition::TIMED_OUT, message, now);
    } else if current.is_none() {
        let message = format!("Found {name}");
        set_progressing(conditions, "True", condition::FOUND_NEW, message, now);
    }
}

/// The new ReplicaSet where there is one, for messages.
fn name(context: &Context<'_>) -> String {
    let (kind, meta) = match &context.sets.new {
        Some(new) => ("ReplicaSet", &new.metadata),
        None => ("Deployment", &context.deployment.metadata),
    };
    format!("{kind} {:?}", meta.name.as_deref().unwrap_or_default())
}

fn timed_out(context: &Context<'_>, current: Option<&DeploymentCondition>) -> bool {
    if condition::has_reason(current, condition::NEW_AVAILABLE) {
        return false;
    }
    condition::has_reason(current, condition::TIMED_OUT)
        || deadline(context, current).is_some_and(|deadline| deadline < context.now)
}

/// Until when the next sign of progress must be seen.
fn deadline(context: &Context<'_>, current: Option<&DeploymentCondition>) -> Option<Timestamp> {
    let last = current?.last_update_time.as_ref()?.0;
    let seconds = context.numbers.progress_deadline?;
    last.checked_add(SignedDuration::from_secs(seconds.into())).ok()
}

fn deadline_passes_in(context: &Context<'_>, conditions: &[DeploymentCondition]) -> Option<Duration> {
    let current = condition::find(conditions, condition::PROGRESSING);
    let settled = [condition::NEW_AVAILABLE, condition::TIMED_OUT, condition::PAUSED];
    if settled
        .iter()
        .any(|reason| condition::has_reason(current, reason))
    {
        return None;
    }
    let left = deadline(context, current)?.duration_since(context.now);
    // Times are written in whole seconds, so a little later is surely past.
    Some(Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1))
}

/// A pause stops the clock; its end starts it anew.
fn note_pause(context: &Context<'_>, conditions: &mut Vec<DeploymentCondition>) {
    let current = condition::find(conditions, condition::PROGRESSING);
    if condition::has_reason(current, condition::TIMED_OUT) {
        return;
    }
    let was_paused = condition::has_reason(current, condition::PAUSED);
    let (reason, message) = match (context.spec.paused == Some(true), was_paused) {
        (true, false) => (condition::PAUSED, "Deployment is paused"),
        (false, true) => (condition::RESUMED, "Deployment is resumed"),
        _ => return,
    };
    set_progressing(conditions, "Unknown", reason, message.to_owned(), context.now);
}

/// What ReplicaSets fail at, the Deployment fails at; the new one speaks first.
fn note_failures(context: &Context<'_>, conditions: &mut Vec<DeploymentCondition>) {
    let sets = context.sets.new.iter().chain(&context.sets.old);
    let failure = sets
        .filter_map(|set| set.status.as_ref()?.conditions.as_ref())
        .flatten();
    let failure = failure
        .into_iter()
        .find(|c| c.type_ == condition::REPLICA_FAILURE);
    match failure {
        Some(failure) => condition::set(
            conditions,
            DeploymentCondition {
                type_: failure.type_.clone(),
                status: failure.status.clone(),
                reason: failure.reason.clone(),
                message: failure.message.clone(),
                last_update_time: failure.last_transition_time.clone(),
                last_transition_time: failure.last_transition_time.clone(),
            },
        ),
        None => condition::remove(conditions, condition::REPLICA_FAILURE),
    }
}

/// The ReplicaSet of the current template could not be created.
pub(super) fn creation_failed(old: &DeploymentStatus, message: String, now: Timestamp) -> DeploymentStatus {
    let mut status = old.clone();
    let conditions = status.conditions.get_or_insert_default();
    set_progressing(conditions, "False", condition::CREATE_ERROR, message, now);
    status
}

fn set_progressing(
    conditions: &mut Vec<DeploymentCondition>,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let condition = condition::new(condition::PROGRESSING, status, reason, message, now);
    condition::set(conditions, condition);
}

fn count(number: Option<i32>) -> i32 {
    number.unwrap_or(0)
}

/// Whether two statuses say the same; absent counts are zero, times are whole seconds.
fn same(a: &DeploymentStatus, b: &DeploymentStatus) -> bool {
    let normal = |status: &DeploymentStatus| {
        let mut status = status.clone();
        for number in [
            &mut status.replicas,
            &mut status.updated_replicas,
            &mut status.ready_replicas,
            &mut status.available_replicas,
            &mut status.unavailable_replicas,
            &mut status.terminating_replicas,
        ] {
            *number = Some(count(*number));
        }
        for condition in status.conditions.iter_mut().flatten() {
            for time in [
                &mut condition.last_update_time,
                &mut condition.last_transition_time,
            ] {
                *time = time.as_ref().map(whole_seconds);
            }
        }
        status
    };
    normal(a) == normal(b)
}

fn whole_seconds(time: &Time) -> Time {
    Time(Timestamp::from_second(time.0.as_second()).unwrap_or(time.0))
}
