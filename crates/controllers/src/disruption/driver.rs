//! Runs [`super::count`] against the API.

use std::time::Duration;

use go_json::Read;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::count::{self, Counted};
use super::scale::Scales;
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Change, Informer, Key};
use crate::owner;
use crate::queue::{Queue, Reconcile};
use crate::recorder::{EventType, Recorder};

/// The controller of PodDisruptionBudgets.
#[derive(Clone)]
pub(crate) struct Controller {
    client: Client,
    recorder: Recorder,
    budgets: Cache<PodDisruptionBudget>,
    pods: Cache<Pod>,
    scales: Scales,
    queue: Queue<Key>,
}

impl Controller {
    pub(crate) fn new(
        client: Client,
        recorder: &Recorder,
        budgets: &mut Informer<PodDisruptionBudget>,
        pods: &mut Informer<Pod>,
        replica_sets: &Informer<ReplicaSet>,
        deployments: &mut Informer<Deployment>,
    ) -> Self {
        let controller = Self {
            recorder: recorder.named("controllermanager"),
            budgets: budgets.cache(),
            pods: pods.cache(),
            scales: Scales {
                client: client.clone(),
                replica_sets: replica_sets.cache(),
                deployments: deployments.cache(),
            },
            client,
            queue: Queue::default(),
        };
        let this = controller.clone();
        budgets.on_change(move |change| this.queue.add(Key::of(&**change.object())));
        let this = controller.clone();
        pods.on_change(move |change| {
            this.wake(change.object());
            if let Change::Updated { old, new } = change
                && old.metadata.labels != new.metadata.labels
            {
                this.wake(old);
            }
        });
        let this = controller.clone();
        deployments.on_change(move |change| this.scaled(change));
        controller
    }

    /// The budgets that a pod falls under.
    fn wake(&self, pod: &Pod) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for budget in self.budgets.in_namespace(namespace) {
            if selects(&budget, pod) {
                self.queue.add(Key::of(&*budget));
            }
        }
    }

    /// Another scale is told by pods, too, but for one that can't be met.
    fn scaled(&self, change: &Change<Deployment>) {
        let Change::Updated { old, new } = change else {
            return;
        };
        let replicas = |deployment: &Deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas);
        if replicas(old) != replicas(new) {
            let namespace = new.metadata.namespace.as_deref().unwrap_or_default();
            for budget in self.budgets.in_namespace(namespace) {
                self.queue.add(Key::of(&*budget));
            }
        }
    }

    /// Counts; the error says why that can't be done.
    async fn count(&self, budget: &PodDisruptionBudget, namespace: &str) -> Result<Counted, String> {
        let mut pods = self.pods.in_namespace(namespace);
        pods.retain(|pod| selects(budget, pod));
        if pods.is_empty() {
            self.recorder
                .event(budget, EventType::Normal, "NoPods", "No matching pods found");
        }
        let scale = match count::needs_scale(budget) {
            true => self.scales.of(namespace, &pods).await?,
            false => 0,
        };
        Ok(count::count(budget, &pods, scale, Timestamp::now()))
    }

    async fn write(
        &self,
        key: &Key,
        budget: &PodDisruptionBudget,
        status: &PodDisruptionBudgetStatus,
    ) -> Result<(), Error> {
        if budget.status.as_ref() == Some(status) {
            return Ok(());
        }
        let mut patch = json!({ "status": status,
            "metadata": { "uid": budget.metadata.uid, "resourceVersion": budget.metadata.resource_version } });
        forget_gone(&mut patch, budget, status);
        let api: Api<Read<PodDisruptionBudget>> = Api::namespaced(self.client.clone(), &key.namespace);
        let params = PatchParams::default();
        let written = api.patch_status(&key.name, &params, &Patch::Merge(patch)).await;
        ignore_missing(written.doing(|| format!("count PodDisruptionBudget {key}"))).map(drop)
    }
}

/// A merge patch leaves what it doesn't name.
fn forget_gone(patch: &mut Value, budget: &PodDisruptionBudget, status: &PodDisruptionBudgetStatus) {
    let before = budget
        .status
        .as_ref()
        .and_then(|status| status.disrupted_pods.as_ref());
    for name in before.into_iter().flat_map(|before| before.keys()) {
        let stays = status
            .disrupted_pods
            .as_ref()
            .is_some_and(|left| left.contains_key(name));
        if !stays {
            patch["status"]["disruptedPods"][name] = Value::Null;
        }
    }
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = selector.and_then(|selector| owner::selector("PodDisruptionBudget", selector).ok());
    selector.is_some_and(|selector| owner::selects(&selector, &pod.metadata))
}

impl Reconcile for Controller {
    const NAME: &'static str = "disruption budgets";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(budget) = self.budgets.get(&key) else {
            return Ok(());
        };
        match self.count(&budget, &key.namespace).await {
            Ok(counted) => {
                for pod in &counted.overdue {
                    let message = format!("Pod {pod} was expected by PDB {key} to be deleted but it wasn't");
                    self.recorder
                        .event(&*budget, EventType::Warning, "NotDeleted", message);
                }
                self.write(&key, &budget, &counted.status).await?;
                if let Some(again) = counted.again {
                    let again = Duration::try_from(again).unwrap_or_default();
                    self.queue.add_after(key, again);
                }
                Ok(())
            }
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                self.recorder.event(
                    &*budget,
                    EventType::Warning,
                    "CalculateExpectedPodCountFailed",
                    message,
                );
                let status = count::failed(&budget, &why, Timestamp::now());
                self.write(&key, &budget, &status).await
            }
        }
    }
}
