//! What breaks, and what must not notice.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::{Cluster, Options, Outside, PATIENCE, PodLoad, Tally, Traces, eventually};
use rstest::rstest;

/// A download of one pod from another that takes some seconds, run by `kubectl exec`-free means: a process
/// inside the pod, so that the kubelet's restart doesn't end it.
fn start_download(cluster: &Cluster, client: &str, url: &str) {
    let script = format!("(wget -qO- '{url}' | wc -c) >/tmp/size 2>/tmp/error; echo done >/tmp/done");
    cluster
        .exec(
            client,
            &[
                "sh",
                "-c",
                &format!("rm -f /tmp/size /tmp/done; ({script}) </dev/null >/dev/null 2>&1 &"),
            ],
        )
        .ok();
}

fn finished_download(cluster: &Cluster, client: &str) -> String {
    eventually(Duration::from_secs(60), || {
        let outcome = cluster.exec(client, &["cat", "/tmp/done"]);
        if outcome.code == Some(0) {
            Ok(())
        } else {
            Err(format!("{outcome:?}"))
        }
    });
    cluster.exec(client, &["cat", "/tmp/size", "/tmp/error"]).ok()
}

fn kill(pid: i32) {
    let status = Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "{pid} could not be killed");
}

#[rstest]
#[case::ipv4("ipv4")]
#[case::dual("dual")]
fn a_download_does_not_notice_that_agents_and_server_are_killed(#[case] family: &'static str) {
    let cluster = Cluster::up(&format!("e2e-kill-{family}"), &Options::of(family));
    cluster.deployment("web", 3);
    let pods = cluster.pods("web");
    let (client, server) = (&pods[0], &pods[1]);
    assert_ne!(client.node, server.node);
    // 40 chunks of 64 KiB, one every 200 ms: eight seconds.
    // By the family that isn't the preferred one, where there are two.
    let urls = server.urls(8080, "/?chunks=40&interval=200ms&size=2621440", client);
    let (url, _) = urls.last().expect("a pod has an address");
    for process in [
        format!("agent {}", client.node),
        format!("agent {}", server.node),
        "server".to_owned(),
    ] {
        start_download(&cluster, &client.name, url);
        let before = cluster.pid(&process);
        kill(before);
        eventually(Duration::from_secs(20), || {
            let now = cluster.pid(&process);
            if now == before {
                Err(format!("{process} is still {before}"))
            } else {
                Ok(())
            }
        });
        cluster.wait_nodes("condition=Ready", Duration::from_secs(30));
        assert_eq!(
            finished_download(&cluster, &client.name).trim(),
            "2621440",
            "{process} was killed"
        );
    }
    let after = cluster.pods("web");
    assert_eq!(
        after.iter().map(|p| &p.name).collect::<Vec<_>>(),
        pods.iter().map(|p| &p.name).collect::<Vec<_>>()
    );
}

#[test]
fn pods_survive_a_killed_containerd() {
    let cluster = Cluster::up(
        "e2e-containerd",
        &Options {
            nodes: 1,
            ..Options::default()
        },
    );
    cluster.deployment("web", 2);
    let before = cluster.pods("web");
    let pid = cluster.pid("containerd node-1");
    kill(pid);
    eventually(Duration::from_secs(20), || {
        let now = cluster.pid("containerd node-1");
        if now == pid {
            Err("not restarted".to_owned())
        } else {
            Ok(())
        }
    });
    cluster.wait_nodes("condition=Ready", Duration::from_secs(30));
    eventually(Duration::from_secs(30), || {
        let outcome = cluster.exec(&before[0].name, &["true"]);
        if outcome.code == Some(0) {
            Ok(())
        } else {
            Err(outcome.stderr)
        }
    });
    let list = cluster.get(&["pods", "-l", "app=web"]);
    for pod in list["items"].as_array().expect("items") {
        assert_eq!(
            pod.pointer("/status/containerStatuses/0/restartCount"),
            Some(&0.into()),
            "{pod}"
        );
    }
    cluster.deployment("after", 1);
}

