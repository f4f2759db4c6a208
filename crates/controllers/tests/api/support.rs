//! A server with its controllers, and a stand-in for kubelets.

use std::fmt::Debug;
use std::time::Duration;

use apiserver::{ApiServer, Config, Identity, ServiceConfig};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const CA: &str = "-----BEGIN CERTIFICATE-----\n";

/// A running cluster without nodes; it ends when this is dropped.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    controllers: controllers::Clients,
    config: controllers::Config,
    stop: CancellationToken,
    _guard: DropGuard,
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(controllers::Config {
            ca_pem: CA.to_owned(),
            ..Default::default()
        })
        .await
    }

    pub(crate) async fn start_with(config: controllers::Config) -> Self {
        let cluster = Self::without_controllers(config).await;
        cluster.control();
        cluster
    }

    pub(crate) async fn without_controllers(config: controllers::Config) -> Self {
        Self::serving(config, ServiceConfig::default()).await
    }

    /// One of both families, IPv4 preferred.
    pub(crate) async fn dual(config: controllers::Config) -> Self {
        let services = ServiceConfig {
            ranges: ["10.96.0.0/16", "fd00:10:96::/112"]
                .map(|range| range.parse().unwrap())
                .into(),
            ..ServiceConfig::default()
        };
        let cluster = Self::serving(config, services).await;
        cluster.control();
        cluster
    }

    async fn serving(config: controllers::Config, services: ServiceConfig) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store.redb");
        let server = ApiServer::open(Config {
            store,
            kubelet_client: None,
            tokens: None,
            services,
            loss_toleration: apiserver::LossToleration::default(),
        })
        .unwrap();
        server.bootstrap().await.unwrap();
        let stop = CancellationToken::new();
        // As in a cluster: each with the rights of its role, and no others.
        let shared = Identity::new("system:kube-controller-manager", [""; 0]);
        let own = server.clone();
        let controllers = controllers::Clients::new(server.client(shared), move |name| {
            own.client(Identity::service_account("kube-system", name))
        });
        Self {
            client: server.client(Identity::new("admin", ["system:masters"])),
            controllers,
            config,
            _guard: stop.clone().drop_guard(),
            stop,
            _dir: dir,
        }
    }

    /// Starts the controllers; they end with the returned token, and then the task does.
    pub(crate) fn control(&self) -> (CancellationToken, JoinHandle<()>) {
        let stop = self.stop.child_token();
        let run = controllers::run(self.controllers.clone(), self.config.clone(), stop.clone());
        (stop, tokio::spawn(async move { run.await.unwrap() }))
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Lets pods become ready, and deleted ones end, as kubelets would.
    pub(crate) fn play_kubelets(&self) {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let client = self.client.clone();
        tokio::spawn(async move {
            loop {
                // The server is gone when the test has ended.
                let Ok(list) = pods.list(&ListParams::default()).await else {
                    return;
                };
                for pod in list {
                    play(&client, &pod).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
}

async fn play(client: &Client, pod: &Pod) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
    // The pod may be gone by now.
    if pod.metadata.deletion_timestamp.is_some() {
        let _ = api
            .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await;
        return;
    }
    let image = pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    let status = pod.status.as_ref();
    if image == "broken" || status.is_some_and(|s| s.phase.as_deref() == Some("Running")) {
        return;
    }
    let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": jiff::Timestamp::now() });
    let status = json!({ "status": { "phase": "Running", "conditions": [ready] } });
    let _ = api
        .patch_status(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Strategic(status),
        )
        .await;
}

/// Waits until a look at the cluster finds what is wanted.
pub(crate) async fn eventually<F, Fut, T>(what: &str, look: F) -> T
where
    F: Fn() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let wait = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), wait).await;
    found.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Waits until an object is as wanted.
pub(crate) async fn until<K>(api: &Api<K>, name: &str, what: &str, wanted: impl Fn(&K) -> bool) -> K
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    eventually(what, || async {
        api.get_opt(name).await.unwrap().filter(|k| wanted(k))
    })
    .await
}

pub(crate) async fn until_gone<K>(api: &Api<K>, name: &str)
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let gone = || async { api.get_opt(name).await.unwrap().is_none().then_some(()) };
    eventually(&format!("{name} is gone"), gone).await;
}

pub(crate) async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + DeserializeOwned + Serialize + Debug,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

pub(crate) async fn merge<K>(api: &Api<K>, name: &str, patch: Value) -> K
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap()
}

pub(crate) fn template(app: &str, image: &str) -> Value {
    json!({ "metadata": { "labels": { "app": app } },
            "spec": { "containers": [{ "name": "c", "image": image }] } })
}

pub(crate) fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } },
                  "template": template(name, "v1") },
    })
}
