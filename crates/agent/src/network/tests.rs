//! The network part over a kernel that is played.

use std::path::Path;
use std::time::Duration;

use cni::{Call, Code, Command, NetworkConfig};
use model::{Node, PodNetwork, Snapshot};
use plan::{Identity, Object, PartId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::fake::Fake;
use super::*;

type Publisher = watch::Sender<Option<Arc<Snapshot>>>;

/// A running network part; dropping it is `kill -9`, as far as the agent goes.
struct Running {
    network: Arc<Network<Fake>>,
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

async fn start(dir: &Path, kernel: &Fake) -> Running {
    let settings = Settings {
        node: "a".to_owned(),
        addresses: Vec::new(),
        mtu: None,
        pod_network: PodNetwork::default(),
        dir: dir.to_owned(),
        reuse_after: Duration::ZERO,
    };
    let network = Arc::new(Network::start(settings, kernel.clone()).await.expect("it starts"));
    let snapshots = Publisher::new(None);
    let stop = CancellationToken::new();
    let (follower, receiver, token) = (network.clone(), snapshots.subscribe(), stop.clone());
    tokio::spawn(async move { follower.follow(receiver, token).await });
    Running {
        network,
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

    async fn call(
        &self,
        command: Command,
        container: &str,
        more: Value,
    ) -> Result<Option<Value>, cni::Error> {
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
        self.network.serve(&call, &config, None).await.outcome
    }

    async fn add(&self, container: &str) -> Result<Value, cni::Error> {
        self.call(Command::Add, container, json!({}))
            .await
            .map(|result| result.expect("ADD has a result"))
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

#[tokio::test]
async fn an_add_says_what_was_planned() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = ready(dir.path(), &Fake::default()).await;
    let result = running.add("web").await.expect("attached");
    insta::assert_snapshot!(serde_json::to_string_pretty(&result).expect("JSON"));
}

#[tokio::test]
async fn adding_twice_returns_the_same_and_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = ready(dir.path(), &Fake::default()).await;
    let first = running.add("web").await.expect("attached");
    let writes = running.network.counters().counts().kernel_writes;
    assert_eq!(running.add("web").await.expect("attached"), first);
    assert_eq!(running.network.counters().counts().kernel_writes, writes);
}

#[tokio::test]
async fn del_removes_what_add_made_and_may_be_repeated() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let before = kernel.played().objects.clone();
    running.add("web").await.expect("attached");
    for _ in 0..2 {
        running
            .call(Command::Del, "web", json!({}))
            .await
            .expect("detached");
    }
    assert_eq!(kernel.played().objects, before);
    assert!(running.names().is_empty());
}

#[tokio::test]
async fn a_restart_on_an_unchanged_cluster_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let first = ready(dir.path(), &kernel).await;
    let address = first.address("web").await;
    drop(first);
    let second = again(dir.path(), &kernel).await;
    assert_eq!(second.network.counters().counts().kernel_writes, 0);
    assert_eq!(second.address("web").await, address);
    assert_eq!(second.network.counters().counts().kernel_writes, 0);
}

/// The journal's lock goes with the old agent's last task.
async fn again(dir: &Path, kernel: &Fake) -> Running {
    tokio::task::yield_now().await;
    ready(dir, kernel).await
}

#[tokio::test]
async fn at_start_attachments_without_links_are_released() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let first = ready(dir.path(), &kernel).await;
    first.add("stays").await.expect("attached");
    first.add("goes").await.expect("attached");
    kernel.lose_link(&AttachmentId::new("goes", "eth0").host_link());
    drop(first);
    let second = again(dir.path(), &kernel).await;
    assert_eq!(second.names(), ["stays"]);
    assert_eq!(second.network.counters().counts().vanished, 1);
}

#[tokio::test]
async fn a_refused_add_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let before = kernel.played().objects.clone();
    kernel.played().refuse = 1;
    let error = running.add("web").await.expect_err("refused");
    assert_eq!(error.code, Code::Kernel);
    assert_eq!(kernel.played().objects, before);
    assert!(running.names().is_empty());
}

