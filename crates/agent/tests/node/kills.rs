//! Ten thousand calls while agents and plugins are killed at moments that nobody chose: no address is
//! given twice, and nothing is left of any of it.
//!
//! The moments are told by what has been done, not by a clock: on a busy machine an agent would be
//! killed again and again before it has answered anything.

use std::collections::BTreeSet;
use std::env;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{Agent, Call, Spec, TestNode};
use ipnet::IpNet;
use serde_json::{Value, json};
use testkit::{TestNs, eventually_async};

const WORKERS: usize = 4;
/// 4 × 1,250 × (ADD and DEL) = 10,000.
const ROUNDS: usize = 1250;
/// Of so many ADDs one loses its plugin half way.
const PLUGINS_KILLED: usize = 5;
/// Of so many pods one has a port of the node.
const PORTS: usize = 3;
/// How many calls an agent answers before it's killed, at most.
const ANSWERS: usize = 300;
/// Two blocks of IPv4, the first of which is too small for the rounds without reuse.
const BLOCKS: &[&str] = &["10.244.1.0/24", "10.244.9.0/24", "fd00:10:244:1::/64"];
const PATIENCE: Duration = Duration::from_secs(60);

/// The agent of the test below, in a process of its own so that it can be killed.
#[test]
#[ignore = "not a test: the process that ten_thousand_calls_survive_kills starts and kills"]
fn agent_process() {
    let spec = env::var("RIPSTOP_TEST_AGENT").expect("started by the test");
    let spec: Spec = serde_json::from_str(&spec).expect("a spec");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let _agent = Agent::begin(&spec).await;
        // Until killed, or until the test has ended: then its end of stdin is closed.
        let mut nothing = Vec::new();
        let stdin = &mut tokio::io::stdin();
        tokio::io::AsyncReadExt::read_to_end(stdin, &mut nothing)
            .await
            .expect("stdin is a pipe");
    });
}

