//! The first walk of the README: what a new user does with a fresh cluster.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use e2e::{Cluster, Options, Traces, eventually};
use rstest::rstest;
use serde_json::Value;

#[rstest]
#[case::ipv4("ipv4", 1)]
#[case::ipv6("ipv6", 1)]
#[case::dual("dual", 2)]
fn every_pod_reaches_every_other_by_its_own_address_and_down_leaves_nothing(
    #[case] family: &'static str,
    #[case] addresses: usize,
) {
    let cluster = Cluster::up(&format!("e2e-walk-{family}"), &Options::of(family));
    cluster.wait_nodes("condition=Ready", Duration::from_secs(30));
    cluster.deployment("web", 6);
    let pods = cluster.pods("web");
    assert_eq!(pods.len(), 6);
    let nodes: std::collections::BTreeSet<_> = pods.iter().map(|p| p.node.as_str()).collect();
    assert_eq!(nodes.len(), 3, "spread over three nodes: {pods:?}");
    for client in &pods {
        for server in &pods {
            assert_eq!(server.ips.len(), addresses, "{server:?}");
            for (url, own) in server.urls(8080, "/hello", client) {
                let text = cluster.exec(&client.name, &["toolbox", "get", &url]).ok();
                let answer: Value = serde_json::from_str(&text).expect("the toolbox answers in JSON");
                assert_eq!(answer["hostname"], server.name.as_str());
                assert_eq!(
                    answer["client_ip"],
                    own.to_string(),
                    "{client:?} to {url} was translated"
                );
                assert_eq!(answer["path"], "/hello");
            }
        }
    }
    let families = cluster.get(&["nodes"])["items"][0]["spec"]["podCIDRs"].clone();
    assert_eq!(families.as_array().map(Vec::len), Some(addresses), "{families}");
    let name = cluster.name().to_owned();
    drop(cluster);
    Traces::of(&name).assert_none();
}

/// A pod that is ready once its node has reached it by HTTP and by TCP.
const PROBED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  containers:
  - name: http
    image: localhost/ripstop/toolbox:1
    readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
  - name: tcp
    image: localhost/ripstop/toolbox:1
    command: [toolbox, serve, --http, "8081", --echo, "9001"]
    readinessProbe: {tcpSocket: {port: 8081}, periodSeconds: 1}
"#;

