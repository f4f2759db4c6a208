//! Runs [`super::sync`] against the API.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Selector;
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use tracing::debug;

use super::{Action, Observed, Update, status, template};
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Change, Informer, Key};
use crate::owner::{self, Claim};
use crate::queue::{Queue, Reconcile};
use crate::recorder::{EventType, Recorder};
use crate::{pods, replicaset};

/// The Deployment controller.
#[derive(Clone)]
pub(crate) struct Controller {
    client: Client,
    recorder: Recorder,
    deployments: Cache<Deployment>,
    replica_sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    queue: Queue<Key>,
}

impl Controller {
    pub(crate) fn new(
        client: Client,
        recorder: &Recorder,
        deployments: &mut Informer<Deployment>,
        replica_sets: &mut Informer<ReplicaSet>,
        pods: &mut Informer<Pod>,
    ) -> Self {
        let controller = Self {
            client,
            recorder: recorder.named("deployment-controller"),
            deployments: deployments.cache(),
            replica_sets: replica_sets.cache(),
            pods: pods.cache(),
            queue: Queue::default(),
        };
        let queue = controller.queue.clone();
        deployments.on_change(move |change| queue.add(Key::of(&**change.object())));
        let this = controller.clone();
        replica_sets.on_change(move |change| this.replica_set_changed(change));
        let this = controller.clone();
        pods.on_change(move |change| this.pod_changed(change));
        controller
    }

    fn replica_set_changed(&self, change: &Change<ReplicaSet>) {
        if let Change::Updated { old, .. } = change {
            self.replica_set_matters(old);
        }
        self.replica_set_matters(change.object());
    }

    /// Wakes the owner of a ReplicaSet, or those that may want to adopt it.
    fn replica_set_matters(&self, replica_set: &ReplicaSet) {
        let meta = &replica_set.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        match owner::controller_of(meta) {
            Some(owner) if owner.kind == "Deployment" => {
                self.queue.add(Key::new(namespace, &owner.name));
            }
            Some(_) => {}
            None => {
                for deployment in self.deployments.in_namespace(namespace) {
                    if selector_of(&deployment).is_ok_and(|s| owner::selects(&s, meta)) {
                        self.queue.add(Key::of(&*deployment));
                    }
                }
            }
        }
    }

    /// A recreation waits for the end of the last old pod, which no ReplicaSet's status shows.
    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.object();
        let ended = matches!(change, Change::Deleted(_)) || pods::has_ended(pod);
        let Some(reference) = owner::controller_of(&pod.metadata).filter(|_| ended) else {
            return;
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(replica_set) = self.replica_sets.get(&Key::new(namespace, &reference.name)) {
            self.replica_set_matters(&replica_set);
        }
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "deployment";
    const WORKERS: usize = 8;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    /// Takes one Deployment one step further.
    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(deployment) = self.deployments.get(&key) else {
            return Ok(());
        };
        let selector = selector_of(&deployment)?;
        if selector.selects_all() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder
                .event(&*deployment, EventType::Warning, "SelectingAll", message);
            return Ok(());
        }
        let replica_sets = self.claim(&deployment, &selector).await?;
        let running = self.running(&key.namespace);
        let actions = super::sync(&Observed {
            deployment: &deployment,
            replica_sets: &replica_sets,
            running: &running,
            now: Timestamp::now(),
        });
        let mut step = Step {
            controller: self,
            key: &key,
            deployment,
        };
        for action in actions {
            if step.apply(action).await? == Next::Stop {
                break;
            }
        }
        Ok(())
    }
}