fn start_agent_process(spec: &Spec) -> Child {
    Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "kills::agent_process", "--ignored", "--nocapture"])
        .env("RIPSTOP_TEST_AGENT", serde_json::to_string(spec).expect("JSON"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("the agent starts")
}

/// What the workers have done so far.
#[derive(Debug, Default)]
struct Progress {
    answered: AtomicUsize,
    plugins_killed: AtomicUsize,
    done: AtomicBool,
}

impl Progress {
    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many calls more are answered, or all are; a hang is the test runner's to end.
    async fn wait(&self, more: usize) {
        let until = self.answered() + more;
        while self.answered() < until && !self.done.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Numbers without a pattern, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

/// Kills the agent again and again until all is done: mostly while it serves, now and then while it
/// starts, which takes as long as it took the time before.
async fn kill_agents(spec: Spec, progress: Arc<Progress>) -> usize {
    let (mut kills, mut numbers, mut start) = (0, Numbers(7), Duration::ZERO);
    let mut agent = start_agent_process(&spec);
    while !progress.done.load(Ordering::Relaxed) {
        let started = Instant::now();
        if kills % 4 == 3 {
            let part = u32::try_from(numbers.below(16)).expect("less than 16");
            tokio::time::sleep(start * part / 16).await;
        } else {
            progress.wait(1).await;
            start = started.elapsed();
            progress.wait(numbers.below(ANSWERS)).await;
            let moment = u64::try_from(numbers.below(5000)).expect("a small number");
            tokio::time::sleep(Duration::from_micros(moment)).await;
        }
        agent.kill().expect("killed");
        agent.wait().expect("reaped");
        kills += 1;
        agent = start_agent_process(&spec);
    }
    // Its end of stdin is closed.
    agent.stdin.take();
    agent.wait().expect("reaped");
    kills
}

/// The addresses that pods have at the moment, by what their ADDs said.
#[derive(Debug, Default)]
struct InUse(Mutex<BTreeSet<IpAddr>>);

impl InUse {
    fn take(&self, result: &Value, container: &str) -> Vec<IpAddr> {
        let ips = result["ips"].as_array().expect("a list").iter();
        let texts = ips.map(|ip| ip["address"].as_str().expect("text"));
        let addresses: Vec<IpAddr> = texts
            .map(|text| text.parse::<IpNet>().expect("a prefix").addr())
            .collect();
        assert_eq!(addresses.len(), 2, "one a family: {result}");
        let mut in_use = self.0.lock().expect("no test panics with it");
        for address in &addresses {
            let is_free = in_use.insert(*address);
            assert!(is_free, "{address} was given twice, to {container} too");
        }
        addresses
    }

    fn give_back(&self, addresses: &[IpAddr]) {
        let mut in_use = self.0.lock().expect("no test panics with it");
        in_use.retain(|address| !addresses.contains(address));
    }
}

/// A call, again for as long as it is told to try later, as runtimes do: a pod that is being undone may
/// still have the port.
async fn retried(call: Call, progress: &Progress) -> Value {
    loop {
        match call.clone().run().await {
            Ok(result) => {
                progress.answered.fetch_add(1, Ordering::Relaxed);
                return result;
            }
            Err(error) if error["code"] == 11 => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{} {}: {error}", call.command, call.container),
        }
    }
}

/// Kills the plugin of an ADD: from before it has connected to after it has its answer.
async fn cut_short(add: Call, after: Duration) {
    let cut = move || {
        let mut child = add.spawn();
        std::thread::sleep(after);
        child.kill().expect("killed, or ended already");
        child.wait().expect("reaped");
    };
    tokio::task::spawn_blocking(cut).await.expect("no panic");
}

/// One worker's pods, one after the other in one namespace.
async fn work(node: Arc<TestNode>, worker: usize, in_use: Arc<InUse>, progress: Arc<Progress>) {
    let pod = TestNs::new("pod").await;
    let path = pod.path();
    let mut numbers = Numbers(worker as u64);
    for round in 0..ROUNDS {
        let container = format!("w{worker}r{round}");
        let mut add = node.call("ADD", &container, &path);
        if round % PORTS == 0 {
            let port = json!({"hostPort": 30_000 + worker, "containerPort": 80, "protocol": "tcp"});
            add = add.with("runtimeConfig", json!({"portMappings": [port]}));
        }
        let mut addresses = Vec::new();
        if round % PLUGINS_KILLED == worker {
            progress.plugins_killed.fetch_add(1, Ordering::Relaxed);
            let after = u64::try_from(numbers.below(12_000)).expect("a small number");
            cut_short(add, Duration::from_micros(after)).await;
        } else {
            let result = retried(add, &progress).await;
            addresses = in_use.take(&result, &container);
        }
        // Others may have an address from the moment that DEL has released it.
        in_use.give_back(&addresses);
        retried(node.call("DEL", &container, &path), &progress).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_calls_survive_kills() {
    crate::support::plugin();
    let node = Arc::new(TestNode::new(BLOCKS).await);
    Agent::start(&node.spec).await.stop().await;
    let before = (node.kernel_state().await, node.elements());
    let (in_use, progress) = (Arc::new(InUse::default()), Arc::new(Progress::default()));
    let killer = tokio::spawn(kill_agents(node.spec.clone(), progress.clone()));
    let begin = Instant::now();
    let workers =
        (0..WORKERS).map(|worker| tokio::spawn(work(node.clone(), worker, in_use.clone(), progress.clone())));
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("every call succeeds");
    }
    progress.done.store(true, Ordering::Relaxed);
    let kills = killer.await.expect("no panic");
    let plugins = progress.plugins_killed.load(Ordering::Relaxed);
    println!(
        "{kills} agents and {plugins} plugins were killed in {:?}",
        begin.elapsed()
    );
    assert!(
        kills > 30 && plugins == WORKERS * ROUNDS / PLUGINS_KILLED,
        "{kills} {plugins}"
    );

    let agent = Agent::start(&node.spec).await;
    // An ADD whose plugin was killed may have come after its DEL: the agent undoes it by itself.
    let none = async || agent.network.attachments().is_empty();
    eventually_async(PATIENCE, none).await;
    assert_eq!((node.kernel_state().await, node.elements()), before);
    let journal = std::fs::read_to_string(node.spec.dir.join("attachments.journal")).expect("a journal");
    assert!(!journal.contains("\"assign\""), "{journal}");
    agent.stop().await;
}
