//! The first walk of the README: what a new user does with a fresh cluster.

use std::time::Duration;

use e2e::{Cluster, Options, Traces, eventually};
use serde_json::Value;

#[test]
fn every_pod_reaches_every_other_by_its_own_address_and_down_leaves_nothing() {
    let cluster = Cluster::up("e2e-walk", &Options::default());
    cluster.wait_nodes("condition=Ready", Duration::from_secs(30));
    cluster.deployment("web", 6);
    let pods = cluster.pods("web");
    assert_eq!(pods.len(), 6);
    let nodes: std::collections::BTreeSet<_> = pods.iter().map(|p| p.node.as_str()).collect();
    assert_eq!(nodes.len(), 3, "spread over three nodes: {pods:?}");
    for client in &pods {
        for server in &pods {
            let url = format!("http://{}:8080/hello", server.ip);
            let text = cluster
                .exec(&client.name, &["timeout", "5", "wget", "-qO-", &url])
                .ok();
            let answer: Value = serde_json::from_str(&text).expect("the toolbox answers in JSON");
            assert_eq!(answer["hostname"], server.name.as_str());
            assert_eq!(
                answer["client_ip"],
                client.ip.as_str(),
                "{client:?} to {server:?} was translated"
            );
            assert_eq!(answer["path"], "/hello");
        }
    }
    let name = cluster.name().to_owned();
    drop(cluster);
    Traces::of(&name).assert_none();
}

#[test]
fn the_verbs_people_debug_with_work() {
    let cluster = Cluster::up("e2e-verbs", &Options::default());
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

#[test]
fn rollouts_restart_undo_and_keep_history() {
    let cluster = Cluster::up("e2e-rollout", &Options { nodes: 2 });
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
}

#[test]
fn broken_manifests_are_refused_with_errors_that_help() {
    let cluster = Cluster::up("e2e-errors", &Options { nodes: 1 });
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
