//! Pods that start under a default deny while others, one of them isolated itself, hammer every address that
//! they may get: not one packet reaches any of them, whatever happens to the agent meanwhile.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::run::Cluster;
use crate::support::{Agent, TestNode, address};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testkit::{TestNs, eventually_async};

const BLOCK: &str = "10.244.0.0/20";
/// Where pods listen.
const PORT: u16 = 9;
/// An agent goes after so many pods, and another comes.
const A_LIFE: usize = 40;
const PATIENCE: Duration = Duration::from_secs(30);

/// How many pods start: `RIPSTOP_FIRST_PACKETS`, or some.
fn pods() -> usize {
    let asked = std::env::var("RIPSTOP_FIRST_PACKETS").ok();
    asked.map_or(100, |text| {
        text.parse().expect("RIPSTOP_FIRST_PACKETS is a number")
    })
}

async fn create<K>(api: Api<K>, object: Value) -> K
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let object = serde_json::from_value(object).expect("an object");
    api.create(&PostParams::default(), &object)
        .await
        .expect("created")
}

/// Sends datagrams to the first addresses of the block, one after the other, until it's dropped.
struct Hammer {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Hammer {
    fn begin(from: &TestNs, count: usize) -> Hammer {
        let socket = from.within(|| UdpSocket::bind(("0.0.0.0", 0)).expect("a socket"));
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (stop.clone(), rounds.clone());
        let block: IpNet = BLOCK.parse().expect("a block");
        let targets: Vec<IpAddr> = block.hosts().take(count).collect();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for target in &targets {
                    // To an address that nobody has yet there is no way.
                    let _ = socket.send_to(b"knock", (*target, PORT));
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Hammer {
            stop,
            rounds,
            thread: Some(thread),
        }
    }

    /// Waits until every address has had another one.
    async fn go_round(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        eventually_async(PATIENCE, async || {
            self.rounds.load(Ordering::Relaxed) > before + 1
        })
        .await;
    }
}

impl Drop for Hammer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it doesn't panic");
        }
    }
}

/// A pod that listens before it has a network.
struct Listener {
    netns: TestNs,
    socket: UdpSocket,
}

impl Listener {
    async fn new() -> Listener {
        let netns = TestNs::new("pod").await;
        let socket = netns.within(|| UdpSocket::bind(("0.0.0.0", PORT)).expect("a socket"));
        socket.set_nonblocking(true).expect("it can be asked");
        Listener { netns, socket }
    }

    fn heard(&self) -> bool {
        self.who().is_some()
    }

    /// Who is heard next, if anybody.
    fn who(&self) -> Option<IpAddr> {
        let heard = self.socket.recv_from(&mut [0; 16]).ok();
        heard.map(|(_, from)| from.ip())
    }
}

async fn pod(cluster: &Cluster, namespace: &str, name: &str) -> Pod {
    let object = json!({"metadata": {"name": name}, "spec": {"nodeName": "a", "containers": [{"name": "a", "image": "a"}]}});
    create(Api::namespaced(cluster.client(), namespace), object).await
}

async fn attach(node: &TestNode, pod: &Pod, listener: &Listener) -> IpAddr {
    let (namespace, name) = (pod.namespace().expect("it has one"), pod.name_any());
    let container = format!("{namespace}-{name}");
    let add = node.call("ADD", &container, &listener.netns.path());
    let add = add.of_pod(&namespace, &name, &pod.uid().expect("it has one"));
    // Code 11: an agent that has just begun knows nothing yet, and the runtime tries again.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match add.clone().run().await {
            Err(refusal) if refusal["code"] == 11 && Instant::now() < deadline => {}
            result => return address(&result.expect("attached")),
        }
    }
}

async fn isolate(cluster: &Cluster, namespace: &str, spec: Value) {
    let object = json!({"metadata": {"name": "policy"}, "spec": spec});
    create::<NetworkPolicy>(Api::namespaced(cluster.client(), namespace), object).await;
}

/// Waits until a pod that nothing isolates has heard so many others.
async fn hears_everybody(pod: &Listener, others: usize) {
    let heard = RefCell::new(BTreeSet::new());
    eventually_async(PATIENCE, async || {
        heard.borrow_mut().extend(pod.who());
        heard.borrow().len() == others
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_one_packet_reaches_a_pod_before_its_policies_do() {
    let count = pods();
    let node = TestNode::new(&[BLOCK]).await;
    let cluster = Cluster::new();
    for namespace in ["open", "bound", "closed"] {
        create::<Namespace>(
            Api::all(cluster.client()),
            json!({"metadata": {"name": namespace}}),
        )
        .await;
    }
    let mut agent = Agent::with_api(&node.spec, cluster.client()).await;
    agent.until(Result::is_ok).await.expect("ready");

    // What an isolated pod sends is asked for twice, on its way out and on the way in.
    let everything = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{}]});
    isolate(&cluster, "bound", everything).await;
    let hammered = Listener::new().await;
    let mut hammers = Vec::new();
    for namespace in ["open", "bound"] {
        let hammering = Listener::new().await;
        attach(&node, &pod(&cluster, namespace, "hammer").await, &hammering).await;
        hammers.push((Hammer::begin(&hammering.netns, count + 10), hammering));
    }
    attach(&node, &pod(&cluster, "open", "control").await, &hammered).await;
    hears_everybody(&hammered, hammers.len()).await;

    // The policy is there before the first of them; nobody waits for the agent to hear of it.
    let nothing = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    isolate(&cluster, "closed", nothing).await;
    let mut listeners = Vec::new();
    for number in 0..count {
        let (listener, pod) = (
            Listener::new().await,
            pod(&cluster, "closed", &format!("p{number}")).await,
        );
        let own = attach(&node, &pod, &listener).await;
        assert!(!listener.heard(), "{own}, the pod number {number}, was reached");
        listeners.push(listener);
        if (number + 1) % A_LIFE == 0 {
            // As if it were killed: nothing of it goes on.
            drop(agent);
            agent = Agent::with_api(&node.spec, cluster.client()).await;
        }
    }
    for (hammer, _) in &hammers {
        hammer.go_round().await;
    }
    let reached = listeners.iter().filter(|listener| listener.heard()).count();
    assert_eq!(reached, 0, "of {count} pods");
    while hammered.heard() {}
    hears_everybody(&hammered, hammers.len()).await;
    drop(hammers);
    agent.stop().await;
}
