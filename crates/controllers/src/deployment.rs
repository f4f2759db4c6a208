//! Deployments: the pods of the newest template, reached step by step.
//!
//! ```text
//! Deployment + its ReplicaSets ──► sync() ──► actions ──► API
//!                 ▲                                        │
//!                 └──────────── watch ◄────────────────────┘
//! ```
//!
//! [`sync`] looks at a Deployment and its ReplicaSets and says what the next step is; what the
//! step changes comes back through the watch and leads to the one after. Writes to ReplicaSets
//! carry the version that was looked at, so a step decided on a stale view fails and is decided
//! anew. Nothing else is remembered between steps: a restarted controller goes on where it was.

mod condition;
pub(crate) mod driver;
pub(crate) mod numbers;
mod replica_sets;
mod revision;
mod rollout;
mod scale;
mod status;
mod template;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};

use numbers::Numbers;
use replica_sets::ReplicaSets;

/// A Deployment and what belongs to it.
pub(crate) struct Observed<'a> {
    pub(crate) deployment: &'a Deployment,
    /// Its ReplicaSets.
    pub(crate) replica_sets: &'a [Arc<ReplicaSet>],
    /// The UIDs of those ReplicaSets that still have pods which have not ended.
    pub(crate) running: &'a [String],
    pub(crate) now: Timestamp,
}

/// One thing to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Create the ReplicaSet of the current template.
    Create(Box<ReplicaSet>),
    /// Change a ReplicaSet.
    Update(Update),
    /// Delete a ReplicaSet that is only history.
    Delete(Arc<ReplicaSet>),
    /// Write the revision into the Deployment's annotations.
    SetRevision(String),
    /// Write the status.
    UpdateStatus(Box<DeploymentStatus>),
    /// Look again later, although nothing may have happened by then.
    ComeBack(Duration),
}

/// A change of a ReplicaSet.
#[derive(Debug, PartialEq)]
pub(crate) struct Update {
    pub(crate) replica_set: Arc<ReplicaSet>,
    /// The new size.
    pub(crate) replicas: Option<i32>,
    pub(crate) min_ready_seconds: Option<i32>,
    /// Annotations to set.
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Update {
    fn of(replica_set: &Arc<ReplicaSet>) -> Self {
        Self {
            replica_set: Arc::clone(replica_set),
            replicas: None,
            min_ready_seconds: None,
            annotations: BTreeMap::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.replicas.is_none() && self.min_ready_seconds.is_none() && self.annotations.is_empty()
    }
}

/// The Deployment with everything that the steps read all the time.
struct Context<'a> {
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    sets: ReplicaSets,
    running: &'a [String],
    numbers: Numbers,
    now: Timestamp,
}

/// Decides the next step of a Deployment.
pub(crate) fn sync(observed: &Observed<'_>) -> Vec<Action> {
    let Some(spec) = observed.deployment.spec.as_ref() else {
        return Vec::new();
    };
    let context = Context {
        deployment: observed.deployment,
        spec,
        sets: ReplicaSets::new(&spec.template, observed.replica_sets),
        running: observed.running,
        numbers: Numbers::of(spec),
        now: observed.now,
    };
    if observed.deployment.metadata.deletion_timestamp.is_some() {
        return status::update(&context, status::Progress::Untouched);
    }
    if spec.paused == Some(true) || scale::is_due(&context) {
        return scaled(&context);
    }
    match spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) {
        Some("Recreate") => rollout::recreate(&context),
        _ => rollout::rolling(&context),
    }
}

/// The user changed the size, or may change nothing else for now: no step of a rollout.
fn scaled(context: &Context<'_>) -> Vec<Action> {
    let mut actions = revision::of_existing(context);
    actions.extend(scale::proportionally(context));
    if context.spec.paused == Some(true) {
        actions.extend(revision::clean_up(context));
    }
    actions.extend(status::update(context, status::Progress::Untouched));
    merge(actions)
}

/// Several changes of one ReplicaSet become one write: they would conflict.
fn merge(actions: Vec<Action>) -> Vec<Action> {
    let mut merged: Vec<Action> = Vec::with_capacity(actions.len());
    for action in actions {
        let Action::Update(update) = action else {
            merged.push(action);
            continue;
        };
        let same = merged.iter_mut().find_map(|earlier| match earlier {
            Action::Update(earlier) if Arc::ptr_eq(&earlier.replica_set, &update.replica_set) => {
                Some(earlier)
            }
            _ => None,
        });
        match same {
            Some(earlier) => {
                earlier.replicas = update.replicas.or(earlier.replicas);
                earlier.min_ready_seconds = update.min_ready_seconds.or(earlier.min_ready_seconds);
                earlier.annotations.extend(update.annotations);
            }
            None => merged.push(Action::Update(update)),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
