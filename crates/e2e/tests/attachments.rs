//! Pods' attachments through containerd: host ports, limits, and nothing left of any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use e2e::{Cluster, Options, eventually, run};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn pod(name: &str, port: Value, annotations: Value) -> Value {
    let container = json!({"name": "web", "image": "localhost/ripstop/toolbox:1", "ports": [port]});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations, "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", "containers": [container], "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false},
    })
}

fn apply(cluster: &Cluster, object: &Value) {
    cluster
        .kubectl_with(&["create", "-f", "-"], &object.to_string())
        .ok();
}

fn one_node(name: &str) -> Cluster {
    let options = Options {
        nodes: 1,
        ip_family: Some("dual"),
    };
    Cluster::up(name, &options)
}

/// What a web server answers, from the machine.
fn ask(to: SocketAddr) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{to}: {error}");
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).map_err(failed)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .map_err(failed)?;
    write!(stream, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    Ok(answer)
}

fn in_node(cluster: &Cluster, command: &[&str]) -> String {
    let netns = format!("--net=/run/netns/ripstop-{}-node-1", cluster.name());
    run(Command::new("nsenter").arg(netns).args(command), None).ok()
}

/// The messages of a pod's events of that reason.
fn events(cluster: &Cluster, pod: &str, reason: &str) -> Vec<String> {
    let of_pod = format!("involvedObject.name={pod},reason={reason}");
    let list = cluster.get(&["events", "--field-selector", &of_pod]);
    let events = list["items"].as_array().expect("a list has items").iter();
    let messages = events.map(|event| event["message"].as_str().expect("text").to_owned());
    messages.collect()
}

#[test]
fn host_ports_and_limits_come_through_the_container_runtime() {
    let cluster = one_node("e2e-ports");
    let port = json!({"containerPort": 8080, "hostPort": 18080});
    let limits = json!({"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "5M"});
    apply(&cluster, &pod("web", port.clone(), limits));
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "pod/web"])
        .ok();
    let node = cluster.get(&["node", "node-1"]);
    let addresses = node["status"]["addresses"].as_array().expect("a list").iter();
    let internal = addresses.filter(|address| address["type"] == "InternalIP");
    let texts = internal.map(|address| address["address"].as_str().expect("text"));
    let ips: Vec<IpAddr> = texts.map(|text| text.parse().expect("an address")).collect();
    assert_eq!(ips.len(), 2);
    for ip in &ips {
        let answer = eventually(PATIENCE, || ask(SocketAddr::new(*ip, 18080)));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let queues = in_node(&cluster, &["tc", "qdisc", "show"]);
    assert!(
        queues.contains("tbf") && queues.contains("rate 10Mbit"),
        "{queues}"
    );

    // The same port again, past the scheduler.
    apply(&cluster, &pod("second", port, json!({})));
    eventually(PATIENCE, || {
        let status = cluster.get(&["pod", "second"])["status"].clone();
        match status["reason"] == "NodePorts" {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    });
    cluster
        .kubectl(&["delete", "pod", "web", "second", "--wait"])
        .ok();
    for ip in ips {
        eventually(PATIENCE, || match ask(SocketAddr::new(ip, 18080)) {
            Ok(answer) => Err(answer),
            Err(_) => Ok(()),
        });
    }
}

#[test]
fn a_rate_that_cannot_be_is_said_once_and_waits_for_its_correction() {
    let cluster = one_node("e2e-rates");
    let wrong = json!({"kubernetes.io/ingress-bandwidth": "10"});
    apply(&cluster, &pod("web", json!({"containerPort": 8080}), wrong));
    let said = || events(&cluster, "web", "FailedCreatePodSandBox");
    eventually(PATIENCE, || match said().as_slice() {
        [message] if message.contains("kubernetes.io/ingress-bandwidth") => Ok(()),
        messages => Err(format!("{messages:?}")),
    });
    let right = "kubernetes.io/ingress-bandwidth=10M";
    cluster
        .kubectl(&["annotate", "--overwrite", "pod", "web", right])
        .ok();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "pod/web"])
        .ok();
    assert_eq!(said().len(), 1);
}

