//! In which order a pod's containers come and go, and when it counts as ready or over.

use std::fs;
use std::time::Duration;

use e2e::{Cluster, eventually};

use crate::wait;

pub(crate) fn order(cluster: &Cluster) {
    wait(cluster, "condition=Ready", "life");
    let pod = cluster.get(&["pod", "life"]);
    let ip = pod["status"]["podIP"].clone();
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let web = statuses.iter().find(|s| s["name"] == "web");
    let before = web.and_then(|s| s["restartCount"].as_i64());
    let served = cluster.kubectl(&["logs", "life", "-c", "hooked"]).ok();
    assert!(served.contains("/started"), "the postStart hook came: {served}");
    // A container that fails its liveness probe is another; the pod keeps its address and the rest of it.
    cluster
        .kubectl(&[
            "exec",
            "life",
            "-c",
            "web",
            "--",
            "wget",
            "-qO-",
            "--post-data=",
            "http://127.0.0.1:8080/healthz?status=500",
        ])
        .ok();
    eventually(Duration::from_secs(30), || {
        let pod = cluster.get(&["pod", "life"]);
        let statuses = pod["status"]["containerStatuses"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let of = |name: &str| {
            statuses
                .iter()
                .find(|s| s["name"] == name)
                .cloned()
                .unwrap_or_default()
        };
        let (web, main) = (of("web"), of("main"));
        let again =
            web["restartCount"].as_i64() > before && web["ready"] == true && main["restartCount"] == 0;
        (again && pod["status"]["podIP"] == ip)
            .then_some(())
            .ok_or(pod["status"].to_string())
    });
    cluster.kubectl(&["delete", "pod", "life"]).ok();
    let log = fs::read_to_string("/tmp/ripstop-e2e-pods/trace/log").expect("the containers' own log");
    let steps: Vec<&str> = log.lines().collect();
    let expected = [
        "init",
        "proxy-up",
        "second",
        "post-start",
        "pre-stop",
        "main-term",
        "proxy-term",
    ];
    assert_eq!(steps, expected);
}

pub(crate) fn gates_and_rules(cluster: &Cluster) {
    wait(cluster, "condition=ContainersReady", "gated");
    let text = cluster.kubectl(&["describe", "pod", "gated"]).ok();
    assert!(
        text.contains("Readiness Gates:") && text.contains("example.com/open"),
        "{text}"
    );
    let ready = cluster.get(&["pod", "gated"])["status"]["conditions"].to_string();
    assert!(
        ready.contains("corresponding condition of pod readiness gate"),
        "{ready}"
    );
    let open = r#"{"status":{"conditions":[{"type":"example.com/open","status":"True"}]}}"#;
    cluster
        .kubectl(&["patch", "pod", "gated", "--subresource=status", "-p", open])
        .ok();
    wait(cluster, "condition=Ready", "gated");

    wait(cluster, "jsonpath={.status.phase}=Succeeded", "own-rules");
    let pod = cluster.get(&["pod", "own-rules"]);
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 1);
}