#[tokio::test]
async fn an_add_that_cannot_be_undone_keeps_its_address_until_its_del() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    kernel.played().refuse = 2;
    running.add("web").await.expect_err("refused");
    assert_eq!(running.names(), ["web"]);
    running
        .call(Command::Del, "web", json!({}))
        .await
        .expect("detached");
    assert!(running.names().is_empty());
}

#[tokio::test]
async fn a_refused_del_keeps_the_address() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    running.add("web").await.expect("attached");
    kernel.played().refuse = 1;
    running
        .call(Command::Del, "web", json!({}))
        .await
        .expect_err("refused");
    assert_eq!(running.names(), ["web"]);
}

#[tokio::test]
async fn an_add_that_comes_while_the_agent_starts_waits_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(dir.path(), &Fake::default()).await;
    let (added, ()) = tokio::join!(running.add("web"), running.publish(cluster(&["10.244.1.0/24"])));
    added.expect("attached");
}

#[tokio::test(start_paused = true)]
async fn before_the_cluster_is_known_add_waits_and_del_works() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(dir.path(), &Fake::default()).await;
    running
        .until(|state| state.as_ref().is_err_and(|reason| reason.contains("the API")))
        .await
        .expect_err("unready");
    assert_eq!(
        running.add("web").await.expect_err("too early").code,
        Code::TryAgainLater
    );
    let status = running
        .call(Command::Status, "web", json!({}))
        .await
        .expect_err("too early");
    assert_eq!(status.code, Code::NotAvailable);
    assert!(status.msg.contains("the API hasn't said yet"), "{status}");
    running
        .call(Command::Del, "web", json!({}))
        .await
        .expect("nothing to do");
}

#[tokio::test(start_paused = true)]
async fn while_the_kernel_takes_nothing_add_is_told_why_and_to_try_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    kernel.played().refuse = usize::MAX;
    let running = start(dir.path(), &kernel).await;
    running.snapshots.send_replace(Some(cluster(&["10.244.1.0/24"])));
    running
        .until(|state| state.as_ref().is_err_and(|reason| reason.contains("refused")))
        .await
        .expect_err("unready");
    let error = running.add("web").await.expect_err("unready");
    assert_eq!(error.code, Code::TryAgainLater);
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(running.names().is_empty());
    kernel.played().refuse = 0;
    running.until(Result::is_ok).await.expect("it refuses no more");
    running.add("web").await.expect("attached");
}

#[tokio::test]
async fn a_node_without_blocks_says_what_it_waits_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(dir.path(), &Fake::default()).await;
    running.snapshots.send_replace(Some(cluster(&[])));
    running
        .until(|state| {
            state
                .as_ref()
                .is_err_and(|reason| reason.contains("spec.podCIDRs"))
        })
        .await
        .expect_err("unready");
    running.publish(cluster(&["10.244.1.0/24"])).await;
    running
        .call(Command::Status, "x", json!({}))
        .await
        .expect("ready");
}

#[tokio::test]
async fn a_block_that_another_node_has_is_not_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(dir.path(), &Fake::default()).await;
    let mut snapshot = Snapshot::clone(&cluster(&["10.244.1.0/24"]));
    let theirs = snapshot.nodes["a"].clone();
    snapshot.nodes.insert("0-first".to_owned(), theirs);
    running.snapshots.send_replace(Some(Arc::new(snapshot)));
    let reason = running
        .until(|state| state.as_ref().is_err_and(|reason| reason.contains("overlap")))
        .await;
    assert!(reason.expect_err("unready").contains("0-first"));
}

