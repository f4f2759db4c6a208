//! `kubectl debug`: containers that come to a running pod, copies of pods, and pods that look at a node.

use std::time::Duration;

use e2e::{Cluster, eventually};

use crate::{sh, wait};

const IMAGE: &str = "--image=localhost/ripstop/toolbox:1";

pub(crate) fn containers_come_to_running_pods(cluster: &Cluster) {
    cluster
        .kubectl(&[
            "debug",
            "env",
            IMAGE,
            "-c",
            "near",
            "--target=main",
            "--profile=general",
            "--",
            "sleep",
            "1002",
        ])
        .ok();
    cluster
        .kubectl(&[
            "debug",
            "env",
            IMAGE,
            "-c",
            "once",
            "--profile=general",
            "--",
            "sh",
            "-c",
            "echo looked; exit 4",
        ])
        .ok();
    eventually(Duration::from_secs(20), || {
        let pod = cluster.get(&["pod", "env"]);
        let list = pod["status"]["ephemeralContainerStatuses"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let state = |name: &str| {
            list.iter()
                .find(|s| s["name"] == name)
                .map(|s| s["state"].clone())
        };
        let runs = state("near").is_some_and(|s| s["running"].is_object());
        let ended = state("once").is_some_and(|s| s["terminated"]["exitCode"] == 4);
        (runs && ended).then_some(()).ok_or(format!("{list:?}"))
    });
    // It sees the processes of the container that it was sent to look at.
    let seen = sh(cluster, "env", "near", "tr '\\0' ' ' < /proc/1/cmdline");
    assert_eq!(seen.trim(), "sleep 1000");
    assert_eq!(cluster.kubectl(&["logs", "env", "-c", "once"]).ok(), "looked\n");
    let text = cluster.kubectl(&["describe", "pod", "env"]).ok();
    for part in [
        "Ephemeral Containers:",
        "near:",
        "Exit Code:    4",
        "Started container near",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let pod = cluster.get(&["pod", "env"]);
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(pod["status"]["phase"], "Running");
    let why = cluster
        .kubectl(&[
            "debug",
            "env",
            IMAGE,
            "-c",
            "lost",
            "--target=nobody",
            "--profile=general",
            "--",
            "true",
        ])
        .refused();
    assert!(
        why.contains("targetContainerName") && why.contains("nobody"),
        "{why}"
    );
    let copy = [
        "debug",
        "env",
        IMAGE,
        "--copy-to=env-copy",
        "-c",
        "beside",
        "--profile=general",
        "--",
        "sleep",
        "1003",
    ];
    cluster.kubectl(&copy).ok();
    wait(cluster, "condition=Ready", "env-copy");
}

pub(crate) fn nodes(cluster: &Cluster) {
    let node = cluster.get(&["pod", "env"])["spec"]["nodeName"]
        .as_str()
        .expect("a node")
        .to_owned();
    let script = "ls -d /host/etc; ip -o -4 address show eth0";
    let text = cluster
        .kubectl(&[
            "debug",
            &format!("node/{node}"),
            IMAGE,
            "--profile=general",
            "--",
            "sh",
            "-c",
            script,
        ])
        .ok();
    // "Creating debugging pod node-debugger-node-1-abcde with container debugger on node node-1."
    let pod = text
        .split_whitespace()
        .find(|word| word.starts_with("node-debugger-"));
    let pod = pod
        .unwrap_or_else(|| panic!("no pod is named in {text:?}"))
        .to_owned();
    wait(cluster, "jsonpath={.status.phase}=Succeeded", &pod);
    let seen = cluster.kubectl(&["logs", &pod]).ok();
    assert!(seen.starts_with("/host/etc\n"), "{seen}");
    assert!(seen.contains("172.30.") || seen.contains("inet "), "{seen}");
}
