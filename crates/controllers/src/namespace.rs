//! Namespaces: when one is deleted, everything in it goes first.
//!
//! Pods go before the rest, so that no pod outlives the policies and secrets it was started with.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tracing::{debug, info};

use crate::discovery::{Kind, discover};
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Change, Informer, Key};
use crate::queue::{Queue, Reconcile};

const FINALIZER: &str = "kubernetes";
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(5);

/// What is left of one kind in a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Remaining {
    count: usize,
    /// How many objects carry each finalizer.
    finalizers: BTreeMap<String, usize>,
}

/// What was found in a namespace that is to go.
#[derive(Debug, Default)]
struct Content {
    remaining: BTreeMap<String, Remaining>,
    /// What could not be listed or deleted, and why.
    failures: Vec<String>,
    discovery_failure: Option<String>,
}

impl Content {
    fn is_gone(&self) -> bool {
        self.remaining.is_empty() && self.failures.is_empty() && self.discovery_failure.is_none()
    }
}

/// What to do next.
#[derive(Debug, PartialEq)]
enum Action {
    UpdateConditions(Vec<NamespaceCondition>),
    /// Let the namespace go.
    Finalize,
    LookAgain,
}

fn sync(namespace: &Namespace, content: &Content, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    let old = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    let new = conditions(old.unwrap_or_default(), content, now);
    // A namespace that goes at once need not say why it is still there.
    if old != Some(&new) && !(old.is_none() && content.is_gone()) {
        actions.push(Action::UpdateConditions(new));
    }
    actions.push(if content.is_gone() {
        Action::Finalize
    } else {
        Action::LookAgain
    });
    actions
}

fn conditions(old: &[NamespaceCondition], content: &Content, now: Timestamp) -> Vec<NamespaceCondition> {
    let discovery = content.discovery_failure.clone().into_iter().collect();
    let remaining = content
        .remaining
        .iter()
        .map(|(name, remaining)| format!("{name} has {} resource instances", remaining.count));
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, count) in content
        .remaining
        .values()
        .flat_map(|remaining| &remaining.finalizers)
    {
        *finalizers.entry(name).or_default() += count;
    }
    let finalizers = finalizers
        .iter()
        .map(|(n, count)| format!("{n} in {count} resource instances"));
    let about = [
        (
            "NamespaceDeletionDiscoveryFailure",
            ("DiscoveryFailed", "Discovery failed for some groups: "),
            ("ResourcesDiscovered", "All resources successfully discovered"),
            discovery,
        ),
        (
            "NamespaceDeletionContentFailure",
            (
                "ContentDeletionFailed",
                "Failed to delete all resource types, remaining: ",
            ),
            (
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
            content.failures.clone(),
        ),
        (
            "NamespaceContentRemaining",
            ("SomeResourcesRemain", "Some resources are remaining: "),
            ("ContentRemoved", "All content successfully removed"),
            remaining.collect(),
        ),
        (
            "NamespaceFinalizersRemaining",
            (
                "SomeFinalizersRemain",
                "Some content in the namespace has finalizers remaining: ",
            ),
            (
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
            finalizers.collect::<Vec<_>>(),
        ),
    ];
    about
        .into_iter()
        .map(|(kind, bad, good, details)| {
            let (status, reason, message) = if details.is_empty() {
                ("False", good.0, good.1.to_owned())
            } else {
                ("True", bad.0, format!("{}{}", bad.1, details.join(", ")))
            };
            let before = old.iter().find(|c| c.type_ == kind && c.status == status);
            let since = before.and_then(|before| before.last_transition_time.clone());
            NamespaceCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: since.or(Some(Time(now))),
            }
        })
        .collect()
}

/// The namespace controller.
#[derive(Clone)]
pub(crate) struct Controller {
    client: Client,
    namespaces: Cache<Namespace>,
    queue: Queue<Key>,
}

impl Controller {
    pub(crate) fn new(client: Client, namespaces: &mut Informer<Namespace>) -> Self {
        let queue: Queue<Key> = Queue::default();
        let woken = queue.clone();
        namespaces.on_change(move |change| {
            let namespace = change.object();
            if namespace.metadata.deletion_timestamp.is_some() && !matches!(change, Change::Deleted(_)) {
                woken.add(Key::of(&**namespace));
            }
        });
        Self {
            client,
            namespaces: namespaces.cache(),
            queue,
        }
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "namespace";
    const WORKERS: usize = 4;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(namespace) = self.namespaces.get(&key) else {
            return Ok(());
        };
        let Some(deleted) = namespace.metadata.deletion_timestamp.as_ref() else {
            return Ok(());
        };
        let spec = namespace.spec.as_ref();
        let finalizers = spec
            .and_then(|spec| spec.finalizers.as_deref())
            .unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(());
        }
        let content = self.empty(&key.name).await;
        for action in sync(&namespace, &content, Timestamp::now()) {
            match action {
                Action::UpdateConditions(conditions) => {
                    self.write_conditions(&key.name, &conditions).await?;
                }
                Action::Finalize => self.finalize(&key.name).await?,
                Action::LookAgain => {
                    let age = Timestamp::now().duration_since(deleted.0);
                    let age = Duration::try_from(age).unwrap_or_default();
                    self.queue
                        .add_after(key.clone(), (age / 10).clamp(FIRST_LOOK, LAST_LOOK));
                }
            }
        }
        Ok(())
    }
}