#[tokio::test]
async fn a_change_of_the_cluster_writes_the_difference_and_leaves_pods_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    running.add("web").await.expect("attached");
    let writes = running.network.counters().counts().kernel_writes;
    let mut snapshot = Snapshot::clone(&cluster(&["10.244.1.0/24"]));
    snapshot.nodes.remove("b");
    running.snapshots.send_replace(Some(Arc::new(snapshot)));
    let seen = async {
        while running.network.counters().counts().applies < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen)
        .await
        .expect("in time");
    // Node b's route, the same for our programs, its block and its address.
    assert_eq!(running.network.counters().counts().kernel_writes - writes, 4);
    assert_eq!(kernel.links().len(), 1);
}

#[tokio::test]
async fn a_failed_plan_is_tried_again_from_what_the_kernel_holds() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    kernel.played().refuse = 2;
    let running = ready(dir.path(), &kernel).await;
    let counts = running.network.counters().counts();
    assert_eq!((counts.apply_failures, counts.applies), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn status_tells_whether_pods_that_are_there_are_concerned() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    running.add("web").await.expect("attached");
    kernel.played().refuse = 4;
    running
        .snapshots
        .send_replace(Some(cluster(&["10.244.1.0/24", "10.244.7.0/24"])));
    running
        .until(Result::is_err)
        .await
        .expect_err("the kernel refuses");
    let error = running
        .call(Command::Status, "x", json!({}))
        .await
        .expect_err("unready");
    assert_eq!(error.code, Code::NotAvailableLimited);
    running.until(Result::is_ok).await.expect("it refuses no more");
    running
        .call(Command::Status, "x", json!({}))
        .await
        .expect("ready");
}

#[tokio::test]
async fn a_peer_that_cannot_be_written_is_tried_again_and_pods_are_attached_meanwhile() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    kernel.played().refuse_part = Some(PartId::Peer("b".to_owned()));
    let running = ready(dir.path(), &kernel).await;
    running.add("web").await.expect("attached");
    let seen = async {
        while running.network.counters().counts().applies < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen)
        .await
        .expect("in time");
    assert_eq!(running.network.counters().counts().apply_failures, 1);
}

/// The routes that the kernel holds to a block.
fn route(kernel: &Fake, block: &str) -> Option<plan::Route> {
    let identity = Identity::Route(block.parse().expect("a block"));
    match kernel.played().objects.get(&identity) {
        Some(Object::Route(route)) => Some(route.clone()),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_path_carries_is_found_out_and_followed() {
    let (dir, kernel) = (tempfile::tempdir().expect("a directory"), Fake::default());
    let running = ready(dir.path(), &kernel).await;
    let mut far = Snapshot::clone(&cluster(&["10.244.1.0/24"]));
    let remote: IpAddr = "192.0.2.7".parse().expect("an address");
    far.nodes.get_mut("b").expect("the other node").addresses = vec![remote];
    running.publish(Arc::new(far)).await;
    let mtu = |wanted: Option<u32>| {
        let kernel = kernel.clone();
        async move {
            let held = async || route(&kernel, "10.244.2.0/24").is_some_and(|route| route.mtu == wanted);
            while !held().await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async {
        while kernel.played().probed.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(kernel.played().probed[0], [remote].into());
        mtu(None).await;
        // A router on the way has answered.
        kernel.played().path_mtus.insert(remote, 1400);
        mtu(Some(1350)).await;
        // And the path was made wider, long ago.
        kernel.played().path_mtus.clear();
        mtu(None).await;
    })
    .await
    .expect("the path is followed");
}

#[tokio::test]
async fn check_finds_what_somebody_took_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let result = running.add("web").await.expect("attached");
    let previous = json!({"prevResult": result});
    running
        .call(Command::Check, "web", previous.clone())
        .await
        .expect("as it was made");

    assert_eq!(
        running
            .call(Command::Check, "web", json!({}))
            .await
            .expect_err("no prevResult")
            .code,
        Code::InvalidConfig
    );
    let other = json!({"prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.9.9.9/32"}]}});
    assert_eq!(
        running
            .call(Command::Check, "web", other)
            .await
            .expect_err("another address")
            .code,
        Code::CheckFailed
    );
    assert_eq!(
        running
            .call(Command::Check, "who", previous.clone())
            .await
            .expect_err("unknown")
            .code,
        Code::UnknownContainer
    );

    // A plugin that came after us took the default route for its own, and said so.
    let mut later = previous.clone();
    later["prevResult"]["routes"] = json!([{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}]);
    running
        .call(Command::Check, "web", later)
        .await
        .expect("what is listed is there");

    kernel.lose_link(&AttachmentId::new("web", "eth0").host_link());
    let error = running
        .call(Command::Check, "web", previous)
        .await
        .expect_err("taken away");
    assert_eq!(error.code, Code::CheckFailed);
    assert!(error.details.contains("veth"), "{error}");
}

