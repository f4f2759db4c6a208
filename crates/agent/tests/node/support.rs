//! A node of a test's own: the network part over the real kernel, called by the real plugin.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agent::network::{Network, NodeKernel, Server, Settings};
use agent::policies::{self, Policies};
use ipnet::IpNet;
use kernel::NetNs;
use model::{Node, PodNetwork, Snapshot};
use serde_json::{Value, json};
use testkit::{Lan, TestNs};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api;

/// The plugin: that of `RIPSTOP_CNI`, or built as it is now, as cargo gives a test the binaries of
/// its own package only.
pub(crate) fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        if let Some(path) = std::env::var_os("RIPSTOP_CNI") {
            return path.into();
        }
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--package",
            "cni",
            "--bin",
            "ripstop-cni",
            "--message-format",
            "json",
        ]);
        let output = build
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let messages = output.stdout.split(|byte| *byte == b'\n');
        let mut messages = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        let executable = messages.find_map(|message| message["executable"].as_str().map(PathBuf::from));
        executable.expect("cargo says where the plugin is")
    })
}

/// What an agent of this test needs to know.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Spec {
    pub(crate) dir: PathBuf,
    pub(crate) netns: PathBuf,
    pub(crate) pins: PathBuf,
    pub(crate) node: Node,
}

impl Spec {
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("cni.sock")
    }
}

/// A running network part in this process.
pub(crate) struct Agent {
    pub(crate) network: Arc<Network<NodeKernel>>,
    stop: CancellationToken,
    parts: JoinSet<()>,
    _published: watch::Sender<Option<Arc<Snapshot>>>,
}

impl Agent {
    /// Starts, and waits until pods can be attached.
    pub(crate) async fn start(spec: &Spec) -> Agent {
        let agent = Agent::begin(spec).await;
        agent.until(Result::is_ok).await.expect("ready");
        agent
    }

    /// Waits for readiness, or for a reason why not.
    pub(crate) async fn until(&self, wanted: impl FnMut(&Result<(), String>) -> bool) -> Result<(), String> {
        let mut ready = self.network.readiness();
        let waited = tokio::time::timeout(Duration::from_secs(20), ready.wait_for(wanted)).await;
        waited.expect("in time").expect("the network part lives").clone()
    }

    /// Starts.
    pub(crate) async fn begin(spec: &Spec) -> Agent {
        Agent::with_api(spec, api::empty()).await
    }

    /// Starts, with the pods and policies of that API.
    pub(crate) async fn with_api(spec: &Spec, client: kube::Client) -> Agent {
        let kernel = NodeKernel::open(
            NetNs::open(&spec.netns).expect("the node's namespace"),
            spec.pins.clone(),
            None,
        )
        .expect("its kernel");
        let settings = Settings {
            node: "a".to_owned(),
            addresses: Vec::new(),
            mtu: None,
            pod_network: PodNetwork::default(),
            dir: spec.dir.clone(),
            reuse_after: Duration::ZERO,
        };
        let policies = Arc::new(Policies::new(client, "a", &BTreeSet::new()));
        let network = Network::start(settings, policies.clone(), kernel).await;
        let network = Arc::new(network.expect("the network part starts"));
        let snapshot = Snapshot {
            nodes: [("a".to_owned(), spec.node.clone())].into(),
            ..Snapshot::default()
        };
        let published = watch::Sender::new(Some(Arc::new(snapshot)));
        let snapshots = published.subscribe();
        let stop = CancellationToken::new();
        let mut parts = JoinSet::new();
        let (follower, token) = (network.clone(), stop.clone());
        parts.spawn(async move { follower.follow(snapshots, token).await });
        parts.spawn(policies::follow(policies, stop.clone()));
        let (follower, token) = (network.clone(), stop.clone());
        parts.spawn(async move { follower.follow_policies(token).await });
        let server = Server::bind(&spec.socket()).expect("a socket");
        parts.spawn(server.serve(network.clone(), stop.clone()));
        Agent {
            network,
            stop,
            parts,
            _published: published,
        }
    }

    /// Ends as the agent does on SIGTERM.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.parts.join_next().await {
            ended.expect("no panic");
        }
    }
}