impl Controller {
    /// Deletes what is there, and says what is left.
    async fn empty(&self, namespace: &str) -> Content {
        let mut content = Content::default();
        let kinds = match discover(&self.client).await {
            Ok(kinds) => kinds,
            Err(error) => {
                content.discovery_failure = Some(error.to_string());
                return content;
            }
        };
        let deletable = |kind: &Kind| kind.preferred && kind.namespaced && kind.can(&["list", "delete"]);
        let (pods, others): (Vec<_>, Vec<_>) = kinds
            .into_iter()
            .filter(deletable)
            .partition(|kind| kind.resource.api_version == "v1" && kind.resource.kind == "Pod");
        for kinds in [pods, others] {
            for kind in kinds {
                match self.empty_of(&kind, namespace).await {
                    Ok(remaining) if remaining.count == 0 => {}
                    Ok(remaining) => {
                        content.remaining.insert(kind.name(), remaining);
                    }
                    Err(error) => content.failures.push(error.to_string()),
                }
            }
            if !content.is_gone() {
                return content;
            }
        }
        content
    }

    /// Deletes the objects of one kind. Those that have no reason to linger don't count as left.
    async fn empty_of(&self, kind: &Kind, namespace: &str) -> Result<Remaining, Error> {
        let api = kind.api(self.client.clone(), namespace);
        let listed = || async {
            let list = api.list(&ListParams::default()).await;
            list.doing(|| format!("list {} in {namespace}", kind.resource.plural))
        };
        let objects = listed().await?.items;
        if objects.is_empty() {
            return Ok(Remaining::default());
        }
        for object in &objects {
            if object.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let name = object.name_any();
            let deleted = api.delete(&name, &DeleteParams::background()).await;
            let what = || format!("delete {} {namespace}/{name}", kind.resource.kind);
            ignore_missing(deleted.doing(what))?;
        }
        let mut remaining = Remaining::default();
        for object in listed().await?.items {
            remaining.count += 1;
            for finalizer in object.metadata.finalizers.into_iter().flatten() {
                *remaining.finalizers.entry(finalizer).or_default() += 1;
            }
        }
        Ok(remaining)
    }

    async fn write_conditions(&self, name: &str, conditions: &[NamespaceCondition]) -> Result<(), Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({
            "status": { "phase": "Terminating", "conditions": conditions },
        }));
        let written = api.patch_status(name, &PatchParams::default(), &patch).await;
        let written = written.doing(|| format!("write the status of namespace {name}"));
        ignore_missing(written).map(drop)
    }

    async fn finalize(&self, name: &str) -> Result<(), Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let live = api
            .get_opt(name)
            .await
            .doing(|| format!("look at namespace {name}"))?;
        let Some(mut live) = live.filter(|live| live.metadata.deletion_timestamp.is_some()) else {
            return Ok(());
        };
        if let Some(finalizers) = live.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        debug!(namespace = name, "empty, finalizing");
        let params = PostParams::default();
        let result = api.replace_subresource("finalize", name, &params, &live).await;
        ignore_missing(result.doing(|| format!("finalize namespace {name}")))?;
        info!(namespace = name, "gone");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn remaining() -> Content {
        let pods = Remaining {
            count: 2,
            finalizers: [("example/f".to_owned(), 1)].into(),
        };
        Content {
            remaining: [("pods.".to_owned(), pods)].into(),
            ..Content::default()
        }
    }

    #[test]
    fn an_empty_namespace_goes_without_ado() {
        let actions = sync(&Namespace::default(), &Content::default(), now());
        assert_eq!(actions, [Action::Finalize]);
    }

    #[test]
    fn what_remains_is_said_and_looked_at_again() {
        let actions = sync(&Namespace::default(), &remaining(), now());
        let [Action::UpdateConditions(conditions), Action::LookAgain] = actions.as_slice() else {
            panic!("{actions:?}");
        };
        let message = |kind: &str| {
            let condition = conditions.iter().find(|c| c.type_ == kind).unwrap();
            (condition.status.as_str(), condition.message.as_deref().unwrap())
        };
        assert_eq!(
            message("NamespaceContentRemaining"),
            (
                "True",
                "Some resources are remaining: pods. has 2 resource instances"
            )
        );
        assert_eq!(
            message("NamespaceFinalizersRemaining").1,
            "Some content in the namespace has finalizers remaining: example/f in 1 resource instances"
        );
        assert_eq!(message("NamespaceDeletionContentFailure").0, "False");
    }

    #[test]
    fn conditions_that_say_the_same_are_not_written_again() {
        let mut namespace = Namespace::default();
        let first = conditions(&[], &remaining(), now());
        namespace.status.get_or_insert_default().conditions = Some(first);
        let later = now() + jiff::SignedDuration::from_secs(5);
        assert_eq!(sync(&namespace, &remaining(), later), [Action::LookAgain]);
    }

    #[test]
    fn nothing_is_finalized_while_something_is_unknown() {
        let unknown = Content {
            discovery_failure: Some("x".to_owned()),
            ..Content::default()
        };
        let failed = Content {
            failures: vec!["x".to_owned()],
            ..Content::default()
        };
        for content in [unknown, failed] {
            let actions = sync(&Namespace::default(), &content, now());
            assert_eq!(actions.last(), Some(&Action::LookAgain));
        }
    }
}