/// How much of ours a node holds.
fn held(cluster: &Cluster) -> BTreeMap<&'static str, usize> {
    let lines = |command: &[&str], with: &str| {
        let text = in_node(cluster, command);
        text.lines().filter(|line| line.contains(with)).count()
    };
    let ruleset = in_node(cluster, &["nft", "-j", "list", "table", "inet", "ripstop"]);
    let ruleset: Value = serde_json::from_str(&ruleset).expect("nft prints JSON");
    let elements = |object: &Value| {
        let sets = ["set", "map"].iter();
        let sets = sets.filter_map(|kind| object[kind]["elem"].as_array());
        sets.map(Vec::len).sum::<usize>()
    };
    let objects = ruleset["nftables"].as_array().expect("a list").iter();
    BTreeMap::from([
        ("links", lines(&["ip", "link"], "rip-")),
        ("queues", lines(&["tc", "qdisc", "show"], "tbf")),
        ("IPv4 routes", lines(&["ip", "route"], "rip-")),
        ("IPv6 routes", lines(&["ip", "-6", "route"], "rip-")),
        ("neighbours", lines(&["ip", "neigh"], "rip-")),
        ("elements", objects.map(elements).sum()),
        ("attachments", attachments(cluster)),
    ])
}

/// How many attachments are in the journal.
fn attachments(cluster: &Cluster) -> usize {
    let journal = cluster.data_dir().join("nodes/node-1/cni/attachments.journal");
    let journal = fs::read_to_string(journal).expect("a journal");
    let mut attachments = BTreeSet::new();
    // What isn't a whole line is being written.
    for line in journal.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let record = line.split_once(' ').map(|(_, json)| serde_json::from_str(json));
        let record: Value = record.expect("a record").expect("JSON");
        match record["op"].as_str() {
            Some("assign") => drop(attachments.insert(record["id"].to_string())),
            Some("release") => drop(attachments.remove(&record["id"].to_string())),
            _ => {}
        }
    }
    attachments.len()
}

/// The network namespaces that containerd keeps for pods.
fn namespaces(cluster: &Cluster) -> usize {
    let state = PathBuf::from("/run/ripstop").join(cluster.name());
    let netns = state.join("nodes/node-1/containerd/io.containerd.grpc.v1.cri/netns");
    fs::read_dir(netns).map_or(0, Iterator::count)
}

