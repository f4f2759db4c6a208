//! Scaling: the user changes the size, perhaps in the middle of a rollout.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::numbers::Numbers;
use super::replica_sets::{annotation, available, by_age, total_desired};
use super::{Action, Context, Update};
use crate::replicaset::desired;

/// The Deployment's size and largest size when the ReplicaSet was last sized by it.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MOST: &str = "deployment.kubernetes.io/max-replicas";

/// The sizes to write down on a ReplicaSet.
pub(super) fn annotations(numbers: &Numbers) -> BTreeMap<String, String> {
    BTreeMap::from([
        (DESIRED.to_owned(), numbers.replicas.to_string()),
        (MOST.to_owned(), numbers.most().to_string()),
    ])
}

/// Gives a ReplicaSet a size, and writes down for which size of the Deployment. Nothing when both
/// are so already.
pub(super) fn to(set: &Arc<ReplicaSet>, size: i32, numbers: &Numbers) -> Option<Action> {
    let mut update = Update::of(set);
    update.replicas = Some(size).filter(|&size| size != desired(set));
    update.annotations = annotations(numbers);
    update
        .annotations
        .retain(|key, value| annotation(set, key) != Some(value));
    (!update.is_empty()).then_some(Action::Update(update))
}

/// Whether the Deployment's size changed since its ReplicaSets were sized.
pub(super) fn is_due(context: &Context<'_>) -> bool {
    let mut active = context.sets.all().filter(|set| desired(set) > 0);
    active.any(|set| {
        let noted = annotation(set, DESIRED).and_then(|size| size.parse::<i32>().ok());
        noted.is_some_and(|noted| noted != context.numbers.replicas)
    })
}

/// Spreads a change of size over the ReplicaSets in proportion to their sizes, so that a rollout
/// that goes wrong doesn't get all the new pods.
pub(super) fn proportionally(context: &Context<'_>) -> Vec<Action> {
    let numbers = &context.numbers;
    if let Some(only) = only_or_latest(context) {
        return to(only, numbers.replicas, numbers).into_iter().collect();
    }
    let strategy = context.spec.strategy.as_ref().and_then(|s| s.type_.as_deref());
    if is_saturated(context) || strategy == Some("Recreate") {
        let old = context.sets.active_old();
        return old.filter_map(|set| to(set, 0, numbers)).collect();
    }
    spread(context)
}

/// The only ReplicaSet with pods; or, if none has any, the new one, or the newest.
fn only_or_latest<'a>(context: &'a Context<'_>) -> Option<&'a Arc<ReplicaSet>> {
    let mut active = context.sets.all().filter(|set| desired(set) > 0);
    match (active.next(), active.next()) {
        (Some(only), None) => Some(only),
        (None, _) => context.sets.new.as_ref().or(context.sets.old.last()),
        _ => None,
    }
}

/// Whether the new ReplicaSet has all it should, so that the old ones are not needed.
fn is_saturated(context: &Context<'_>) -> bool {
    let replicas = context.numbers.replicas;
    context.sets.new.as_ref().is_some_and(|new| {
        desired(new) == replicas
            && annotation(new, DESIRED) == Some(replicas.to_string().as_str())
            && available(new) == replicas
    })
}

fn spread(context: &Context<'_>) -> Vec<Action> {
    let numbers = &context.numbers;
    let mut active: Vec<_> = context.sets.all().filter(|set| desired(set) > 0).collect();
    let allowed = if numbers.replicas > 0 { numbers.most() } else { 0 };
    let change = allowed - total_desired(active.iter().copied());
    // The largest first; among equals the newest gets more, or the oldest loses more.
    active.sort_by(|a, b| {
        let age = if change > 0 { by_age(b, a) } else { by_age(a, b) };
        desired(b).cmp(&desired(a)).then(age)
    });
    let mut left = change;
    let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
    for set in &active {
        let share = if left == 0 { 0 } else { share(context, set) };
        let share = if change > 0 {
            share.min(left)
        } else {
            share.max(left)
        };
        left -= share;
        sizes.push(desired(set) + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + left).max(0);
    }
    let resized = active.into_iter().zip(sizes);
    resized.filter_map(|(set, size)| to(set, size, numbers)).collect()
}

/// A ReplicaSet's part of the change, if it keeps its proportion.
fn share(context: &Context<'_>, set: &ReplicaSet) -> i32 {
    let size = desired(set);
    if context.numbers.replicas == 0 {
        return -size;
    }
    let noted = annotation(set, MOST).and_then(|most| most.parse::<i32>().ok());
    let status = context.deployment.status.as_ref();
    let before = match noted.filter(|&most| most != 0) {
        Some(most) => most,
        None => status.and_then(|status| status.replicas).unwrap_or(0),
    };
    if before == 0 {
        return 0;
    }
    let scaled = f64::from(size) * f64::from(context.numbers.most()) / f64::from(before);
    // In range: no size is more than a few times an i32 that the API server has checked.
    scaled.round() as i32 - size
}
