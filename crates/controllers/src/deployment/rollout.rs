//! The steps of a rollout.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::replica_sets::{actual, available, total_desired};
use super::status::{self, Progress};
use super::{Action, Context, merge, revision, scale};
use crate::replicaset::desired;

/// One step of a rolling update: first up, then down, and when there is nothing left, clean up.
pub(super) fn rolling(context: &Context<'_>) -> Vec<Action> {
    let Some(new) = &context.sets.new else {
        return create(context, size_of_new(context, 0));
    };
    let mut actions = revision::of_existing(context);
    let steps = match scale_up(context, new) {
        Some(step) => vec![step],
        None => scale_down(context, new),
    };
    if steps.is_empty() && status::is_complete(context) {
        actions.extend(revision::clean_up(context));
    }
    actions.extend(steps);
    actions.extend(status::update(context, Progress::Watched));
    merge(actions)
}

fn create(context: &Context<'_>, size: i32) -> Vec<Action> {
    let new = revision::new_replica_set(context, size);
    let name = new.metadata.name.clone().unwrap_or_default();
    let mut actions = vec![Action::Create(Box::new(new))];
    actions.extend(revision::of_deployment(context, revision::next(context)));
    actions.extend(status::update(context, Progress::Created(&name)));
    actions
}

/// How large the new ReplicaSet may be now.
fn size_of_new(context: &Context<'_>, size: i32) -> i32 {
    let numbers = &context.numbers;
    let room = numbers.most() - total_desired(context.sets.all());
    size + room.min(numbers.replicas - size).max(0)
}

fn scale_up(context: &Context<'_>, new: &Arc<ReplicaSet>) -> Option<Action> {
    let (size, replicas) = (desired(new), context.numbers.replicas);
    let target = match size.cmp(&replicas) {
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => replicas,
        std::cmp::Ordering::Less => size_of_new(context, size),
    };
    if target == size {
        return None;
    }
    scale::to(new, target, &context.numbers)
}

/// Takes pods away from old ReplicaSets: those that are not available first, for nobody misses
/// them; then as many others as there are available ones beyond the fewest.
fn scale_down(context: &Context<'_>, new: &Arc<ReplicaSet>) -> Vec<Action> {
    let numbers = &context.numbers;
    let old: Vec<_> = context.sets.active_old().collect();
    let mut sizes: Vec<i32> = old.iter().map(|set| desired(set)).collect();
    let pods: i32 = sizes.iter().sum::<i32>() + desired(new);
    let new_unavailable = desired(new) - available(new);
    let mut budget = pods - numbers.fewest() - new_unavailable;
    if budget <= 0 {
        return Vec::new();
    }
    for (set, size) in old.iter().zip(&mut sizes) {
        let unavailable = (*size - available(set)).clamp(0, budget);
        *size -= unavailable;
        budget -= unavailable;
    }
    let available_now: i32 = context.sets.all().map(|set| available(set)).sum();
    let mut surplus = (available_now - numbers.fewest()).max(0);
    for size in &mut sizes {
        let fewer = (*size).min(surplus);
        *size -= fewer;
        surplus -= fewer;
    }
    let resized = old
        .into_iter()
        .zip(sizes)
        .filter(|(set, size)| desired(set) != *size);
    resized
        .filter_map(|(set, size)| scale::to(set, size, numbers))
        .collect()
}

/// One step of a recreation: all old pods go, and are gone, before a new one comes.
pub(super) fn recreate(context: &Context<'_>) -> Vec<Action> {
    let mut actions = revision::of_existing(context);
    let down: Vec<_> = context
        .sets
        .active_old()
        .filter_map(|set| scale::to(set, 0, &context.numbers))
        .collect();
    if !down.is_empty() || old_pods_remain(context) {
        actions.extend(down);
        actions.extend(status::update(context, Progress::Watched));
        return merge(actions);
    }
    let Some(new) = &context.sets.new else {
        return create(context, context.numbers.replicas);
    };
    if desired(new) == context.numbers.replicas {
        if status::is_complete(context) {
            actions.extend(revision::clean_up(context));
        }
    } else {
        actions.extend(scale::to(new, context.numbers.replicas, &context.numbers));
    }
    actions.extend(status::update(context, Progress::Watched));
    merge(actions)
}

/// Deleted pods count until they have ended: two versions at once is what this strategy rules out.
fn old_pods_remain(context: &Context<'_>) -> bool {
    let mut old = context.sets.old.iter();
    old.any(|set| {
        let uid = set.metadata.uid.as_ref();
        actual(set) > 0 || uid.is_some_and(|uid| context.running.contains(uid))
    })
}
