//! Nodes that elect announcers, against a server, with the rights that nodes have.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use announce::{Settings, run};
use apiserver::{ApiServer, Config, Identity, ServiceConfig};
use k8s_openapi::api::core::v1::{Event, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

struct Cluster {
    server: Arc<ApiServer>,
    client: Client,
    _dir: tempfile::TempDir,
}

/// A node's announcer; it ends when this is dropped.
struct Node {
    name: &'static str,
    held: watch::Receiver<Option<BTreeSet<IpAddr>>>,
    _listener: watch::Sender<BTreeSet<String>>,
    _stop: DropGuard,
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            store: dir.path().join("store.redb"),
            kubelet_client: None,
            tokens: None,
            services: ServiceConfig::default(),
            loss_toleration: apiserver::LossToleration::default(),
        };
        let server = ApiServer::open(config).unwrap();
        server.bootstrap().await.unwrap();
        Self {
            client: server.client(Identity::new("admin", ["system:masters"])),
            server,
            _dir: dir,
        }
    }

    fn node(&self, name: &'static str) -> Node {
        let identity = Identity::new(format!("system:node:{name}"), ["system:nodes"]);
        let (wanted, held) = watch::channel(None);
        let stop = CancellationToken::new();
        let settings = Settings {
            node: name.to_owned(),
        };
        // None answers: who doesn't renew its Lease is dead.
        let (listener, answering) = watch::channel(BTreeSet::new());
        let client = self.server.client(identity);
        tokio::spawn(run(settings, client, wanted, answering, stop.clone()));
        Node {
            name,
            held,
            _listener: listener,
            _stop: stop.drop_guard(),
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn balancer(&self, name: &str, policy: &str, ip: &str) {
        let services: Api<Service> = self.api();
        let service = json!({ "metadata": { "name": name },
            "spec": { "type": "LoadBalancer", "externalTrafficPolicy": policy, "ports": [{ "port": 80 }] } });
        let service = serde_json::from_value(service).unwrap();
        services.create(&PostParams::default(), &service).await.unwrap();
        let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": ip }] } } });
        services
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    async fn condition(&self, name: &str) -> Option<(String, String)> {
        let service = self.api::<Service>().get(name).await.unwrap();
        let conditions = service.status?.conditions?;
        let condition = conditions
            .into_iter()
            .find(|c| c.type_ == "ripstop.dev/Announced")?;
        Some((condition.status, condition.message))
    }
}

impl Node {
    fn has(&self, ip: &str) -> bool {
        let held = self.held.borrow();
        held.as_ref()
            .is_some_and(|held| held.contains(&ip.parse::<IpAddr>().unwrap()))
    }
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
    let found = tokio::time::timeout(Duration::from_secs(60), wait).await;
    found.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Waits until one of the nodes announces an address alone, and the API says so.
async fn announcer<'a>(cluster: &Cluster, nodes: &[&'a Node], service: &str, ip: &str) -> &'a Node {
    eventually(&format!("one node announces {ip}"), || async {
        let having: Vec<_> = nodes.iter().filter(|node| node.has(ip)).collect();
        let [one] = having[..] else { return None };
        let told = ("True".to_owned(), format!("{} announces {ip}", one.name));
        (cluster.condition(service).await? == told).then_some(*one)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_announces_and_another_takes_over_when_it_dies() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    cluster.balancer("web", "Cluster", "172.30.0.200").await;
    let first = announcer(&cluster, &[&a, &b], "web", "172.30.0.200").await.name;
    let events: Api<Event> = cluster.api();
    eventually("an Event tells", || async {
        let list = events.list(&ListParams::default()).await.unwrap();
        let wanted = format!("{first} announces 172.30.0.200");
        list.items
            .iter()
            .any(|event| event.message.as_ref() == Some(&wanted))
            .then_some(())
    })
    .await;
    let (dead, left) = if first == "a" { (a, b) } else { (b, a) };
    drop(dead);
    announcer(&cluster, &[&left], "web", "172.30.0.200").await;
    // Who announces goes on when the other is back.
    let back = cluster.node(first);
    eventually("it has looked", || async {
        back.held.borrow().is_some().then_some(())
    })
    .await;
    assert!(left.has("172.30.0.200") && !back.has("172.30.0.200"));
    // A Service that is no load balancer any more is nobody's.
    let plain = Patch::Merge(json!({ "spec": { "type": "ClusterIP" } }));
    cluster
        .api::<Service>()
        .patch("web", &PatchParams::default(), &plain)
        .await
        .unwrap();
    eventually("nobody announces", || async {
        (!left.has("172.30.0.200") && cluster.condition("web").await.is_none()).then_some(())
    })
    .await;
}

fn slice(node: Option<&str>) -> Value {
    let endpoints: Vec<Value> = node
        .map(|node| json!({ "addresses": ["10.244.0.5"], "nodeName": node, "conditions": { "ready": true } }))
        .into_iter()
        .collect();
    json!({ "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{ "port": 80 }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_local_is_announced_where_its_endpoints_are() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let slices: Api<EndpointSlice> = cluster.api();
    let first = serde_json::from_value(slice(Some("b"))).unwrap();
    slices.create(&PostParams::default(), &first).await.unwrap();
    cluster.balancer("web", "Local", "172.30.0.200").await;
    assert_eq!(
        announcer(&cluster, &[&a, &b], "web", "172.30.0.200").await.name,
        "b"
    );
    let change = |node: Option<&'static str>| {
        let (slices, patch) = (slices.clone(), Patch::Merge(slice(node)));
        async move {
            slices
                .patch("web-1", &PatchParams::default(), &patch)
                .await
                .unwrap()
        }
    };
    change(Some("a")).await;
    // The other goes on until it has seen the change.
    eventually("the address follows its endpoint", || async {
        let only = announcer(&cluster, &[&a, &b], "web", "172.30.0.200").await;
        (only.name == "a").then_some(())
    })
    .await;
    change(None).await;
    eventually("nobody announces, and it is told", || async {
        let told = cluster.condition("web").await?
            == (
                "False".to_owned(),
                "no node that may announce it has a ready endpoint".to_owned(),
            );
        (told && !a.has("172.30.0.200") && !b.has("172.30.0.200")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_load_balancers_are_to_leave_out_announces_nothing() {
    const LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
    let cluster = Cluster::start().await;
    let objects: Api<k8s_openapi::api::core::v1::Node> = Api::all(cluster.client.clone());
    for name in ["a", "b"] {
        let node = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        objects.create(&PostParams::default(), &node).await.unwrap();
    }
    let exclude = async |node: &str, value: Option<&str>| {
        let patch = Patch::Merge(json!({ "metadata": { "labels": { LABEL: value } } }));
        let patched = objects.patch(node, &PatchParams::default(), &patch).await;
        patched.unwrap();
    };
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    cluster.balancer("web", "Cluster", "172.30.0.200").await;
    let first = announcer(&cluster, &[&a, &b], "web", "172.30.0.200").await.name;
    let other = if first == "a" { "b" } else { "a" };
    exclude(first, Some("")).await;
    let moved = async |to: &'static str| {
        eventually("the address moves", || async {
            let only = announcer(&cluster, &[&a, &b], "web", "172.30.0.200").await;
            (only.name == to).then_some(())
        })
        .await;
    };
    moved(other).await;
    exclude(other, Some("true")).await;
    eventually("nobody announces, and it is told", || async {
        let (status, message) = cluster.condition("web").await?;
        let told = status == "False" && message.contains(LABEL);
        (told && !a.has("172.30.0.200") && !b.has("172.30.0.200")).then_some(())
    })
    .await;
    exclude(first, None).await;
    moved(first).await;
}