impl Controller {
    /// Finds the Deployment's ReplicaSets; adopts and releases as its selector says.
    async fn claim(
        &self,
        deployment: &Deployment,
        selector: &Selector,
    ) -> Result<Vec<Arc<ReplicaSet>>, Error> {
        let meta = &deployment.metadata;
        let api = self.api::<ReplicaSet>(meta.namespace.as_deref());
        let mut claimed = Vec::new();
        for set in self
            .replica_sets
            .in_namespace(meta.namespace.as_deref().unwrap_or_default())
        {
            match owner::claim(meta, selector, &set.metadata) {
                Claim::Keep => claimed.push(set),
                Claim::Adopt
                    if owner::is_still_there(
                        &self.api::<Deployment>(deployment.metadata.namespace.as_deref()),
                        &deployment.metadata,
                    )
                    .await? =>
                {
                    let reference = owner::controller_ref(deployment);
                    let owners = owner::owners_with(&set.metadata, reference);
                    let adopted = owner::write_owners(&api, &set.metadata, &owners).await;
                    claimed.extend(ignore_missing(adopted)?.map(Arc::new));
                }
                Claim::Release => {
                    let uid = meta.uid.as_deref().unwrap_or_default();
                    let owners = owner::owners_without(&set.metadata, uid);
                    ignore_missing(owner::write_owners(&api, &set.metadata, &owners).await)?;
                }
                Claim::Adopt | Claim::Ignore => {}
            }
        }
        Ok(claimed)
    }

    /// The UIDs of the controllers of all pods of a namespace that have not ended.
    fn running(&self, namespace: &str) -> Vec<String> {
        let pods = self.pods.in_namespace(namespace);
        let running = pods.iter().filter(|pod| !pods::has_ended(pod));
        let mut uids: Vec<_> = running
            .filter_map(|pod| Some(owner::controller_of(&pod.metadata)?.uid.clone()))
            .collect();
        uids.sort_unstable();
        uids.dedup();
        uids
    }

    fn api<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace.unwrap_or_default())
    }
}

fn selector_of(deployment: &Deployment) -> Result<Selector, Error> {
    let spec = deployment.spec.as_ref();
    let selector = spec.map(|spec| spec.selector.clone()).unwrap_or_default();
    owner::selector(&format!("Deployment {}", Key::of(deployment)), &selector)
}

/// One step under way. Each write of the Deployment gives the version that the next one expects.
struct Step<'a> {
    controller: &'a Controller,
    key: &'a Key,
    deployment: Arc<Deployment>,
}

/// Whether the rest of a step still makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

