//! The scheduler, with the controllers, against the real API server in this process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use apiserver::{ApiServer, Config, Identity, LossToleration, ServiceConfig};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running cluster whose nodes are objects only; it ends when this is dropped.
struct Cluster {
    client: Client,
    scheduler: Client,
    stop: CancellationToken,
    _guard: DropGuard,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store.redb");
        let server = ApiServer::open(Config {
            store,
            kubelet_client: None,
            tokens: None,
            services: ServiceConfig::default(),
            loss_toleration: LossToleration::default(),
        })
        .unwrap();
        server.bootstrap().await.unwrap();
        let stop = CancellationToken::new();
        let client = server.client(Identity::new("admin", ["system:masters"]));
        let config = controllers::Config::default();
        tokio::spawn(controllers::run(client.clone(), config, stop.clone()));
        Self {
            client,
            // As in a cluster: with the rights of its role, and no others.
            scheduler: server.client(Identity::new("system:kube-scheduler", [""; 0])),
            _guard: stop.clone().drop_guard(),
            stop,
            _dir: dir,
        }
    }

    /// Starts a scheduler, which ends with the returned token.
    fn schedule(&self) -> CancellationToken {
        let stop = self.stop.child_token();
        tokio::spawn(scheduler::run(self.scheduler.clone(), stop.clone()));
        stop
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Registers a node and reports it as ready, as its kubelet would.
    async fn node(&self, name: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        create(&nodes, json!({ "metadata": { "name": name } })).await;
        let ready = json!({ "type": "Ready", "status": "True",
            "lastHeartbeatTime": jiff::Timestamp::now() });
        let status = json!({ "status": { "conditions": [ready],
            "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" } } });
        let patch = Patch::Strategic(status);
        nodes
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    async fn pods(&self) -> Vec<Pod> {
        self.api::<Pod>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
    }

    /// Waits until that many pods have nodes, and says how many each has.
    async fn placed(&self, count: usize) -> HashMap<String, usize> {
        let look = || async {
            let pods = self.pods().await;
            let nodes: Vec<_> = pods.iter().filter_map(node_of).collect();
            (nodes.len() == count).then_some(nodes)
        };
        let mut counts = HashMap::new();
        for node in eventually(&format!("{count} pods have nodes"), look).await {
            *counts.entry(node).or_default() += 1;
        }
        counts
    }
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + DeserializeOwned + Serialize + Debug,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

async fn eventually<F, Fut, T>(what: &str, look: F) -> T
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

fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } },
                          "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
    })
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "containers": [
        { "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu } } } ] } })
}

/// What `kubectl describe` says about why a pod waits.
fn why(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled")?;
    (scheduled.status == "False")
        .then(|| scheduled.message.clone())
        .flatten()
}

const UNHELPFUL: &str = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";

async fn until_told(cluster: &Cluster, name: &str, message: &str) {
    let pods = cluster.api::<Pod>();
    let told = || async { (why(&pods.get(name).await.unwrap())? == message).then_some(()) };
    eventually(message, told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployments_pods_are_spread_over_the_nodes() {
    let cluster = Cluster::start().await;
    cluster.schedule();
    for name in ["a", "b", "c"] {
        cluster.node(name).await;
    }
    create(&cluster.api::<Deployment>(), deployment("web", 6)).await;
    let expected = ["a", "b", "c"].map(|name| (name.to_owned(), 2)).into();
    assert_eq!(cluster.placed(6).await, expected);
    let events = cluster.api::<Event>();
    let told = || async {
        let events = events.list(&ListParams::default()).await.unwrap();
        events
            .into_iter()
            .find(|event| event.reason.as_deref() == Some("Scheduled"))
    };
    let event = eventually("the event Scheduled", told).await;
    assert!(
        event
            .message
            .unwrap()
            .starts_with("Successfully assigned default/web-")
    );
    let pod = cluster.pods().await.remove(0);
    let conditions = pod.status.unwrap().conditions.unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c.type_ == "PodScheduled" && c.status == "True")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_pods_are_placed_evenly() {
    let cluster = Cluster::start().await;
    cluster.schedule();
    for name in ["a", "b", "c"] {
        cluster.node(name).await;
    }
    let start = Instant::now();
    create(&cluster.api::<Deployment>(), deployment("web", 100)).await;
    let placed = cluster.placed(100).await;
    println!(
        "100 pods created and placed after {:?}: {placed:?}",
        start.elapsed()
    );
    assert!(
        placed.values().all(|count| (33..=34).contains(count)),
        "{placed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_fits_nowhere_says_why_and_goes_when_there_is_room() {
    let cluster = Cluster::start().await;
    cluster.schedule();
    let pods = cluster.api::<Pod>();
    create(&pods, pod("first", "3")).await;
    until_told(&cluster, "first", "no nodes available to schedule pods").await;
    cluster.node("a").await;
    cluster.placed(1).await;

    create(&pods, pod("second", "2")).await;
    let none = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    let message = format!("0/1 nodes are available: 1 Insufficient cpu. {none}");
    until_told(&cluster, "second", &message).await;
    pods.delete("first", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    cluster.placed(1).await;
    assert_eq!(cluster.pods().await[0].name_any(), "second");

    let mut choosy = pod("choosy", "0");
    choosy["spec"]["nodeSelector"] = json!({ "disk": "fast" });
    create(&pods, choosy).await;
    let message =
        format!("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {UNHELPFUL}");
    until_told(&cluster, "choosy", &message).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let label = Patch::Merge(json!({ "metadata": { "labels": { "disk": "fast" } } }));
    nodes.patch("a", &PatchParams::default(), &label).await.unwrap();
    cluster.placed(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cordoned_node_gets_no_pods_until_it_is_uncordoned() {
    let cluster = Cluster::start().await;
    cluster.node("a").await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    nodes.cordon("a").await.unwrap();
    cluster.schedule();
    create(&cluster.api::<Pod>(), pod("p", "0")).await;
    let message = format!("0/1 nodes are available: 1 node(s) were unschedulable. {UNHELPFUL}");
    until_told(&cluster, "p", &message).await;
    nodes.uncordon("a").await.unwrap();
    cluster.placed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_scheduler_counts_what_the_last_one_placed() {
    let cluster = Cluster::start().await;
    let first = cluster.schedule();
    cluster.node("a").await;
    cluster.node("b").await;
    let pods = cluster.api::<Pod>();
    create(&pods, pod("1", "3")).await;
    cluster.placed(1).await;
    first.cancel();
    create(&pods, pod("2", "3")).await;
    create(&pods, pod("3", "3")).await;
    cluster.schedule();
    let placed = cluster.placed(2).await;
    assert!(placed.values().all(|&count| count == 1), "{placed:?}");
    let waiting = || async {
        let pods = cluster.pods().await;
        pods.iter().find_map(why)
    };
    let message = eventually("the third says why", waiting).await;
    let none = "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    assert_eq!(
        message,
        format!("0/2 nodes are available: 2 Insufficient cpu. {none}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_other_schedulers_and_gated_ones_are_left_alone() {
    let cluster = Cluster::start().await;
    cluster.schedule();
    cluster.node("a").await;
    let pods = cluster.api::<Pod>();
    let mut other = pod("other", "0");
    other["spec"]["schedulerName"] = json!("someone-else");
    create(&pods, other).await;
    let mut gated = pod("gated", "0");
    gated["spec"]["schedulingGates"] = json!([{ "name": "example.com/wait" }]);
    create(&pods, gated).await;
    until_told(
        &cluster,
        "gated",
        "Scheduling is blocked due to non-empty scheduling gates",
    )
    .await;
    create(&pods, pod("plain", "0")).await;
    cluster.placed(1).await;
    assert_eq!(node_of(&pods.get("plain").await.unwrap()).as_deref(), Some("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_waits_for_company_goes_when_it_comes() {
    let cluster = Cluster::start().await;
    cluster.schedule();
    cluster.node("a").await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let label = Patch::Merge(json!({ "metadata": { "labels": { "zone": "z" } } }));
    nodes.patch("a", &PatchParams::default(), &label).await.unwrap();
    let pods = cluster.api::<Pod>();
    let mut web = pod("web", "0");
    let term = json!({ "topologyKey": "zone", "labelSelector": { "matchLabels": { "app": "db" } } });
    web["spec"]["affinity"] =
        json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
    create(&pods, web).await;
    let message = format!("0/1 nodes are available: 1 node(s) didn't match pod affinity rules. {UNHELPFUL}");
    until_told(&cluster, "web", &message).await;
    let mut db = pod("db", "0");
    db["metadata"]["labels"] = json!({ "app": "db" });
    create(&pods, db).await;
    cluster.placed(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_important_pod_takes_the_place_of_a_lesser_one() {
    let cluster = Cluster::start().await;
    cluster.schedule();
    cluster.node("a").await;
    let classes: Api<PriorityClass> = Api::all(cluster.client.clone());
    create(&classes, json!({ "metadata": { "name": "high" }, "value": 1000 })).await;
    let pods = cluster.api::<Pod>();
    create(&pods, pod("lesser", "3")).await;
    cluster.placed(1).await;
    let mut important = pod("important", "3");
    important["spec"]["priorityClassName"] = json!("high");
    create(&pods, important).await;
    let preempted = || async {
        let lesser = pods.get("lesser").await.unwrap();
        lesser.metadata.deletion_timestamp.is_some().then_some(lesser)
    };
    let lesser = eventually("the lesser one goes", preempted).await;
    let conditions = lesser.status.unwrap().conditions.unwrap();
    let disrupted = conditions.iter().find(|c| c.type_ == "DisruptionTarget").unwrap();
    assert_eq!(disrupted.reason.as_deref(), Some("PreemptionByScheduler"));
    let nominated = || async {
        let status = pods.get("important").await.unwrap().status?;
        status.nominated_node_name
    };
    assert_eq!(eventually("room is kept", nominated).await, "a");
    // It is not given to whoever comes meanwhile.
    create(&pods, pod("sneaky", "3")).await;
    let waiting = || async { why(&pods.get("sneaky").await.unwrap()) };
    eventually("the other one waits", waiting).await;
    pods.delete("lesser", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let placed = || async { node_of(&pods.get("important").await.unwrap()) };
    assert_eq!(eventually("it has the node", placed).await, "a");
    let status = pods.get("important").await.unwrap().status.unwrap();
    assert_eq!(status.nominated_node_name, None, "it has one");
    assert_eq!(node_of(&pods.get("sneaky").await.unwrap()), None);
}
