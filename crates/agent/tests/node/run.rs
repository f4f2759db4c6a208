//! The whole agent against a real API server, in a node of the test's own.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{TestNode, address};
use agent::AgentConfig;
use agent::network::NodeKernel;
use apiserver::{ApiServer, Identity};
use k8s_openapi::api::core::v1::Node;
use kernel::NetNs;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testkit::{Pong, TestNs, eventually_async, ping};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// An agent in this process.
struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start(node: &TestNode, client: kube::Client) -> Running {
        let kernel = NetNs::open(&node.spec.netns).expect("the node's namespace");
        let kernel = NodeKernel::open(kernel, node.spec.pins.clone(), None);
        let stop = CancellationToken::new();
        let task = agent::run_with(config(node), client, kernel.expect("its kernel"), stop.clone());
        Running {
            stop,
            task: tokio::spawn(task),
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("it ends well");
    }
}

fn config(node: &TestNode) -> AgentConfig {
    let dir = &node.spec.dir;
    let config = json!({
        "nodeName": "a", "dataDir": dir, "runDir": dir,
        "nodeIps": node.spec.node.addresses,
        "cni": {"confDir": dir.join("net.d"), "reuseAfterSeconds": 0},
    });
    serde_json::from_value(config).expect("a configuration")
}

fn conflist(node: &TestNode) -> PathBuf {
    node.spec.dir.join("net.d/10-ripstop.conflist")
}

/// An API server in this process.
pub(crate) struct Cluster {
    server: Arc<ApiServer>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        let dir = tempfile::tempdir().expect("a directory");
        let config = apiserver::Config {
            store: dir.path().join("store.redb"),
            kubelet_client: None,
            tokens: None,
            services: apiserver::ServiceConfig::default(),
            loss_toleration: apiserver::LossToleration::default(),
        };
        Cluster {
            server: ApiServer::open(config).expect("a server"),
            _dir: dir,
        }
    }

    pub(crate) fn client(&self) -> kube::Client {
        self.server.client(Identity::new("admin", ["system:masters"]))
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client())
    }

    async fn add_node(&self, name: &str, address: IpAddr, blocks: Value) {
        let object = json!({"metadata": {"name": name}, "spec": {"podCIDRs": blocks}});
        let object = serde_json::from_value(object).expect("a Node");
        self.nodes()
            .create(&PostParams::default(), &object)
            .await
            .expect("created");
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
        let patched = self
            .nodes()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await;
        patched.expect("patched");
    }

    async fn patch(&self, name: &str, patch: Value) {
        let patched = self
            .nodes()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.expect("patched");
    }
}

/// A client of an API that isn't there.
fn nowhere() -> kube::Client {
    let url = "http://127.0.0.1:1".parse().expect("a URL");
    kube::Client::try_from(kube::Config::new(url)).expect("a client")
}

async fn status(node: &TestNode) -> Result<Value, Value> {
    node.call("STATUS", "", std::path::Path::new("")).run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_comes_up_with_the_node_and_follows_the_others() {
    let node = TestNode::new(&[]).await;
    let cluster = Cluster::new();
    let agent = Running::start(&node, cluster.client());
    eventually_async(PATIENCE, async || {
        let error = status(&node).await.expect_err("no Node yet");
        error["code"] == 50
            && error["msg"]
                .as_str()
                .is_some_and(|text| text.contains("isn't registered"))
    })
    .await;
    assert!(!conflist(&node).exists());

    cluster
        .add_node("a", node.spec.node.addresses[0], json!(null))
        .await;
    eventually_async(PATIENCE, async || {
        let error = status(&node).await.expect_err("no blocks yet");
        error["msg"]
            .as_str()
            .is_some_and(|text| text.contains("no spec.podCIDRs yet"))
    })
    .await;
    assert!(!conflist(&node).exists());

    cluster
        .patch(
            "a",
            json!({"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}}),
        )
        .await;
    eventually_async(PATIENCE, async || conflist(&node).exists()).await;
    status(&node).await.expect("ready");
    let before = node.kernel_state().await;

    cluster
        .add_node("b", [172, 30, 0, 99].into(), json!(["10.244.2.0/24"]))
        .await;
    eventually_async(PATIENCE, async || node.kernel_state().await.1 == before.1 + 1).await;
    cluster
        .nodes()
        .delete("b", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually_async(PATIENCE, async || node.kernel_state().await == before).await;
    agent.stop().await;
}

/// What policies say about a new pod can't be known then: an agent that hasn't heard of them refuses, and what
/// is attached is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_is_away_a_new_agent_attaches_nothing_and_disturbs_nothing() {
    let node = TestNode::new(&[]).await;
    let cluster = Cluster::new();
    cluster
        .add_node("a", node.spec.node.addresses[0], json!(["10.244.1.0/24"]))
        .await;
    let agent = Running::start(&node, cluster.client());
    eventually_async(PATIENCE, async || conflist(&node).exists()).await;
    let pods = [
        TestNs::new("one").await,
        TestNs::new("two").await,
        TestNs::new("three").await,
    ];
    let add = |name: &str, pod: &TestNs| node.call("ADD", name, &pod.path()).run();
    let first = add("one", &pods[0]).await.expect("attached");
    let before = node.kernel_state().await;
    let second = add("two", &pods[1]).await.expect("attached");
    agent.stop().await;
    assert!(
        conflist(&node).exists(),
        "a restart isn't worth telling the runtime"
    );

    let agent = Running::start(&node, nowhere());
    let refusal = add("three", &pods[2]).await.expect_err("refused");
    assert_eq!(refusal["code"], 11, "try again later: {refusal}");
    let says = "the API hasn't said yet which NetworkPolicies there are";
    assert!(refusal.to_string().contains(says), "{refusal}");
    assert_eq!(ping(&pods[0], address(&second), 56).expect("sent"), Pong::Reply);
    assert_eq!(ping(&pods[1], address(&first), 56).expect("sent"), Pong::Reply);
    node.call("DEL", "two", &pods[1].path())
        .run()
        .await
        .expect("detached");
    assert_eq!(node.kernel_state().await, before);
    agent.stop().await;
}
