//! Runs [`super::sync`] against the API.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Selector;
use kube::{Api, Client, Resource};
use serde_json::json;
use tracing::debug;

use super::status::{self, Failure};
use super::{Action, Observed};
use crate::batch::slow_start;
use crate::error::{Doing, Error, ignore_missing};
use crate::expectations::Expectations;
use crate::informer::{Cache, Change, Informer, Key};
use crate::owner::{self, Claim};
use crate::pods;
use crate::queue::{Queue, Reconcile};
use crate::recorder::{EventType, Recorder};

/// The ReplicaSet controller.
#[derive(Clone)]
pub(crate) struct Controller {
    client: Client,
    recorder: Recorder,
    replica_sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    expectations: Arc<Expectations>,
    queue: Queue<Key>,
}

/// A ReplicaSet's pods.
struct Claimed {
    active: Vec<Arc<Pod>>,
    leaving: usize,
}

impl Controller {
    pub(crate) fn new(
        client: Client,
        recorder: &Recorder,
        replica_sets: &mut Informer<ReplicaSet>,
        pods: &mut Informer<Pod>,
    ) -> Self {
        let controller = Self {
            client,
            recorder: recorder.named("replicaset-controller"),
            replica_sets: replica_sets.cache(),
            pods: pods.cache(),
            expectations: Arc::default(),
            queue: Queue::default(),
        };
        let this = controller.clone();
        replica_sets.on_change(move |change| this.replica_set_changed(change));
        let this = controller.clone();
        pods.on_change(move |change| this.pod_changed(change));
        controller
    }

    fn replica_set_changed(&self, change: &Change<ReplicaSet>) {
        let key = Key::of(&**change.object());
        if matches!(change, Change::Deleted(_)) {
            self.expectations.forget(&key);
        }
        self.queue.add(key);
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        match change {
            Change::Added(pod) if !pods::is_leaving(pod) => {
                if let Some(owner) = self.owner_of(pod) {
                    self.expectations.created(&owner, 1);
                }
                self.pod_matters(pod);
            }
            Change::Updated { old, new } => {
                if !pods::is_leaving(old) && pods::is_leaving(new) {
                    self.pod_leaves(new);
                }
                let relabelled = old.metadata.labels != new.metadata.labels;
                let owner = |pod: &Pod| owner::controller_of(&pod.metadata).cloned();
                if owner(old) != owner(new) {
                    self.pod_matters(old);
                    self.pod_matters(new);
                } else if owner(new).is_some() || relabelled {
                    self.pod_matters(new);
                }
            }
            Change::Added(pod) | Change::Deleted(pod) => {
                self.pod_leaves(pod);
                self.pod_matters(pod);
            }
        }
    }

    /// A deletion counts from the moment on which it was asked for.
    fn pod_leaves(&self, pod: &Pod) {
        if let (Some(owner), Some(uid)) = (self.owner_of(pod), &pod.metadata.uid) {
            self.expectations.deleted(&owner, uid);
        }
    }

    /// Wakes the owner of a pod, or those that may want to adopt it.
    fn pod_matters(&self, pod: &Pod) {
        if let Some(owner) = self.owner_of(pod) {
            self.queue.add(owner);
        } else if owner::controller_of(&pod.metadata).is_none() {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            for replica_set in self.replica_sets.in_namespace(namespace) {
                if selector_of(&replica_set).is_ok_and(|s| owner::selects(&s, &pod.metadata)) {
                    self.queue.add(Key::of(&*replica_set));
                }
            }
        }
    }

    fn owner_of(&self, pod: &Pod) -> Option<Key> {
        let reference = owner::controller_of(&pod.metadata)?;
        if reference.kind != "ReplicaSet" {
            return None;
        }
        let key = Key::new(pod.metadata.namespace.as_deref()?, &reference.name);
        // One of the same name may have been there before.
        let owner = self.replica_sets.get(&key)?;
        (owner.metadata.uid.as_ref() == Some(&reference.uid)).then_some(key)
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "replicaset";
    const WORKERS: usize = 8;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    /// Brings one ReplicaSet's pods and status up to date.
    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(replica_set) = self.replica_sets.get(&key) else {
            return Ok(());
        };
        let satisfied = self.expectations.satisfied(&key);
        let claimed = self.claim(&replica_set).await?;
        let now = Timestamp::now();
        let related = self.related(&replica_set, &claimed.active);
        let action = super::sync(&Observed {
            replica_set: &replica_set,
            pods: &claimed.active,
            related: &related,
            now,
        });
        let result = match action {
            Some(action) if satisfied => self.apply(&key, &replica_set, action).await,
            _ => Ok(()),
        };
        let (failure, error) = match result {
            Ok(()) => (None, None),
            Err((_, error)) if error.is_namespace_terminating() => (None, None),
            Err((failure, error)) => (Some(failure), Some(error)),
        };
        let status = status::status(
            &replica_set,
            &claimed.active,
            claimed.leaving,
            failure.as_ref(),
            now,
        );
        self.write_status(&replica_set, &status).await?;
        self.come_back_for_availability(&key, &replica_set, &claimed.active, now);
        error.map_or(Ok(()), Err)
    }
}