impl Step<'_> {
    async fn apply(&mut self, action: Action) -> Result<Next, Error> {
        match action {
            Action::Create(set) => return self.create(*set).await,
            Action::Update(update) => self.update(&update).await?,
            Action::Delete(set) => self.delete(&set).await?,
            Action::SetRevision(revision) => self.set_revision(&revision).await?,
            Action::UpdateStatus(status) => self.write_status(&status).await?,
            Action::ComeBack(delay) => self.controller.queue.add_after(self.key.clone(), delay),
        }
        Ok(Next::GoOn)
    }

    async fn set_revision(&mut self, revision: &str) -> Result<(), Error> {
        let annotations = json!({ super::revision::REVISION: revision });
        let patch = json!({ "metadata": {
            "resourceVersion": self.deployment.metadata.resource_version,
            "annotations": annotations,
        }});
        let api = self.controller.api::<Deployment>(Some(&self.key.namespace));
        let params = PatchParams::default();
        let written = api.patch(&self.key.name, &params, &Patch::Merge(patch)).await;
        let written = written.doing(|| format!("annotate Deployment {}", self.key));
        self.written(ignore_missing(written)?);
        Ok(())
    }

    fn written(&mut self, deployment: Option<Deployment>) {
        if let Some(deployment) = deployment {
            self.deployment = Arc::new(deployment);
        }
    }

    async fn create(&mut self, set: ReplicaSet) -> Result<Next, Error> {
        let name = set.metadata.name.clone().unwrap_or_default();
        let api = self.controller.api::<ReplicaSet>(Some(&self.key.namespace));
        let created = api.create(&PostParams::default(), &set).await;
        match created.doing(|| format!("create ReplicaSet {name}")) {
            Ok(_) => {
                debug!(deployment = %self.key, replica_set = name, "created");
                self.tell_scaled(&name, 0, replicaset::desired(&set));
                Ok(Next::GoOn)
            }
            Err(error) if error.is_already_exists() => {
                // Decided on a view that was not the last: what follows would be wrong.
                self.collided(&name, &set).await?;
                Ok(Next::Stop)
            }
            Err(error) if error.is_namespace_terminating() => Err(error),
            Err(error) => {
                let message = format!("Failed to create new replica set {name:?}: {error}");
                let reason = "ReplicaSetCreateError";
                let deployment = &*self.deployment;
                let recorder = &self.controller.recorder;
                recorder.event(deployment, EventType::Warning, reason, message.clone());
                let old = deployment.status.clone().unwrap_or_default();
                let status = status::creation_failed(&old, message, Timestamp::now());
                self.write_status(&status).await?;
                Err(error)
            }
        }
    }

    /// The name is taken: by what we wanted, which the cache doesn't show yet, or by another
    /// template with the same hash, and then the hash must change.
    async fn collided(&mut self, name: &str, wanted: &ReplicaSet) -> Result<(), Error> {
        let api = self.controller.api::<ReplicaSet>(Some(&self.key.namespace));
        let found = api
            .get_opt(name)
            .await
            .doing(|| format!("look at ReplicaSet {name}"))?;
        let Some(found) = found else {
            self.controller.queue.retry(self.key.clone());
            return Ok(());
        };
        let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|s| s.template.clone());
        let uid = self.deployment.metadata.uid.as_deref().unwrap_or_default();
        let (own, wanted) = (template(&found), template(wanted));
        let same = own
            .zip(wanted)
            .is_some_and(|(own, wanted)| template::same(&own, &wanted));
        if owner::is_controlled_by(&found.metadata, uid) && same {
            return Ok(());
        }
        let mut status = self.deployment.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        debug!(deployment = %self.key, replica_set = name, "the name is taken, choosing another");
        self.write_status(&status).await
    }

    async fn update(&self, update: &Update) -> Result<(), Error> {
        let set = &update.replica_set;
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let mut patch = json!({ "metadata": {
            "resourceVersion": set.metadata.resource_version,
            "annotations": update.annotations,
        }});
        if let Some(replicas) = update.replicas {
            patch["spec"]["replicas"] = json!(replicas);
        }
        if let Some(seconds) = update.min_ready_seconds {
            patch["spec"]["minReadySeconds"] = json!(seconds);
        }
        let api = self.controller.api::<ReplicaSet>(Some(&self.key.namespace));
        let written = api
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        written.doing(|| format!("change ReplicaSet {name}"))?;
        if let Some(replicas) = update.replicas {
            self.tell_scaled(name, replicaset::desired(set), replicas);
        }
        Ok(())
    }

    fn tell_scaled(&self, name: &str, from: i32, to: i32) {
        if from == to {
            return;
        }
        let direction = if to > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
        let recorder = &self.controller.recorder;
        recorder.event(&*self.deployment, EventType::Normal, "ScalingReplicaSet", message);
    }

    async fn delete(&self, set: &ReplicaSet) -> Result<(), Error> {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: set.metadata.uid.clone(),
                resource_version: set.metadata.resource_version.clone(),
            }),
            ..DeleteParams::background()
        };
        let api = self.controller.api::<ReplicaSet>(Some(&self.key.namespace));
        let deleted = api.delete(name, &params).await;
        ignore_missing(deleted.doing(|| format!("delete ReplicaSet {name}"))).map(drop)
    }

    async fn write_status(&mut self, status: &DeploymentStatus) -> Result<(), Error> {
        let mut patch = json!({
            "metadata": { "resourceVersion": self.deployment.metadata.resource_version },
            "status": status,
        });
        if status.conditions.is_none() {
            patch["status"]["conditions"] = Value::Null;
        }
        let api = self.controller.api::<Deployment>(Some(&self.key.namespace));
        let params = PatchParams::default();
        let written = api
            .patch_status(&self.key.name, &params, &Patch::Merge(patch))
            .await;
        let written = written.doing(|| format!("write the status of Deployment {}", self.key));
        self.written(ignore_missing(written)?);
        Ok(())
    }
}