/// Kills, now and then, a plugin that the node's containerd has started, until dropped.
struct PluginKiller {
    containerd: Arc<AtomicI32>,
    killed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl PluginKiller {
    fn start(containerd: i32) -> PluginKiller {
        let containerd = Arc::new(AtomicI32::new(containerd));
        let (killed, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (parent, count, stopped) = (containerd.clone(), killed.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                for plugin in plugins(parent.load(Ordering::Relaxed)) {
                    // Of those that are seen at all every tenth; most live for some milliseconds only.
                    if seen.insert(plugin) && seen.len() % 10 == 0 && kill(plugin) {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        PluginKiller {
            containerd,
            killed,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for PluginKiller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// The plugins that a containerd waits for at the moment.
fn plugins(containerd: i32) -> Vec<i32> {
    let children = |task: fs::DirEntry| fs::read_to_string(task.path().join("children"));
    let tasks = fs::read_dir(format!("/proc/{containerd}/task"));
    let lists = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| children(task).ok());
    let lists: Vec<String> = lists.collect();
    let pids = lists.iter().flat_map(|list| list.split_whitespace());
    let pids = pids.filter_map(|pid| pid.parse().ok());
    let is_plugin = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "ripstop-cni")
    };
    pids.filter(is_plugin).collect()
}

fn kill(pid: i32) -> bool {
    let outcome = run(Command::new("kill").args(["-9", &pid.to_string()]), None);
    outcome.code == Some(0)
}

/// Kills one of the cluster's processes; returns the one in its place.
fn replace(cluster: &Cluster, process: &str) -> i32 {
    let old = cluster.pid(process);
    assert!(kill(old), "{process}");
    eventually(PATIENCE, || match cluster.pid(process) {
        pid if pid == old => Err(format!("{process} is still {pid}")),
        pid => Ok(pid),
    })
}

/// The pods of a round: each fifth with a port of the node, each seventh held to rates, each twenty-fifth
/// with rates that can't be.
fn crowd(round: usize, count: usize) -> Value {
    let pods = (0..count).map(|number| {
        let mut port = json!({"containerPort": 8080});
        if number % 5 == 0 {
            port["hostPort"] = (20_000 + number).into();
        }
        let mut annotations = json!({});
        if number % 7 == 0 {
            annotations =
                json!({"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "5M"});
        }
        if is_bad(number) {
            annotations = json!({"kubernetes.io/egress-bandwidth": "fast"});
        }
        pod(&format!("web-{round}-{number}"), port, annotations)
    });
    json!({"apiVersion": "v1", "kind": "List", "items": pods.collect::<Vec<_>>()})
}

fn is_bad(number: usize) -> bool {
    number % 25 == 24
}

/// Waits until so many pods run, each with addresses of its own.
fn wait_running(cluster: &Cluster, wanted: usize) {
    eventually(Duration::from_secs(180), || {
        let list = cluster.get(&["pods", "-l", "app=web"]);
        let pods = list["items"].as_array().expect("a list has items");
        let running: Vec<&Value> = pods
            .iter()
            .filter(|pod| pod["status"]["phase"] == "Running")
            .collect();
        let ips = running
            .iter()
            .filter_map(|pod| pod["status"]["podIPs"].as_array());
        let ips: Vec<&Value> = ips.flatten().collect();
        let distinct: BTreeSet<String> = ips.iter().map(ToString::to_string).collect();
        assert_eq!(distinct.len(), ips.len(), "an address is two pods'");
        match running.len() >= wanted && ips.len() >= 2 * wanted {
            true => Ok(()),
            false => Err(format!("{} of {wanted} run", running.len())),
        }
    });
}

#[test]
fn nothing_is_left_of_three_hundred_pods_whatever_was_killed_meanwhile() {
    const ROUNDS: usize = 3;
    const PODS: usize = 100;
    let cluster = one_node("e2e-pods");
    apply(&cluster, &pod("first", json!({"containerPort": 8080}), json!({})));
    wait_running(&cluster, 1);
    let before = (held(&cluster), namespaces(&cluster));
    let plugins = PluginKiller::start(cluster.pid("containerd node-1"));
    let replace_containerd = || {
        let pid = replace(&cluster, "containerd node-1");
        plugins.containerd.store(pid, Ordering::Relaxed);
    };
    let good = (0..PODS).filter(|number| !is_bad(*number)).count();
    for round in 0..ROUNDS {
        apply(&cluster, &crowd(round, PODS));
        wait_running(&cluster, 1 + good / 4);
        replace_containerd();
        wait_running(&cluster, 1 + good / 2);
        replace(&cluster, "agent node-1");
        wait_running(&cluster, 1 + good);
        let bad = format!("web-{round}-24");
        eventually(PATIENCE, || {
            let said = events(&cluster, &bad, "FailedCreatePodSandBox");
            match !said.is_empty() && said.iter().all(|said| said.contains("egress-bandwidth")) {
                true => Ok(()),
                false => Err(format!("{said:?}")),
            }
        });
        let others = "metadata.name!=first";
        let delete = ["delete", "pods", "-l", "app=web", "--wait=false"];
        cluster
            .kubectl(&[&delete[..], &["--field-selector", others]].concat())
            .ok();
        // While they go, and the next ones want their ports.
        match round % 2 {
            0 => drop(replace(&cluster, "agent node-1")),
            _ => replace_containerd(),
        }
    }
    let killed = plugins.killed.load(Ordering::Relaxed);
    eventually(Duration::from_secs(180), || {
        let now = (held(&cluster), namespaces(&cluster));
        match now == before {
            true => Ok(()),
            false => Err(format!("{now:?}, and before {before:?}")),
        }
    });
    assert!(killed > 0, "no plugin was killed");
}
