//! Pods that a Deployment starts under a default deny while pods of both nodes, isolated themselves, hammer
//! every address that they may get: not one packet reaches any of them. What is dropped meanwhile is a flood,
//! which costs the agents no more than they are to spend.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use e2e::{Cluster, eventually};
use ipnet::IpNet;
use kernel::NetNs;
use serde_json::{Value, json};

use crate::ask::{WAIT, World};
use crate::server::Server;
use crate::{ONE, TWO};

/// Where they knock. Nobody listens: whatever gets into a pod's namespace counts.
const PORT: u16 = 9;
/// How many pods are there at once, as far as nodes take them.
const AT_ONCE: usize = 100;
/// How many addresses of a block are knocked at: those that are given first.
const BLOCK: usize = 400;
/// How much larger than before an agent may become, in KiB: what it keeps of conversations and of pods is less.
const ROOM: u64 = 40 * 1024;

/// How many pods start: `RIPSTOP_FIRST_PACKETS`, or some.
fn count() -> usize {
    let asked = std::env::var("RIPSTOP_FIRST_PACKETS").ok();
    asked.map_or(60, |text| {
        text.parse().expect("RIPSTOP_FIRST_PACKETS is a number")
    })
}

/// Nothing comes to those that start, and those that hammer are isolated, too: in what comes, and by a rule
/// that allows everything in what they send.
const POLICIES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: first}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nothing, namespace: first}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
---
apiVersion: v1
kind: Namespace
metadata: {name: hammer}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: everything, namespace: hammer}
spec: {podSelector: {}, policyTypes: [Ingress, Egress], egress: [{}]}
";

pub(crate) fn nothing_reaches_a_pod_before_its_policies_do(world: &World) {
    let cluster = &world.cluster;
    world.apply(POLICIES);
    let hammers = [
        Server::new("one", ONE, "app: hammer"),
        Server::new("two", TWO, "app: hammer"),
    ];
    world.pods("hammer", &hammers);
    let controls = [
        Server::new("one", ONE, "app: control"),
        Server::new("two", TWO, "app: control"),
    ];
    world.pods("control", &controls);
    let targets = addresses(cluster);
    let sizes = || [ONE, TWO].map(|node| size(cluster.pid(&format!("agent {node}"))));
    let before = sizes();
    let pods = processes(cluster, "hammer");
    assert_eq!(pods.len(), 2);
    let hammers: Vec<Hammer> = pods.values().map(|pid| Hammer::begin(*pid, &targets)).collect();
    let go_round = || hammers.iter().for_each(Hammer::go_round);
    go_round();
    assert!(received(cluster, "control").values().all(|count| *count > 0));

    let (mut left, mut started) = (count(), 0);
    while left > 0 {
        let round = left.min(AT_ONCE);
        start(world, round);
        go_round();
        let received = received(cluster, "first");
        assert_eq!(received.len(), round, "all run");
        let reached: Vec<_> = received.iter().filter(|(_, count)| **count > 0).collect();
        assert!(
            reached.is_empty(),
            "after {started} others these heard something: {reached:?}"
        );
        flood_is_told(cluster);
        (left, started) = (left - round, started + round);
        let delete = [
            "-n",
            "first",
            "delete",
            "deployment",
            "first",
            "--cascade=foreground",
        ];
        cluster.kubectl(&delete).ok();
    }
    let knocks: usize = hammers.iter().map(Hammer::rounds).sum::<usize>() * targets.len();
    eprintln!("{started} pods, none of which heard any of {knocks} datagrams");
    let control = received(cluster, "control");
    go_round();
    let again = self::received(cluster, "control");
    assert!(
        control.iter().all(|(uid, count)| again[uid] > *count),
        "they went on to the end"
    );
    let after = sizes();
    eprintln!("agents' KiB: {before:?}, after the flood {after:?}");
    assert!(
        before
            .iter()
            .zip(after)
            .all(|(before, after)| after < before + ROOM),
        "{before:?}, {after:?}"
    );
}

/// The last drops are kept and named, and the many that weren't told are counted.
fn flood_is_told(cluster: &Cluster) {
    let words = "flows --dropped --namespace first --last 5 -o json";
    let words: Vec<&str> = words.split(' ').collect();
    let run_dir = Path::new("/run/ripstop").join(cluster.name());
    let socket = run_dir.join("nodes").join(ONE).join("flows.sock");
    let socket = ["--socket", socket.to_str().expect("text")];
    for told in [
        cluster.ripstop(&words),
        cluster.on_node(&[&words[..], &socket].concat()),
    ] {
        let told = told.ok();
        assert!(!told.is_empty());
        for line in told.lines() {
            let flow: Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(flow["policies"][0]["policy"], "first/nothing", "{flow}");
        }
    }
    for node in [ONE, TWO] {
        let path = format!("/api/v1/nodes/{node}/proxy/metrics");
        let metrics = cluster.kubectl(&["get", "--raw", &path]).ok();
        let count = |name: &str| {
            let line = metrics.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            value.unwrap_or_else(|| panic!("no {name} in {metrics}"))
        };
        let dropped = count("ripstop_policy_dropped_packets_total{policies=\"first/nothing\"");
        let lost = count("ripstop_flow_events_lost_total ");
        assert!(
            dropped > 0 && lost > 0,
            "{node}: {dropped} dropped, {lost} not told"
        );
    }
}