#[tokio::test]
async fn gc_detaches_what_the_runtime_does_not_know() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = ready(dir.path(), &Fake::default()).await;
    for container in ["one", "two", "three"] {
        running.add(container).await.expect("attached");
    }
    let error = running
        .call(Command::Gc, "x", json!({}))
        .await
        .expect_err("no list");
    assert_eq!(error.code, Code::InvalidConfig);
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "two", "ifname": "eth0"}, {"containerID": "who", "ifname": "eth0"}]});
    // Another network's list says nothing about these.
    let mut other = valid.clone();
    other["name"] = json!("other");
    running.call(Command::Gc, "x", other).await.expect("done");
    assert_eq!(running.names(), ["one", "three", "two"]);
    running.call(Command::Gc, "x", valid).await.expect("done");
    assert_eq!(running.names(), ["two"]);
}

#[tokio::test]
async fn a_port_of_the_node_is_one_pods_until_it_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let port = |number| json!({"runtimeConfig": {"portMappings": [{"hostPort": number, "containerPort": 80, "protocol": "tcp"}]}});
    let mappings = || {
        let played = kernel.played();
        let texts = played.objects.values().filter_map(|object| match object {
            plan::Object::Mapping(mapping) if mapping.map.starts_with("host_ports") => {
                Some(mapping.key.to_string())
            }
            _ => None,
        });
        texts.collect::<Vec<String>>()
    };
    running
        .call(Command::Add, "one", port(8080))
        .await
        .expect("attached");
    assert_eq!(mappings(), ["tcp . 8080"]);
    let error = running
        .call(Command::Add, "two", port(8080))
        .await
        .expect_err("taken");
    assert_eq!(error.code, Code::TryAgainLater);
    assert_eq!(
        error.msg,
        "host port 8080/tcp on this node is shop/one's: delete that pod, or give this one another hostPort"
    );
    assert_eq!(running.names(), ["one"]);

    // The same pod again with another port: the old one goes.
    running
        .call(Command::Add, "one", port(8081))
        .await
        .expect("attached");
    assert_eq!(mappings(), ["tcp . 8081"]);
    running
        .call(Command::Add, "two", port(8080))
        .await
        .expect("attached");

    // A pod that went without a word has no ports any more.
    kernel.lose_link(&AttachmentId::new("two", "eth0").host_link());
    running
        .call(Command::Add, "three", port(8080))
        .await
        .expect("attached");
    assert_eq!(running.names(), ["one", "three"]);
    running
        .call(Command::Del, "one", json!({}))
        .await
        .expect("detached");
    assert_eq!(mappings(), ["tcp . 8080"]);
}

#[tokio::test]
async fn what_is_wrong_with_a_runtime_config_refuses_the_pod_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = ready(dir.path(), &Fake::default()).await;
    let slow = json!({"runtimeConfig": {"bandwidth": {"ingressRate": 1}}});
    let error = running
        .call(Command::Add, "web", slow)
        .await
        .expect_err("too slow");
    assert_eq!(error.code, Code::InvalidConfig);
    assert!(running.names().is_empty());
}