#[rstest]
#[case::ipv4("ipv4")]
#[case::ipv6("ipv6")]
#[case::dual("dual")]
fn probes_and_forwarded_ports_reach_a_pod(#[case] family: &'static str) {
    let options = Options {
        nodes: 1,
        ..Options::of(family)
    };
    let cluster = Cluster::up(&format!("e2e-ports-{family}"), &options);
    cluster.kubectl_with(&["create", "-f", "-"], PROBED).ok();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/probed", "--timeout=60s"])
        .ok();
    let mut forward = cluster
        .kubectl_command(&["port-forward", "pod/probed", ":8080"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut lines = BufReader::new(forward.stdout.take().expect("it is piped")).lines();
    let line = lines.next().expect("it says where").expect("a line");
    // "Forwarding from 127.0.0.1:40123 -> 8080"
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut stream = TcpStream::connect(words[2]).expect("the forwarded port");
    stream
        .write_all(b"GET /forwarded HTTP/1.0\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    forward.kill().expect("ended");
    forward.wait().expect("reaped");
    assert!(answer.contains("\"path\":\"/forwarded\""), "{line}: {answer}");
}

#[rstest]
#[case::ipv4("ipv4")]
#[case::ipv6("ipv6")]
#[case::dual("dual")]
fn the_verbs_people_debug_with_work(#[case] family: &'static str) {
    let cluster = Cluster::up(&format!("e2e-verbs-{family}"), &Options::of(family));
    cluster.deployment("web", 3);
    let wide = cluster.kubectl(&["get", "pods", "-o", "wide"]).ok();
    assert!(
        wide.lines()
            .next()
            .is_some_and(|h| h.starts_with("NAME") && h.contains("NODE")),
        "{wide}"
    );
    assert_eq!(wide.matches("Running").count(), 3, "{wide}");
    let pod = &cluster.pods("web")[0];

    let text = cluster.kubectl(&["describe", "pod", &pod.name]).ok();
    for part in [
        "Scheduled",
        "Started",
        "localhost/ripstop/toolbox:1",
        pod.node.as_str(),
    ] {
        assert!(text.contains(part), "describe doesn't show {part}:\n{text}");
    }
    let echoed = cluster
        .kubectl_with(
            &["exec", "-i", &pod.name, "--", "cat"],
            "through standard input\n",
        )
        .ok();
    assert_eq!(echoed, "through standard input\n");
    let failed = cluster.exec(&pod.name, &["sh", "-c", "echo oops >&2; exit 7"]);
    assert_eq!(failed.code, Some(7), "{failed:?}");
    assert!(failed.stderr.contains("oops"));

    cluster
        .exec(
            &pod.name,
            &["wget", "-qO-", "http://127.0.0.1:8080/seen-in-the-log"],
        )
        .ok();
    eventually(Duration::from_secs(10), || {
        let log = cluster.kubectl(&["logs", &pod.name]).ok();
        if log.contains("/seen-in-the-log") {
            Ok(())
        } else {
            Err(format!("not in the log: {log}"))
        }
    });

    // A terminal is asked for where there is none: kubectl attaches without one to a container that has one.
    let image = "--image=localhost/ripstop/toolbox:1";
    let once = [
        "run",
        "once",
        "-it",
        "--rm",
        "--restart=Never",
        image,
        "--",
        "sleep",
        "1",
    ];
    assert!(cluster.kubectl(&once).ok().contains("deleted"));

    files_go_there_and_back(&cluster, &pod.name);
    cluster.kubectl(&["scale", "deployment/web", "--replicas=5"]).ok();
    cluster
        .kubectl(&["rollout", "status", "--timeout=60s", "deployment/web"])
        .ok();
    assert_eq!(cluster.pods("web").len(), 5);
    cluster.kubectl(&["delete", "deployment", "web"]).ok();
    cluster
        .kubectl(&["wait", "--for=delete", "pods", "-l", "app=web", "--timeout=60s"])
        .ok();
}

/// `kubectl cp` runs `tar` in the container.
fn files_go_there_and_back(cluster: &Cluster, pod: &str) {
    let path = |name: &str| std::env::temp_dir().join(format!("{}-{name}", cluster.name()));
    let (sent, back) = (path("sent"), path("back"));
    let bytes: Vec<u8> = (0..200_000_u32).map(|i| (i * 31 % 251) as u8).collect();
    std::fs::write(&sent, &bytes).expect("a file to send");
    let (sent, back) = (sent.display().to_string(), back.display().to_string());
    let place = format!("{pod}:/tmp/sent");
    cluster.kubectl(&["cp", &sent, &place]).ok();
    cluster.kubectl(&["cp", &place, &back]).ok();
    assert!(std::fs::read(&back).expect("the file came back") == bytes);
    for file in [sent, back] {
        std::fs::remove_file(file).expect("it was there");
    }
}

#[test]
fn rollouts_restart_undo_and_keep_history() {
    let cluster = Cluster::up(
        "e2e-rollout",
        &Options {
            nodes: 2,
            ..Options::default()
        },
    );
    cluster.deployment("web", 3);
    let before = cluster.pods("web");
    cluster.kubectl(&["rollout", "restart", "deployment/web"]).ok();
    cluster
        .kubectl(&["rollout", "status", "--timeout=90s", "deployment/web"])
        .ok();
    eventually(Duration::from_secs(60), || {
        let now = cluster.pods("web");
        let old = now
            .iter()
            .filter(|p| before.iter().any(|b| b.name == p.name))
            .count();
        if now.len() == 3 && old == 0 {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    });
    cluster
        .kubectl(&["set", "env", "deployment/web", "COLOUR=green"])
        .ok();
    cluster
        .kubectl(&["rollout", "status", "--timeout=90s", "deployment/web"])
        .ok();
    let history = cluster.kubectl(&["rollout", "history", "deployment/web"]).ok();
    assert!(
        history
            .lines()
            .filter(|l| l.starts_with(|c: char| c.is_ascii_digit()))
            .count()
            == 3,
        "{history}"
    );
    cluster.kubectl(&["rollout", "undo", "deployment/web"]).ok();
    cluster
        .kubectl(&["rollout", "status", "--timeout=90s", "deployment/web"])
        .ok();
    let deployment = cluster.get(&["deployment", "web"]);
    assert!(
        deployment
            .pointer("/spec/template/spec/containers/0/env")
            .is_none(),
        "{deployment}"
    );
    deletion_cascades_as_it_is_told(&cluster);
    a_chart_comes_up_is_upgraded_and_goes(&cluster);
}

/// Deletes the Deployment `web`, and what it owns step by step.
fn deletion_cascades_as_it_is_told(cluster: &Cluster) {
    let sets = ["get", "replicasets", "-l", "app=web", "-o", "name"];
    let count = |of: &str| of.lines().count();
    let before = count(&cluster.kubectl(&sets).ok());
    cluster
        .kubectl(&["delete", "deployment", "web", "--cascade=orphan"])
        .ok();
    let left = cluster.kubectl(&sets).ok();
    assert_eq!(count(&left), before, "orphans stay: {left}");
    let owners = "jsonpath={.items[*].metadata.ownerReferences}";
    assert_eq!(
        cluster
            .kubectl(&["get", "replicasets", "-l", "app=web", "-o", owners])
            .ok(),
        "",
        "and belong to nobody"
    );
    assert_eq!(cluster.pods("web").len(), 3);
    // What is gone after a foreground deletion had nothing left that it owned.
    cluster
        .kubectl(&["delete", "replicasets", "-l", "app=web", "--cascade=foreground"])
        .ok();
    assert_eq!(
        cluster
            .kubectl(&["get", "pods", "-l", "app=web", "-o", "name"])
            .ok(),
        ""
    );
}

/// The manifests of an ordinary chart, installed, upgraded and taken out as people do it.
fn a_chart_comes_up_is_upgraded_and_goes(cluster: &Cluster) {
    const FIRST: &str = include_str!("../fixtures/chart/first.yaml");
    const SECOND: &str = include_str!("../fixtures/chart/second.yaml");
    for (release, greeting) in [(FIRST, "hello"), (SECOND, "good day")] {
        let applied = cluster.kubectl_with(&["apply", "-f", "-"], release);
        assert_eq!(applied.stderr, "", "nothing to warn of");
        applied.ok();
        cluster
            .kubectl(&["rollout", "status", "--timeout=90s", "deployment/shop-web"])
            .ok();
        let said = cluster
            .kubectl(&[
                "exec",
                "deployment/shop-web",
                "--",
                "sh",
                "-c",
                "echo $GREETING, $PASSWORD",
            ])
            .ok();
        assert_eq!(said.trim(), format!("{greeting}, open-sesame"));
    }
    let budget = cluster.get(&["pdb", "shop-web"]);
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    let hpa = cluster.kubectl(&["get", "hpa", "shop-web"]).ok();
    assert!(hpa.contains("Deployment/shop-web"), "{hpa}");
    // Those of the release before may still be ending.
    let ready = "jsonpath={.items[*].endpoints[?(@.conditions.ready==true)].addresses}";
    let slices = [
        "get",
        "endpointslices",
        "-l",
        "kubernetes.io/service-name=shop-web",
        "-o",
        ready,
    ];
    eventually(Duration::from_secs(30), || {
        let served = cluster.kubectl(&slices).ok();
        match served.matches('"').count() {
            4 => Ok(()),
            _ => Err(format!("two endpoints: {served}")),
        }
    });
    cluster.kubectl_with(&["delete", "-f", "-"], FIRST).ok();
    let labels = "app.kubernetes.io/instance=shop";
    cluster
        .kubectl(&["wait", "--for=delete", "pods", "-l", labels, "--timeout=60s"])
        .ok();
    let left = cluster
        .kubectl(&[
            "get",
            "all,cm,secret,sa,role,rolebinding,pdb,netpol,hpa,ingress",
            "-l",
            labels,
            "-o",
            "name",
        ])
        .ok();
    assert_eq!(left, "");
}

#[test]
fn broken_manifests_are_refused_with_errors_that_help() {
    let cluster = Cluster::up(
        "e2e-errors",
        &Options {
            nodes: 1,
            ..Options::default()
        },
    );
    let unknown = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i, imagee: j}]}\n";
    let error = cluster.kubectl_with(&["apply", "-f", "-"], unknown).refused();
    assert!(
        error.contains("unknown field \"spec.containers[0].imagee\""),
        "{error}"
    );
    let nameless =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: A_b}\nspec: {containers: [{name: c, image: i}]}\n";
    let error = cluster.kubectl_with(&["create", "-f", "-"], nameless).refused();
    assert!(error.contains("lowercase RFC 1123 subdomain"), "{error}");
    let mismatch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: b}}\n    spec: {containers: [{name: c, image: i}]}\n";
    let error = cluster.kubectl_with(&["create", "-f", "-"], mismatch).refused();
    assert!(
        error.contains("`selector` does not match template `labels`"),
        "{error}"
    );
    let error = cluster.kubectl(&["get", "pod", "absent"]).refused();
    assert!(error.contains("pods \"absent\" not found"), "{error}");
    let error = cluster.kubectl(&["create", "namespace", "default"]).refused();
    assert!(error.contains("already exists"), "{error}");

    let missing = "apiVersion: v1\nkind: Pod\nmetadata: {name: noimage}\nspec: {containers: [{name: c, image: localhost/ripstop/absent:1, imagePullPolicy: Never}]}\n";
    cluster.kubectl_with(&["create", "-f", "-"], missing).ok();
    eventually(Duration::from_secs(30), || {
        let line = cluster.kubectl(&["get", "pod", "noimage", "--no-headers"]).ok();
        if line.contains("ErrImageNeverPull") {
            Ok(())
        } else {
            Err(line)
        }
    });
    assert!(
        cluster
            .ripstop(&["node", "stop", "node-9"])
            .refused()
            .contains("node-9")
    );
}