/// Starts that many pods by a Deployment, and waits until they run.
fn start(world: &World, count: usize) {
    let container =
        json!({"name": "a", "image": "localhost/ripstop/toolbox:1", "command": ["sleep", "86400"]});
    let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false});
    let template = json!({"metadata": {"labels": {"app": "first"}}, "spec": spec});
    let spec =
        json!({"replicas": count, "selector": {"matchLabels": {"app": "first"}}, "template": template});
    let metadata = json!({"name": "first", "namespace": "first"});
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
    world.apply(&object.to_string());
    let wait = ["rollout", "status", "--timeout=180s", "deployment/first"];
    world
        .cluster
        .kubectl(&[&["-n", "first"], &wait[..]].concat())
        .ok();
}

/// The addresses of both nodes' pods, those that are and those that may be.
fn addresses(cluster: &Cluster) -> Vec<IpAddr> {
    let nodes = cluster.get(&["nodes"]);
    let nodes = nodes["items"].as_array().expect("a list has items").iter();
    let blocks = nodes.flat_map(|node| node["spec"]["podCIDRs"].as_array().expect("blocks"));
    let blocks = blocks.map(|block| block.as_str().expect("text").parse::<IpNet>().expect("a block"));
    blocks.flat_map(|block| block.hosts().take(BLOCK)).collect()
}

/// A process of each pod of a namespace that runs, by the pod's uid.
fn processes(cluster: &Cluster, namespace: &str) -> BTreeMap<String, i32> {
    let list = cluster.get(&["-n", namespace, "pods"]);
    let pods = list["items"].as_array().expect("a list has items").iter();
    let uids: Vec<&str> = pods.filter_map(|pod| pod["metadata"]["uid"].as_str()).collect();
    let ours = format!("/ripstop/{}/", cluster.name());
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let (Some(pid), true) = (pid, cgroup.contains(&ours)) else {
            continue;
        };
        if let Some(uid) = uids.iter().find(|uid| cgroup.contains(**uid)) {
            found.insert((*uid).to_owned(), pid);
        }
    }
    found
}

/// How many packets have come into each pod's namespace since it's there.
fn received(cluster: &Cluster, namespace: &str) -> BTreeMap<String, u64> {
    let pods = processes(cluster, namespace).into_iter();
    pods.map(|(uid, pid)| (uid, heard(pid))).collect()
}

/// All of IPv4, and datagrams of IPv6: there neighbours talk among themselves.
fn heard(pid: i32) -> u64 {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).expect("a pod that runs");
    let (four, six) = (read("snmp"), read("snmp6"));
    let mut lines = four.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut columns = names.split(' ').zip(values.split(' '));
    let (_, four) = columns
        .find(|(name, _)| *name == "InReceives")
        .expect("a counter");
    let six = six
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace));
    let six = six.filter(|(name, _)| ["Udp6InDatagrams", "Udp6NoPorts", "Udp6InErrors"].contains(name));
    let all = six.map(|(_, value)| value).chain([four]);
    all.map(|value| value.trim().parse::<u64>().expect("a number"))
        .sum()
}

/// A process's resident memory, in KiB.
fn size(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    line.trim_end_matches("kB").trim().parse().expect("a number")
}

/// Sends a datagram to every address from a pod, over and over, until it's dropped.
struct Hammer {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Hammer {
    fn begin(pid: i32, targets: &[IpAddr]) -> Hammer {
        let netns = NetNs::open(format!("/proc/{pid}/ns/net")).expect("the pod's namespace");
        let bind = || ["0.0.0.0:0", "[::]:0"].map(|any| UdpSocket::bind(any).expect("a socket"));
        let [four, six] = netns.run(bind).expect("it can be entered");
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopped, counted) = (stop.clone(), rounds.clone());
        let targets = targets.to_vec();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for target in &targets {
                    let socket = if target.is_ipv4() { &four } else { &six };
                    // To an address that nobody has yet there is no way.
                    let _ = socket.send_to(b"knock", SocketAddr::new(*target, PORT));
                }
                counted.fetch_add(1, Ordering::Relaxed);
                // The processors are for those that start, too.
                thread::sleep(Duration::from_millis(2));
            }
        });
        Hammer {
            stop,
            rounds,
            thread: Some(thread),
        }
    }

    fn rounds(&self) -> usize {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Waits until every address has had another one.
    fn go_round(&self) {
        let before = self.rounds();
        eventually(WAIT, || match self.rounds() {
            now if now > before + 1 => Ok(()),
            now => Err(format!("{now} rounds, {before} before")),
        });
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
