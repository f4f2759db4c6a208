//! The network part over a kernel that is played.

mod calls;
mod changes;
mod left_out;
mod orphans;
mod policies;
mod readiness;
mod restarts;
mod room;
mod server;
mod services;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use cni::{Call, Command, NetworkConfig};
use model::{Node, PodNetwork, Snapshot};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::fake::Fake;
use super::*;
use crate::policies::tests as api;
use crate::watching::Keeps as _;

type Publisher = watch::Sender<Option<Arc<Snapshot>>>;

/// A running network part; dropping it is `kill -9`, as far as the agent goes.
struct Running {
    network: Arc<Network<Fake>>,
    policies: Arc<Policies>,
    snapshots: Publisher,
    _stop: tokio_util::sync::DropGuard,
}

fn cluster(blocks: &[&str]) -> Arc<Snapshot> {
    let node = |address: &str, blocks: &[&str]| Node {
        addresses: vec![address.parse().expect("an address")],
        pod_cidrs: blocks
            .iter()
            .map(|block| block.parse().expect("a block"))
            .collect(),
        ..Node::default()
    };
    let nodes = [
        ("a".to_owned(), node("172.30.0.11", blocks)),
        ("b".to_owned(), node("172.30.0.12", &["10.244.2.0/24"])),
    ];
    Arc::new(Snapshot {
        nodes: nodes.into(),
        ..Snapshot::default()
    })
}

/// With an API that is away; but it told of the pods that are attached, and that there are no policies.
async fn start(dir: &Path, kernel: &Fake) -> Running {
    let policies = Arc::new(Policies::new(api::away(), "a", &BTreeSet::new()));
    let running = begin(dir, kernel, policies).await;
    let attached = running.network.attachments().into_values();
    let pods = attached.map(|attachment| api::pod(&attachment.pod.namespace, &attachment.pod.name));
    running
        .policies
        .list(&[], &[api::namespace("shop")], &pods.collect::<Vec<_>>());
    running
}

async fn begin(dir: &Path, kernel: &Fake, policies: Arc<Policies>) -> Running {
    let settings = Settings {
        node: "a".to_owned(),
        addresses: Vec::new(),
        mtu: None,
        pod_network: PodNetwork::default(),
        dir: dir.to_owned(),
        reuse_after: Duration::ZERO,
    };
    let network = Network::start(settings, policies.clone(), kernel.clone());
    let network = Arc::new(network.await.expect("it starts"));
    let snapshots = Publisher::new(None);
    let stop = CancellationToken::new();
    let (follower, receiver, token) = (network.clone(), snapshots.subscribe(), stop.clone());
    tokio::spawn(async move { follower.follow(receiver, token).await });
    Running {
        network,
        policies,
        snapshots,
        _stop: stop.drop_guard(),
    }
}

impl Running {
    async fn publish(&self, snapshot: Arc<Snapshot>) {
        self.snapshots.send_replace(Some(snapshot));
        self.until(Result::is_ok).await.expect("ready");
    }

    async fn until(&self, wanted: impl FnMut(&Result<(), String>) -> bool) -> Result<(), String> {
        let mut readiness = self.network.readiness();
        let seen = tokio::time::timeout(Duration::from_secs(20), readiness.wait_for(wanted)).await;
        seen.expect("in time").expect("open").clone()
    }

    fn request(command: Command, container: &str, more: Value) -> (Call, NetworkConfig) {
        let call = Call {
            command,
            container_id: container.to_owned(),
            netns: Some(format!("/run/netns/{container}")),
            interface: "eth0".to_owned(),
            args: [
                ("K8S_POD_NAMESPACE".to_owned(), "shop".to_owned()),
                ("K8S_POD_NAME".to_owned(), container.to_owned()),
            ]
            .into(),
        };
        let mut config = json!({"cniVersion": "1.1.0", "name": "ripstop", "type": "ripstop-cni"});
        for (key, value) in more.as_object().expect("an object") {
            config[key] = value.clone();
        }
        let config = NetworkConfig::parse(config.to_string().as_bytes()).expect("a configuration");
        (call, config)
    }

    async fn call(
        &self,
        command: Command,
        container: &str,
        more: Value,
    ) -> Result<Option<Value>, cni::Error> {
        let (call, config) = Running::request(command, container, more);
        self.network.serve(&call, &config, None).await.outcome
    }

    /// Attaches a pod that the API has told of.
    async fn add(&self, container: &str) -> Result<Value, cni::Error> {
        self.add_with(container, json!({})).await
    }

    async fn add_with(&self, container: &str, more: Value) -> Result<Value, cni::Error> {
        self.policies.put(api::pod("shop", container));
        let result = self.call(Command::Add, container, more).await;
        result.map(|result| result.expect("ADD has a result"))
    }

    async fn address(&self, container: &str) -> String {
        let result = self.add(container).await.expect("attached");
        result["ips"][0]["address"]
            .as_str()
            .expect("an address")
            .to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.network
            .attachments()
            .into_keys()
            .map(|id| id.container)
            .collect()
    }
}

async fn ready(dir: &Path, kernel: &Fake) -> Running {
    let running = start(dir, kernel).await;
    running.publish(cluster(&["10.244.1.0/24"])).await;
    running
}

async fn until(holds: impl Fn() -> bool) {
    let holding = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), holding).await;
    waited.expect("in time");
}