impl Controller {
    /// Finds the ReplicaSet's pods; adopts and releases as its selector says.
    async fn claim(&self, replica_set: &ReplicaSet) -> Result<Claimed, Error> {
        let selector = selector_of(replica_set)?;
        let namespace = replica_set.metadata.namespace.as_deref().unwrap_or_default();
        let mut claimed = Claimed {
            active: Vec::new(),
            leaving: 0,
        };
        let mut may_adopt = None;
        for pod in self.pods.in_namespace(namespace) {
            let claim = owner::claim(&replica_set.metadata, &selector, &pod.metadata);
            if !pods::is_active(&pod) {
                let counts = claim == Claim::Keep && !pods::has_ended(&pod);
                claimed.leaving += usize::from(counts);
                continue;
            }
            match claim {
                Claim::Keep => claimed.active.push(pod),
                Claim::Adopt => {
                    if may_adopt.is_none() {
                        may_adopt = Some(
                            owner::is_still_there(
                                &self.api::<ReplicaSet>(replica_set.metadata.namespace.as_deref()),
                                &replica_set.metadata,
                            )
                            .await?,
                        );
                    }
                    if may_adopt == Some(true)
                        && let Some(pod) = self.adopt(replica_set, &pod).await?
                    {
                        claimed.active.push(Arc::new(pod));
                    }
                }
                Claim::Release => self.release(replica_set, &pod).await?,
                Claim::Ignore => {}
            }
        }
        Ok(claimed)
    }

    async fn adopt(&self, replica_set: &ReplicaSet, pod: &Pod) -> Result<Option<Pod>, Error> {
        let references = owner::owners_with(&pod.metadata, owner::controller_ref(replica_set));
        let api = self.api::<Pod>(pod.metadata.namespace.as_deref());
        ignore_missing(owner::write_owners(&api, &pod.metadata, &references).await)
    }

    async fn release(&self, replica_set: &ReplicaSet, pod: &Pod) -> Result<(), Error> {
        let uid = replica_set.metadata.uid.as_deref().unwrap_or_default();
        let references = owner::owners_without(&pod.metadata, uid);
        let api = self.api::<Pod>(pod.metadata.namespace.as_deref());
        ignore_missing(owner::write_owners(&api, &pod.metadata, &references).await).map(drop)
    }

    /// The pods of all ReplicaSets that belong to the same Deployment.
    fn related(&self, replica_set: &ReplicaSet, own: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let Some(deployment) = owner::controller_of(&replica_set.metadata) else {
            return own.to_vec();
        };
        let namespace = replica_set.metadata.namespace.as_deref().unwrap_or_default();
        let siblings: Vec<_> = self
            .replica_sets
            .in_namespace(namespace)
            .into_iter()
            .filter(|sibling| owner::is_controlled_by(&sibling.metadata, &deployment.uid))
            .filter_map(|sibling| sibling.metadata.uid.clone())
            .collect();
        let mut pods = self.pods.in_namespace(namespace);
        pods.retain(|pod| {
            pods::is_active(pod)
                && owner::controller_of(&pod.metadata)
                    .is_some_and(|reference| siblings.contains(&reference.uid))
        });
        pods
    }

    async fn apply(
        &self,
        key: &Key,
        replica_set: &ReplicaSet,
        action: Action,
    ) -> Result<(), (Failure, Error)> {
        let (reason, result) = match action {
            Action::Create(count) => {
                self.expectations.expect(key, count, []);
                debug!(replica_set = %key, count, "creating pods");
                ("FailedCreate", self.create(key, replica_set, count).await)
            }
            Action::Delete(pods) => {
                let uids = pods.iter().filter_map(|pod| pod.metadata.uid.clone());
                self.expectations.expect(key, 0, uids);
                debug!(replica_set = %key, count = pods.len(), "deleting pods");
                ("FailedDelete", self.delete(key, replica_set, &pods).await)
            }
        };
        result.map_err(|error| {
            let message = error.to_string();
            (Failure { reason, message }, error)
        })
    }

