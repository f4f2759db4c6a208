//! The namespace of one run, which goes away whatever happens.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace as Object, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use rand::Rng;
use serde_json::json;

use crate::error::Error;
use crate::report::Row;

/// Carried by every namespace that a check makes.
const LABEL: &str = "ripstop.dev/check";
/// No run takes this long: what is older was left by one that was killed.
const STALE: Duration = Duration::from_secs(15 * 60);

/// How long pods may take to end in good order.
const POLITE: Duration = Duration::from_secs(6);

/// One run's namespace.
pub(crate) struct Namespace {
    api: Api<Object>,
    name: String,
    deleted: bool,
}

impl Namespace {
    /// Makes a namespace of a name that nobody has, and sweeps old ones.
    pub(crate) async fn create(client: &Client) -> Result<Self, Error> {
        let api: Api<Object> = Api::all(client.clone());
        sweep(&api).await;
        let mut random = rand::rng();
        let suffix: String = (0..5)
            .map(|_| char::from(b"bcdfghjklmnpqrstvwxz2456789"[random.random_range(0..27)]))
            .collect();
        let name = format!("ripstop-check-{suffix}");
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {LABEL: "true"}},
        });
        let object: Object = serde_json::from_value(object).expect("the literal is a namespace");
        let create = api.create(&PostParams::default(), &object).await;
        create.map_err(Error::api(format!("create the namespace {name}")))?;
        let deleted = false;
        Ok(Self { api, name, deleted })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Deletes it and waits until it is gone; a row if that takes too long.
    pub(crate) async fn delete(mut self, limit: Duration) -> Option<Row> {
        self.deleted = true;
        let cleanup = async {
            let _ = self.api.delete(&self.name, &DeleteParams::default()).await;
            if tokio::time::timeout(POLITE, self.gone()).await.is_err() {
                self.force_pods().await;
                self.gone().await;
            }
        };
        if tokio::time::timeout(limit, cleanup).await.is_ok() {
            return None;
        }
        let name = &self.name;
        Some(Row::failed(
            "cleaning up",
            name.clone(),
            format!("the namespace isn't gone after {limit:?}"),
            format!(
                "`kubectl get pods -n {name}` shows what holds it, `kubectl delete namespace {name}` deletes it"
            ),
        ))
    }
}

impl Namespace {
    async fn gone(&self) {
        while !matches!(self.api.get_opt(&self.name).await, Ok(None)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Deletes pods whose nodes don't confirm that they have ended: a node
    /// without power never will.
    async fn force_pods(&self) {
        let pods: Api<Pod> = Api::namespaced(self.api.clone().into_client(), &self.name);
        let left = pods.list(&ListParams::default()).await;
        for pod in left.into_iter().flatten() {
            let at_once = DeleteParams::default().grace_period(0);
            let _ = pods.delete(&pod.name_any(), &at_once).await;
        }
    }
}

/// For a run whose future is dropped in the middle: the best that can be done.
impl Drop for Namespace {
    fn drop(&mut self) {
        let (false, Ok(runtime)) = (self.deleted, tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (api, name) = (self.api.clone(), self.name.clone());
        runtime.spawn(async move { api.delete(&name, &DeleteParams::default()).await });
    }
}

/// Deletes what runs that were killed have left.
async fn sweep(api: &Api<Object>) {
    let Ok(found) = api.list(&ListParams::default().labels(LABEL)).await else {
        return;
    };
    for old in found {
        let created = old.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let age = created.map(|created| Timestamp::now().duration_since(created));
        if age.is_some_and(|age| age.unsigned_abs() > STALE) {
            let _ = api.delete(&old.name_any(), &DeleteParams::default()).await;
        }
    }
}