#[test]
fn after_a_crash_of_everything_up_brings_the_same_cluster_back() {
    let cluster = Cluster::up(
        "e2e-crash",
        &Options {
            nodes: 2,
            ..Options::default()
        },
    );
    cluster.deployment("web", 4);
    cluster
        .kubectl(&["create", "configmap", "kept", "--from-literal=a=b"])
        .ok();
    let uid = cluster.get(&["deployment", "web"])["metadata"]["uid"].clone();
    let names: Vec<_> = cluster.pods("web").into_iter().map(|p| p.name).collect();
    kill(cluster.pid("supervisor"));
    cluster.ripstop(&["up", "--no-kubeconfig"]).ok();
    assert_eq!(cluster.get(&["deployment", "web"])["metadata"]["uid"], uid);
    assert_eq!(
        cluster
            .pods("web")
            .into_iter()
            .map(|p| p.name)
            .collect::<Vec<_>>(),
        names
    );

    // And as after a reboot: what `down --keep-data` leaves is what a disk keeps.
    cluster.ripstop(&["down", "--keep-data"]).ok();
    cluster.ripstop(&["up", "--no-kubeconfig"]).ok();
    assert_eq!(cluster.get(&["configmap", "kept"])["data"]["a"], "b");
    assert_eq!(cluster.get(&["deployment", "web"])["metadata"]["uid"], uid);
    cluster
        .kubectl(&["rollout", "status", "--timeout=60s", "deployment/web"])
        .ok();
    let again = cluster.ripstop(&["up", "--no-kubeconfig"]).ok();
    assert!(again.contains("already running"), "{again}");
}

/// The Deployment `web` behind a Service, asked by its pod on the first node, and at that node's port.
struct Web {
    asker: String,
    url: String,
    port: SocketAddr,
}

impl Web {
    fn expose(cluster: &Cluster, name: &str) -> Web {
        let name_it = format!("--name={name}");
        let expose = ["expose", "deployment", "web", "--port=80", "--target-port=8080"];
        let words = [&expose[..], &["--type=NodePort", &name_it]].concat();
        cluster.kubectl(&words).ok();
        let pods = cluster.pods("web").into_iter();
        let asker = pods
            .map(|pod| (pod.node, pod.name))
            .min()
            .expect("there are pods")
            .1;
        let port = cluster.get(&["service", name])["spec"]["ports"][0]["nodePort"].as_u64();
        let node = cluster.get(&["node", "node-1"]);
        let address = node["status"]["addresses"][0]["address"]
            .as_str()
            .expect("an address");
        let port = format!("{address}:{}", port.expect("a port"));
        let port = port.parse().expect("an IPv4 address");
        eventually(Duration::from_secs(10), || e2e::ask(port));
        let url = format!("http://{name}/");
        Web { asker, url, port }
    }

    fn load(&self, cluster: &Cluster) -> (PodLoad, Outside) {
        let inside = PodLoad::start(cluster, &self.asker, "web", &self.url, PATIENCE);
        (inside, Outside::start(self.port))
    }

    /// Whether all ready endpoints are on that node.
    fn is_served_by(cluster: &Cluster, service: &str, node: &str) -> Result<(), String> {
        let owned = format!("kubernetes.io/service-name={service}");
        let slices = cluster.get(&["endpointslices", "-l", &owned]);
        let slices = slices["items"].as_array().expect("a list has items");
        let endpoints = slices
            .iter()
            .flat_map(|slice| slice["endpoints"].as_array())
            .flatten();
        let nodes: Vec<&str> = endpoints
            .filter(|endpoint| endpoint["conditions"]["ready"] == true)
            .filter_map(|endpoint| endpoint["nodeName"].as_str())
            .collect();
        match nodes.iter().all(|own| *own == node) && !nodes.is_empty() {
            true => Ok(()),
            false => Err(format!("{nodes:?}")),
        }
    }
}

fn finish((inside, outside): (PodLoad, Outside), cluster: &Cluster) -> (Tally, Tally) {
    (inside.finish(cluster), outside.finish())
}