/// A node with its uplink, and a directory for its agent.
pub(crate) struct TestNode {
    pub(crate) lan: Lan,
    pub(crate) spec: Spec,
    _dir: tempfile::TempDir,
}

impl TestNode {
    pub(crate) async fn new(blocks: &[&str]) -> TestNode {
        let lan = Lan::new(1).await;
        let dir = tempfile::tempdir().expect("a directory");
        let node = Node {
            addresses: lan.nodes[0].addresses().to_vec(),
            pod_cidrs: blocks
                .iter()
                .map(|block| block.parse::<IpNet>().expect("a block"))
                .collect(),
            ..Node::default()
        };
        let spec = Spec {
            dir: dir.path().to_owned(),
            netns: lan.nodes[0].netns.path(),
            pins: lan.nodes[0].netns.pins(),
            node,
        };
        TestNode { lan, spec, _dir: dir }
    }

    pub(crate) fn netns(&self) -> &TestNs {
        &self.lan.nodes[0].netns
    }

    pub(crate) fn call(&self, command: &str, container: &str, netns: &Path) -> Call {
        let config = json!({
            "cniVersion": "1.1.0", "name": "ripstop", "type": "ripstop-cni", "socket": self.spec.socket(),
            "connectTimeoutMs": 20_000,
        });
        Call {
            command: command.to_owned(),
            container: container.to_owned(),
            netns: netns.to_owned(),
            args: String::new(),
            config,
        }
    }

    /// How many elements the sets and maps of our table have.
    pub(crate) fn elements(&self) -> usize {
        let nft = kernel::nftables::Nft::open(self.netns()).expect("a connection");
        let table = plan::table();
        let place = nft::Place::new(table.family, &table.name);
        let observed = nft.observe(&place).expect("read").unwrap_or_default();
        observed.sets.values().map(|set| set.elements.len()).sum()
    }

    /// How many links, routes and neighbours of ours the node has.
    pub(crate) async fn kernel_state(&self) -> (usize, usize, usize) {
        let netlink = self.netns().netlink();
        let links = netlink.links().await.expect("links");
        let neighbours = netlink.neighbours().await.expect("neighbours");
        (
            links
                .iter()
                .filter(|link| link.name.starts_with(model::LINK_PREFIX))
                .count(),
            netlink.own_routes().await.expect("routes").len(),
            neighbours.len(),
        )
    }
}

/// A call of the plugin.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) command: String,
    pub(crate) container: String,
    pub(crate) netns: PathBuf,
    /// What a runtime of Kubernetes' says about the pod; nothing where it's none of the cluster's.
    pub(crate) args: String,
    pub(crate) config: Value,
}

impl Call {
    /// For a pod of the cluster.
    pub(crate) fn of_pod(mut self, namespace: &str, name: &str, uid: &str) -> Call {
        self.args = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={uid}");
        self
    }

    pub(crate) fn with(mut self, key: &str, value: Value) -> Call {
        self.config[key] = value;
        self
    }

    pub(crate) fn spawn(&self) -> Child {
        let mut child = Command::new(plugin())
            .env_clear()
            .env("CNI_COMMAND", &self.command)
            .env("CNI_CONTAINERID", &self.container)
            .env("CNI_NETNS", &self.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", &self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the plugin starts");
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        stdin
            .write_all(self.config.to_string().as_bytes())
            .expect("the plugin reads");
        child
    }

    /// Runs the plugin to its end, without keeping the test's runtime from its work.
    pub(crate) async fn run(self) -> Result<Value, Value> {
        let output = tokio::task::spawn_blocking(move || self.spawn().wait_with_output());
        read(&output.await.expect("no panic").expect("the plugin ends"))
    }
}

pub(crate) fn read(output: &Output) -> Result<Value, Value> {
    let value = if output.stdout.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output:?}"))
    };
    if output.status.success() {
        Ok(value)
    } else {
        Err(value)
    }
}

/// The first address of a result.
pub(crate) fn address(result: &Value) -> IpAddr {
    let text = result["ips"][0]["address"]
        .as_str()
        .expect("a result with an address");
    text.parse::<IpNet>().expect("a prefix").addr()
}