#[tokio::test]
async fn a_full_node_says_so_and_looks_for_pods_that_went_without_a_word() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = start(dir.path(), &kernel).await;
    running.publish(cluster(&["10.244.1.0/30"])).await;
    running.add("one").await.expect("attached");
    running.add("two").await.expect("attached");
    let error = running.add("three").await.expect_err("full");
    assert_eq!(error.code, Code::TryAgainLater);
    assert_eq!(
        error.msg,
        "no free address in 10.244.1.0/30: 2 of 2 in use by shop/one, shop/two; \
         delete pods of this node, or give it another block (spec.podCIDRs)"
    );
    assert_eq!(
        running
            .call(Command::Status, "x", json!({}))
            .await
            .expect_err("full")
            .code,
        Code::NotAvailable
    );

    kernel.lose_link(&AttachmentId::new("one", "eth0").host_link());
    running.add("three").await.expect("attached");
    assert_eq!(running.names(), ["three", "two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_side_by_side_leave_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = Arc::new(ready(dir.path(), &kernel).await);
    let before = kernel.played().objects.clone();
    let tasks = (0..60).map(|number| {
        let running = running.clone();
        tokio::spawn(async move {
            let container = format!("c{}", number % 20);
            running.add(&container).await.expect("attached");
            running
                .call(Command::Del, &container, json!({}))
                .await
                .expect("detached");
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    assert_eq!(kernel.played().objects, before);
    assert!(running.names().is_empty());
}

/// Writes a request to a server over `running` as the plugin does; the stream is the caller's.
async fn request(dir: &Path, running: &Running, command: &str) -> tokio::net::UnixStream {
    let socket = dir.join("cni.sock");
    let server = Server::bind(&socket).expect("a socket");
    tokio::spawn(server.serve(running.network.clone(), CancellationToken::new()));
    let mut stream = tokio::net::UnixStream::connect(&socket).await.expect("connected");
    let request = json!({
        "protocol": 1,
        "call": {"command": command, "container_id": "web", "netns": "/run/netns/web", "interface": "eth0"},
        "config": {"cniVersion": "1.0.0", "name": "ripstop", "type": "ripstop-cni"},
    });
    stream
        .write_all(request.to_string().as_bytes())
        .await
        .expect("written");
    stream.shutdown().await.expect("half closed");
    stream
}

#[tokio::test]
async fn the_server_answers_and_closes() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = ready(dir.path(), &Fake::default()).await;
    let mut stream = request(dir.path(), &running, "ADD").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let answer: cni::wire::Response = serde_json::from_str(&answer).expect("a response");
    let result = Result::from(answer).expect("attached").expect("a result");
    assert_eq!(result["cniVersion"], "1.0.0");
    assert_eq!(running.names(), ["web"]);
}

#[tokio::test]
async fn an_add_that_nobody_waits_for_is_undone() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    kernel.played().gate = Some(gate.clone());
    let plugin = request(dir.path(), &running, "ADD").await;
    until(|| !running.names().is_empty()).await;
    drop(plugin);
    gate.add_permits(1);
    until(|| running.network.counters().counts().dels == 1).await;
    assert!(running.names().is_empty());
    assert!(kernel.links().is_empty());
}

/// Its DEL may have been served already: then none would follow.
#[tokio::test]
async fn an_add_whose_plugin_is_gone_is_not_begun() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let under_way = running
        .network
        .attachments
        .hold(&AttachmentId::new("web", "eth0"))
        .await;
    drop(request(dir.path(), &running, "ADD").await);
    drop(under_way);
    until(|| running.network.counters().counts().failures == 1).await;
    assert!(running.names().is_empty());
    assert_eq!(running.network.counters().counts().dels, 0);
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

#[tokio::test]
async fn a_second_server_takes_the_name_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("cni.sock");
    let first = Server::bind(&socket).expect("a socket");
    let _second = Server::bind(&socket).expect("a socket");
    drop(first);
    tokio::net::UnixStream::connect(&socket)
        .await
        .expect("the second listens");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
}