#[test]
fn a_stopped_node_is_seen_as_gone_and_comes_back() {
    let cluster = Cluster::up(
        "e2e-node",
        &Options {
            nodes: 2,
            ..Options::default()
        },
    );
    cluster.deployment("web", 2);
    let web = Web::expose(&cluster, "web");
    let loads = web.load(&cluster);
    cluster.ripstop(&["node", "stop", "node-2"]).ok();
    eventually(Duration::from_secs(20), || {
        let log = cluster.ripstop(&["logs", "agent", "node-1", "-n", "200"]).ok();
        let knows = log.contains("the node doesn't answer");
        knows.then_some(()).ok_or(log)
    });
    let (inside, outside) = finish(loads, &cluster);
    println!("until the nodes knew: from a pod {inside:?}, from the machine {outside:?}");
    assert!(
        inside.answered > 0 && outside.answered > 0,
        "half of the pods are well"
    );
    let loads = web.load(&cluster);
    cluster
        .kubectl(&[
            "wait",
            "--for=condition=Ready=Unknown",
            "node/node-2",
            "--timeout=70s",
        ])
        .ok();
    eventually(Duration::from_secs(10), || {
        Web::is_served_by(&cluster, "web", "node-1")
    });
    let (inside, outside) = finish(loads, &cluster);
    println!("after that, and when the API knew: from a pod {inside:?}, from the machine {outside:?}");
    inside.assert_whole("from a pod, when the nodes know that one is gone");
    outside.assert_whole("from the machine, when the nodes know that one is gone");
    cluster.ripstop(&["node", "start", "node-2"]).ok();
    cluster.wait_nodes("condition=Ready", Duration::from_secs(30));
    cluster
        .kubectl(&["rollout", "status", "--timeout=60s", "deployment/web"])
        .ok();
    let pods = cluster.pods("web");
    for client in &pods {
        for server in &pods {
            let url = format!("http://{}:8080/", server.ip);
            eventually(Duration::from_secs(20), || {
                let outcome = cluster.exec(&client.name, &["timeout", "5", "wget", "-qO-", &url]);
                if outcome.code == Some(0) {
                    Ok(())
                } else {
                    Err(format!("{outcome:?}"))
                }
            });
        }
    }
}

#[test]
fn two_clusters_live_side_by_side() {
    let first = Cluster::up(
        "e2e-one",
        &Options {
            nodes: 1,
            ..Options::default()
        },
    );
    let second = Cluster::up(
        "e2e-two",
        &Options {
            nodes: 1,
            ..Options::default()
        },
    );
    first.deployment("web", 1);
    second.deployment("web", 1);
    let name = first.name().to_owned();
    drop(first);
    Traces::of(&name).assert_none();
    let pod = &second.pods("web")[0];
    second
        .exec(&pod.name, &["wget", "-qO-", &format!("http://{}:8080/", pod.ip)])
        .ok();
}

#[rstest]
#[case::ipv4("ipv4", &[false])]
#[case::ipv6("ipv6", &[true])]
#[case::dual("dual", &[false, true])]
fn check_proves_the_network_and_cleans_up(#[case] family: &'static str, #[case] six: &[bool]) {
    let cluster = Cluster::up(&format!("e2e-check-{family}"), &Options::of(family));
    let report = cluster.ripstop(&["check"]).ok();
    assert!(report.contains('✓') && !report.contains('✗'), "{report}");
    let json: serde_json::Value =
        serde_json::from_str(&cluster.ripstop(&["check", "-o", "json"]).ok()).expect("JSON");
    assert!(
        json["rows"].as_array().is_some_and(|rows| rows.len() >= 5),
        "{json}"
    );
    // Each kind of path is tried in each family, and in no other.
    let rows = json["rows"].as_array().expect("there are some");
    for check in [
        "addresses",
        "pod to pod, across nodes",
        "pod to node",
        "pod to outside",
    ] {
        let of_check = rows.iter().filter(|row| row["check"] == check);
        let found: BTreeSet<bool> = of_check
            .filter_map(|row| Some(row["path"].as_str()?.contains("(IPv6)")))
            .collect();
        assert_eq!(found, six.iter().copied().collect(), "{check}");
    }

    eventually(Duration::from_secs(30), || {
        let left = cluster.kubectl(&["get", "namespaces", "-o", "name"]).ok();
        if left.contains("ripstop-check") {
            Err(left)
        } else {
            Ok(())
        }
    });
}

#[test]
fn logs_follow_a_running_pod() {
    let cluster = Cluster::up(
        "e2e-logs",
        &Options {
            nodes: 1,
            ..Options::default()
        },
    );
    let script = "i=0; while [ $i -lt 20 ]; do echo line-$i; i=$((i+1)); sleep 0.2; done";
    cluster
        .kubectl(&[
            "run",
            "talker",
            "--image=localhost/ripstop/toolbox:1",
            "--restart=Never",
            "--",
            "sh",
            "-c",
            script,
        ])
        .ok();
    cluster
        .kubectl(&[
            "wait",
            "--for=jsonpath={.status.phase}=Running",
            "pod/talker",
            "--timeout=30s",
        ])
        .ok();
    let follow: Child = cluster
        .kubectl_command(&["logs", "-f", "talker"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let output = follow.wait_with_output().expect("kubectl ends with the pod");
    let text = String::from_utf8_lossy(&output.stdout);
    let want: Vec<String> = (0..20).map(|i| format!("line-{i}")).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), want);
    cluster
        .kubectl(&[
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            "pod/talker",
            "--timeout=30s",
        ])
        .ok();
}
