//! A hundred changes a second of Services and endpoints: others', and those of what is asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::lab::Lab;

/// Others' Services, and those of them that come and go.
const OTHERS: u64 = 20;
const PASSING: u64 = 10;
const EVERY: Duration = Duration::from_millis(10);
/// Requests that are under way at most.
const AT_ONCE: usize = 16;

pub(crate) fn services_and_endpoints_change(lab: &Lab) {
    let loads = lab.load();
    let pods: Vec<String> = lab.cluster.pods("web").into_iter().map(|pod| pod.name).collect();
    let kubeconfig = Kubeconfig::read_from(lab.cluster.data_dir().join("kubeconfig")).expect("a kubeconfig");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let length = lab.length;
    let (done, failed) = runtime.block_on(async move {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("it can be used")).expect("a client");
        change(Changes { client, pods }, length).await
    });
    println!("{done} changes of Services and endpoints");
    assert!(done > 0, "nothing was changed: {failed:?}");
    assert_eq!(failed, [""; 0], "changes that were refused");
    loads.assert_whole(lab, "Services and endpoints change");
}

async fn change(changes: Changes, length: Duration) -> (u64, Vec<String>) {
    let changes = Arc::new(changes);
    for number in 0..OTHERS {
        changes.other(number).await.expect("one more Service");
    }
    let (done, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let mut running = JoinSet::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = Instant::now() + length;
    for number in 0.. {
        ticks.tick().await;
        if Instant::now() > end {
            break;
        }
        while running.len() >= AT_ONCE {
            running.join_next().await;
        }
        let (changes, done, failed) = (Arc::clone(&changes), Arc::clone(&done), Arc::clone(&failed));
        running.spawn(async move {
            match changes.make(number).await {
                Ok(()) => {
                    done.fetch_add(1, Ordering::Relaxed);
                }
                // As many as the server takes.
                Err(kube::Error::Api(status)) if status.code == 429 => {}
                Err(error) => failed.lock().expect("nobody panics").push(error.to_string()),
            }
        });
    }
    while running.join_next().await.is_some() {}
    // All pods are endpoints again.
    for pod in &changes.pods {
        changes.label(pod, "yes").await.expect("a label");
    }
    let failed = failed.lock().expect("nobody panics").clone();
    (done.load(Ordering::Relaxed), failed)
}

struct Changes {
    client: Client,
    pods: Vec<String>,
}

impl Changes {
    fn services(&self) -> Api<Service> {
        Api::default_namespaced(self.client.clone())
    }

    /// A Service of somebody else's, and its slice.
    async fn other(&self, number: u64) -> Result<(), kube::Error> {
        let service = json!({ "metadata": { "name": format!("other-{number}") },
            "spec": { "ports": [{ "port": 80 }] } });
        let service = serde_json::from_value(service).expect("a Service");
        self.services().create(&PostParams::default(), &service).await?;
        let slice = slice(number, 0);
        let slices: Api<EndpointSlice> = Api::default_namespaced(self.client.clone());
        let slice = serde_json::from_value(slice).expect("a slice");
        slices.create(&PostParams::default(), &slice).await.map(drop)
    }

    /// The change of this number.
    async fn make(&self, number: u64) -> Result<(), kube::Error> {
        let (kind, turn) = (number % 10, number / 10);
        match kind {
            0..5 => self.endpoints(number % OTHERS, number).await,
            5 | 6 => self.come_or_go(turn).await,
            7 => {
                // The first half never leaves.
                let half = self.pods.len() / 2;
                let pod = &self.pods[half + usize::try_from(turn).unwrap_or(0) % half];
                let whether = if turn.is_multiple_of(2) { "no" } else { "yes" };
                self.label(pod, whether).await
            }
            8 => {
                let ways = ["random", "round-robin", "least-connections", "maglev"];
                let way = ways[usize::try_from(turn).unwrap_or(0) % ways.len()];
                let patch = json!({ "metadata": { "annotations": { "ripstop.dev/load-balancing": way } } });
                self.patch("web", patch).await
            }
            _ => {
                let port = 1000 + turn % 1000;
                let patch = json!({ "spec": { "ports": [{ "port": port }] } });
                self.patch(&format!("other-{}", turn % OTHERS), patch).await
            }
        }
    }

    async fn patch(&self, service: &str, patch: Value) -> Result<(), kube::Error> {
        let patch = Patch::Merge(patch);
        let services = self.services();
        services
            .patch(service, &PatchParams::default(), &patch)
            .await
            .map(drop)
    }

    async fn endpoints(&self, service: u64, seed: u64) -> Result<(), kube::Error> {
        let slices: Api<EndpointSlice> = Api::default_namespaced(self.client.clone());
        let patch = Patch::Merge(json!({ "endpoints": slice(service, seed)["endpoints"] }));
        let name = format!("other-{service}");
        slices
            .patch(&name, &PatchParams::default(), &patch)
            .await
            .map(drop)
    }

    async fn label(&self, pod: &str, whether: &str) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        let patch = Patch::Merge(json!({ "metadata": { "labels": { "in": whether } } }));
        pods.patch(pod, &PatchParams::default(), &patch).await.map(drop)
    }

    /// A Service like `web`, which comes if it isn't there, and goes otherwise.
    async fn come_or_go(&self, turn: u64) -> Result<(), kube::Error> {
        let name = format!("passing-{}", turn % PASSING);
        let services = self.services();
        if services.get_opt(&name).await?.is_none() {
            let service = json!({ "metadata": { "name": name },
                "spec": { "type": "NodePort", "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] } });
            let service = serde_json::from_value(service).expect("a Service");
            return ignore(services.create(&PostParams::default(), &service).await);
        }
        ignore(services.delete(&name, &DeleteParams::default()).await)
    }
}

/// Two changes of one Service may be under way at once: then the other was faster.
fn ignore<T>(outcome: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}

/// A slice whose endpoints follow from a number.
fn slice(service: u64, seed: u64) -> Value {
    let endpoint = |number: u64| json!({ "addresses": [format!("10.244.200.{}", 1 + number % 200)], "conditions": { "ready": true } });
    let count = 1 + seed % 4;
    let endpoints: Vec<_> = (0..count).map(|number| endpoint(seed * 7 + number)).collect();
    json!({ "metadata": { "name": format!("other-{service}"),
            "labels": { "kubernetes.io/service-name": format!("other-{service}") } },
        "addressType": "IPv4", "ports": [{ "port": 80 }], "endpoints": endpoints })
}
