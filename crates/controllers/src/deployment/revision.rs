//! Revisions: which ReplicaSet was how many-th, for `kubectl rollout history` and `undo`.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::replica_sets::{actual, annotation};
use super::{Action, Context, Update, scale, template};
use crate::owner;
use crate::replicaset::desired;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// A history longer than this loses its beginning.
const HISTORY_LENGTH: usize = 2000;
/// Annotations that say something about the Deployment alone.
const OWN: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    scale::DESIRED,
    scale::MOST,
];

fn revision(set: &ReplicaSet) -> i64 {
    annotation(set, REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// The number of the newest revision.
pub(super) fn next(context: &Context<'_>) -> i64 {
    context
        .sets
        .old
        .iter()
        .map(|set| revision(set))
        .max()
        .unwrap_or(0)
        + 1
}

/// The Deployment's annotations that its ReplicaSet gets too, such as the cause of the change.
fn copied(context: &Context<'_>) -> BTreeMap<String, String> {
    let annotations = context.deployment.metadata.annotations.iter().flatten();
    annotations
        .filter(|(key, _)| !OWN.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Keeps the new ReplicaSet's annotations up to date: one that an undo brings back to life is the
/// newest revision again, and remembers which it was.
pub(super) fn of_existing(context: &Context<'_>) -> Vec<Action> {
    let Some(new) = &context.sets.new else {
        return Vec::new();
    };
    let mut update = Update::of(new);
    update.annotations = copied(context);
    let (had, next) = (revision(new), next(context));
    if had < next {
        update.annotations.insert(REVISION.to_owned(), next.to_string());
        if had > 0 {
            update.annotations.insert(HISTORY.to_owned(), history(new, had));
        }
    }
    update
        .annotations
        .retain(|key, value| annotation(new, key) != Some(value));
    let min_ready = context.numbers.min_ready_seconds;
    let differs = crate::replicaset::min_ready_seconds(new) != min_ready;
    update.min_ready_seconds = differs.then_some(min_ready);
    let mut actions = Vec::new();
    if !update.is_empty() {
        actions.push(Action::Update(update));
    }
    actions.extend(of_deployment(context, had.max(next)));
    actions
}

fn history(set: &ReplicaSet, had: i64) -> String {
    let mut history = match annotation(set, HISTORY) {
        Some(before) if !before.is_empty() => format!("{before},{had}"),
        _ => had.to_string(),
    };
    while history.len() > HISTORY_LENGTH
        && let Some((_, rest)) = history.split_once(',')
    {
        history = rest.to_owned();
    }
    history
}

pub(super) fn of_deployment(context: &Context<'_>, revision: i64) -> Option<Action> {
    let annotations = context.deployment.metadata.annotations.as_ref();
    let noted = annotations.and_then(|annotations| annotations.get(REVISION));
    let revision = revision.to_string();
    (noted != Some(&revision)).then_some(Action::SetRevision(revision))
}

/// The ReplicaSet of the current template, as it is to be created.
pub(super) fn new_replica_set(context: &Context<'_>, replicas: i32) -> ReplicaSet {
    let mut annotations = copied(context);
    annotations.insert(REVISION.to_owned(), next(context).to_string());
    annotations.extend(scale::annotations(&context.numbers));

    let status = context.deployment.status.as_ref();
    let collisions = status.and_then(|status| status.collision_count).unwrap_or(0);
    let hash = template::hash(&context.spec.template, collisions);
    let mut template = context.spec.template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels = Some(template::with_hash(meta.labels.as_ref(), &hash));

    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name(context, &hash)),
            namespace: context.deployment.metadata.namespace.clone(),
            labels: meta.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(vec![owner::controller_ref(context.deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec(context, replicas, &hash, template)),
        status: None,
    }
}

fn name(context: &Context<'_>, hash: &str) -> String {
    let name = context.deployment.metadata.name.as_deref().unwrap_or_default();
    format!("{name}-{hash}")
}

fn spec(context: &Context<'_>, replicas: i32, hash: &str, template: PodTemplateSpec) -> ReplicaSetSpec {
    let selector = &context.spec.selector;
    ReplicaSetSpec {
        replicas: Some(replicas),
        min_ready_seconds: context.spec.min_ready_seconds,
        selector: LabelSelector {
            match_labels: Some(template::with_hash(selector.match_labels.as_ref(), hash)),
            match_expressions: selector.match_expressions.clone(),
        },
        template: Some(template),
    }
}

/// Deletes the oldest revisions beyond the limit. One that still has pods, or whose last change
/// its controller has not seen, is left alone.
pub(super) fn clean_up(context: &Context<'_>) -> Vec<Action> {
    let Some(limit) = context.numbers.history else {
        return Vec::new();
    };
    let here = |set: &&_| {
        let set: &std::sync::Arc<ReplicaSet> = set;
        set.metadata.deletion_timestamp.is_none()
    };
    let mut old: Vec<_> = context.sets.old.iter().filter(here).collect();
    old.sort_by_key(|set| revision(set));
    let surplus = old.len().saturating_sub(limit);
    let removable = |set: &&&std::sync::Arc<ReplicaSet>| {
        let seen = set.status.as_ref().and_then(|status| status.observed_generation);
        actual(set) == 0 && desired(set) == 0 && set.metadata.generation <= seen
    };
    let surplus = old.iter().take(surplus).filter(removable);
    surplus
        .map(|set| Action::Delete(std::sync::Arc::clone(set)))
        .collect()
}
