//! Nothing is left of pods that went, whatever was killed while they came, ran and went.
//!
//! Each round starts a crowd of pods, some of whose containers end and are started again, and kills what
//! works for them: the plugin, containerd, the agent, a container's process, a shim. `RIPSTOP_STARTS` says
//! how many containers are to be started in all.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::{Cluster, eventually};
use serde_json::{Value, json};

use crate::held::{held, servers, shims};
use crate::kills::{PluginKiller, kill, replace};
use crate::{PATIENCE, apply, events, one_node, pod};

/// A round's pods, and how long it may take whatever else the machine does.
const PODS: usize = 15;
const ROUND: Duration = Duration::from_secs(180);
/// Containers of a pod that end at once, and are started again at once for the first time.
const SHORT: usize = 2;
/// What there is to start unless somebody asks for more.
const STARTS: usize = 200;

/// The pods of a round: each fifth with a port of the node, each seventh held to rates, the last one with
/// rates that can't be.
fn crowd(round: usize) -> Value {
    let pods = (0..PODS).map(|number| {
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
        let mut pod = pod(&format!("web-{round}-{number}"), port, annotations);
        pod["spec"]["volumes"] = json!([{"name": "memory", "emptyDir": {"medium": "Memory"}}]);
        let mounts = json!([{"name": "memory", "mountPath": "/memory"}]);
        let containers = pod["spec"]["containers"].as_array_mut().expect("a list");
        containers.extend((0..SHORT).map(|number| {
            json!({"name": format!("short-{number}"), "image": "localhost/ripstop/toolbox:1",
                "command": ["true"], "volumeMounts": mounts})
        }));
        pod
    });
    json!({"apiVersion": "v1", "kind": "List", "items": pods.collect::<Vec<_>>()})
}

fn is_bad(number: usize) -> bool {
    number == PODS - 1
}

/// Waits until so many pods run, each with addresses of its own; says how often their containers were
/// started.
fn wait_running(cluster: &Cluster, wanted: usize) -> usize {
    let in_full = |pod: &&Value| {
        let statuses = pod["status"]["containerStatuses"].as_array();
        let of = |name: &str| statuses?.iter().find(|s| s["name"] == name);
        let runs = of("web").is_some_and(|s| s["state"]["running"].is_object());
        let shorts = (0..SHORT).map(|number| of(&format!("short-{number}")));
        runs && shorts.flatten().all(|s| s["restartCount"].as_u64() > Some(0))
    };
    eventually(ROUND, || {
        let list = cluster.get(&["pods", "-l", "app=web"]);
        let pods = list["items"].as_array().expect("a list has items");
        let running: Vec<&Value> = pods.iter().filter(in_full).collect();
        let ips = running
            .iter()
            .filter_map(|pod| pod["status"]["podIPs"].as_array());
        let ips: Vec<&Value> = ips.flatten().collect();
        let distinct: BTreeSet<String> = ips.iter().map(ToString::to_string).collect();
        assert_eq!(distinct.len(), ips.len(), "an address is two pods'");
        let statuses = running
            .iter()
            .filter_map(|pod| pod["status"]["containerStatuses"].as_array());
        let counts = statuses.flatten().filter_map(|s| s["restartCount"].as_u64());
        let starts: u64 = counts.map(|restarts| restarts + 1).sum();
        match running.len() >= wanted && ips.len() >= 2 * wanted {
            true => Ok(usize::try_from(starts).expect("a count")),
            false => Err(format!("{} of {wanted} run", running.len())),
        }
    })
}

/// Kills the process of one container, which comes again, and the shim of any pod but the first one's.
fn kill_beneath(cluster: &Cluster, round: usize, spared: u32) {
    let victim = format!("web-{round}-1");
    let pod = cluster.get(&["pod", &victim]);
    let restarts = |pod: &Value| {
        let statuses = pod["status"]["containerStatuses"].as_array();
        let web = statuses.and_then(|list| list.iter().find(|s| s["name"] == "web"));
        web.and_then(|s| s["restartCount"].as_u64()).unwrap_or(0)
    };
    let before = restarts(&pod);
    let process = servers(cluster, pod["metadata"]["uid"].as_str().expect("text"));
    let kill = |pid: u32| kill(i32::try_from(pid).expect("a process id"));
    for pid in process {
        assert!(kill(pid), "{pid} was gone");
    }
    // One that is about to end by itself doesn't count.
    let mut others = shims(cluster).into_iter().filter(|pid| *pid != spared);
    assert!(others.any(kill), "no shim was killed");
    eventually(PATIENCE, || match restarts(&cluster.get(&["pod", &victim])) {
        after if after > before => Ok(()),
        after => Err(format!("{victim} was started {after} times again")),
    });
}

#[test]
fn nothing_is_left_of_any_pod_whatever_was_killed_meanwhile() {
    let asked = std::env::var("RIPSTOP_STARTS").map(|text| text.parse().expect("a number"));
    let wanted = asked.unwrap_or(STARTS);
    let cluster = one_node("e2e-leaks");
    apply(&cluster, &pod("first", json!({"containerPort": 8080}), json!({})));
    wait_running(&cluster, 1);
    let before = held(&cluster);
    let spared = shims(&cluster)[0];
    let plugins = PluginKiller::start(cluster.pid("containerd node-1"));
    let replace_containerd = || plugins.follow(replace(&cluster, "containerd node-1"));
    let good = (0..PODS).filter(|number| !is_bad(*number)).count();
    let mut starts = 0;
    for round in 0.. {
        apply(&cluster, &crowd(round));
        wait_running(&cluster, 1 + good / 4);
        replace_containerd();
        wait_running(&cluster, 1 + good / 2);
        replace(&cluster, "agent node-1");
        wait_running(&cluster, 1 + good);
        kill_beneath(&cluster, round, spared);
        starts += wait_running(&cluster, 1 + good) - 1;
        let bad = format!("web-{round}-{}", PODS - 1);
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
        // The second round's pods want the ports of the first one's.
        if starts >= wanted && round > 0 {
            break;
        }
    }
    let killed = plugins.killed();
    eventually(ROUND, || match held(&cluster) {
        now if now == before => Ok(()),
        now => Err(format!("{now:?}, and before {before:?}")),
    });
    assert!(killed > 0, "no plugin was killed");
    println!("{starts} starts, {killed} plugins killed; there is as before {before:?}");
}