    async fn create(&self, key: &Key, replica_set: &ReplicaSet, count: usize) -> Result<(), Error> {
        let api = self.api::<Pod>(Some(&key.namespace));
        let pod = new_pod(replica_set);
        let params = PostParams::default();
        let (created, error): (_, Option<Error>) = slow_start(count, |_| async {
            let created = api.create(&params, &pod).await;
            let created = created.doing(|| format!("create a pod for ReplicaSet {key}"))?;
            let name = created.metadata.name.unwrap_or_default();
            let message = format!("Created pod: {name}");
            self.recorder
                .event(replica_set, EventType::Normal, "SuccessfulCreate", message);
            Ok(())
        })
        .await;
        self.expectations.created(key, count - created);
        let Some(error) = error else { return Ok(()) };
        if !error.is_namespace_terminating() {
            let message = format!("Error creating: {error}");
            self.recorder
                .event(replica_set, EventType::Warning, "FailedCreate", message);
        }
        Err(error)
    }

    async fn delete(&self, key: &Key, replica_set: &ReplicaSet, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let api = &self.api::<Pod>(Some(&key.namespace));
        let (_, error): (_, Option<Error>) = slow_start(pods.len(), |n| async move {
            let meta = &pods[n].metadata;
            let name = meta.name.as_deref().unwrap_or_default();
            let uid: Option<String> = meta.uid.clone();
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: uid.clone(),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            let deleted = api.delete(name, &params).await;
            let deleted = deleted.doing(|| format!("delete pod {name} of ReplicaSet {key}"));
            match ignore_missing(deleted) {
                Ok(Some(_)) => {
                    let message = format!("Deleted pod: {name}");
                    let reason = "SuccessfulDelete";
                    self.recorder
                        .event(replica_set, EventType::Normal, reason, message);
                    Ok(())
                }
                gone_or_failed => {
                    self.expectations.deleted(key, uid.as_deref().unwrap_or_default());
                    gone_or_failed.map(drop)
                }
            }
        })
        .await;
        let Some(error) = error else { return Ok(()) };
        // What was not tried is not to be waited for; what was, shows as leaving next time.
        self.expectations.forget(key);
        let message = format!("Error deleting: {error}");
        self.recorder
            .event(replica_set, EventType::Warning, "FailedDelete", message);
        Err(error)
    }

    async fn write_status(&self, replica_set: &ReplicaSet, status: &ReplicaSetStatus) -> Result<(), Error> {
        if status::same(replica_set.status.as_ref(), status) {
            return Ok(());
        }
        let name = replica_set.metadata.name.as_deref().unwrap_or_default();
        let api = self.api::<ReplicaSet>(replica_set.metadata.namespace.as_deref());
        let mut patch = json!({ "metadata": { "uid": replica_set.metadata.uid }, "status": status });
        if status.conditions.is_none() {
            patch["status"]["conditions"] = serde_json::Value::Null;
        }
        let written = api
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        ignore_missing(written.doing(|| format!("write the status of ReplicaSet {name}"))).map(drop)
    }

    /// Pods become available by the mere passing of time; no event says so.
    fn come_back_for_availability(
        &self,
        key: &Key,
        replica_set: &ReplicaSet,
        pods: &[Arc<Pod>],
        now: Timestamp,
    ) {
        let min_ready = super::min_ready_seconds(replica_set);
        let times = pods.iter().filter_map(|pod| pods::available_at(pod, min_ready));
        if let Some(at) = times.filter(|&at| at > now).min() {
            let delay = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            self.queue.add_after(key.clone(), delay);
        }
    }

    fn api<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace.unwrap_or_default())
    }
}

fn selector_of(replica_set: &ReplicaSet) -> Result<Selector, Error> {
    let key = Key::of(replica_set);
    let spec = replica_set.spec.as_ref();
    let selector = spec.map(|spec| spec.selector.clone()).unwrap_or_default();
    owner::selector(&format!("ReplicaSet {key}"), &selector)
}

/// A pod from the ReplicaSet's template; the server completes its name.
fn new_pod(replica_set: &ReplicaSet) -> Pod {
    let template = replica_set.spec.as_ref().and_then(|spec| spec.template.clone());
    let template = template.unwrap_or_default();
    let mut pod = Pod {
        spec: template.spec,
        ..Pod::default()
    };
    if let Some(meta) = template.metadata {
        pod.metadata.labels = meta.labels;
        pod.metadata.annotations = meta.annotations;
        pod.metadata.finalizers = meta.finalizers;
    }
    let name = replica_set.metadata.name.as_deref().unwrap_or_default();
    pod.metadata.generate_name = Some(format!("{name}-"));
    pod.metadata.namespace = replica_set.metadata.namespace.clone();
    pod.metadata.owner_references = Some(vec![owner::controller_ref(replica_set)]);
    pod
}
