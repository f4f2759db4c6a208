//! Every way to fail, and what `kubectl describe` and `kubectl get` say of it.

use std::time::Duration;

use e2e::{Cluster, eventually};

/// A pod, what the column STATUS says, and what stands in its description.
/// A registry's refusal is "401 Unauthorized" or "authorization failed", by the version of containerd.
const FAILURES: &[(&str, &str, &[&str])] = &[
    (
        "with-right",
        "Running",
        &[
            "Pulling image \"localhost:5000/team/app:1\"",
            "Successfully pulled image \"localhost:5000/team/app:1\" in ",
            "Image size: ",
        ],
    ),
    (
        "without-right",
        "ImagePullBackOff",
        &[
            "Failed to pull image \"localhost:5000/team/app:1\"",
            "uthoriz",
            "Back-off pulling image \"localhost:5000/team/app:1\"",
            "Error: ImagePullBackOff",
        ],
    ),
    (
        "no-image",
        "ImagePullBackOff",
        &["localhost:5000/open/none:1: not found"],
    ),
    ("busy", "ImagePullBackOff", &["429 Too Many Requests"]),
    (
        "denied",
        "ImagePullBackOff",
        &[
            "403 Forbidden",
            "Unable to retrieve some image pull secrets (lost)",
        ],
    ),
    ("corrupt", "ImagePullBackOff", &["digest"]),
    (
        "bad-name",
        "InvalidImageName",
        &["couldn't parse image name \"Not//An/Image\": invalid reference format"],
    ),
    (
        "never",
        "ErrImageNeverPull",
        &["Container image \"localhost/ripstop/none:1\" is not present with pull policy of Never"],
    ),
    (
        "no-config",
        "CreateContainerConfigError",
        &["Error: configmap \"missing\" not found"],
    ),
    (
        "no-volume",
        "ContainerCreating",
        &["MountVolume.SetUp failed for volume \"keys\" : secret \"missing\" not found"],
    ),
    (
        "wrong-path",
        "ContainerCreating",
        &["hostPath type check failed: /etc/hosts is not a directory"],
    ),
    (
        "no-command",
        "CrashLoopBackOff",
        &[
            "Reason:       StartError",
            "Message:      failed to create containerd task",
            "Exit Code:    128",
            "/no/such/program",
            "no such file or directory",
            "Back-off restarting failed container main",
        ],
    ),
    (
        "oom",
        "OOMKilled",
        &["Reason:       OOMKilled", "Exit Code:    137"],
    ),
    (
        "exits",
        "Error",
        &[
            "Reason:       Error",
            "Message:      out of paper",
            "Exit Code:    3",
        ],
    ),
    (
        "crashes",
        "CrashLoopBackOff",
        &["Message:      cannot open the gate", "Exit Code:    1"],
    ),
    (
        "sick",
        "",
        &[
            "Liveness probe failed: cat: can't open '/no/such/file'",
            "Container main failed liveness probe, will be restarted",
        ],
    ),
    (
        "slow",
        "",
        &[
            "Startup probe failed: dial tcp ",
            "connection refused",
            "Container main failed startup probe, will be restarted",
        ],
    ),
    (
        "shy",
        "Running",
        &["Readiness probe failed: HTTP probe failed with statuscode: 503"],
    ),
    (
        "mute",
        "Running",
        &[
            "Readiness probe failed: failed to connect service \"",
            "connection refused",
        ],
    ),
    (
        "root",
        "CreateContainerConfigError",
        &["container has runAsNonRoot and image will run as root"],
    ),
    (
        "hook",
        "",
        &["FailedPostStartHook", "PostStartHook failed: ", "no such host"],
    ),
    (
        "late",
        "",
        &["Pod was active on the node longer than the specified deadline"],
    ),
    ("init-fails", "Init:Error", &["Exit Code:    1"]),
    (
        "greedy",
        "Error",
        &[
            "Reason:           Evicted",
            "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\".",
        ],
    ),
    (
        "huge",
        "Pending",
        &[
            "0/2 nodes are available: 2 Insufficient cpu.",
            "No node has that much cpu, even when empty",
        ],
    ),
    (
        "fenced",
        "UserNamespacesNotSupported",
        &["runtime does not support user namespaces"],
    ),
    (
        "whole",
        "PodLevelResourcesNotSupported",
        &["Pod was rejected: resources of the pod as a whole (spec.resources) are not supported"],
    ),
];

pub(crate) fn are_described(cluster: &Cluster) {
    for (pod, status, parts) in FAILURES {
        eventually(Duration::from_secs(60), || {
            let line = cluster.kubectl(&["get", "pod", pod, "--no-headers"]).ok();
            let found = line.split_whitespace().nth(2).unwrap_or_default();
            if !status.is_empty() && found != *status {
                return Err(format!("{pod} is {found}, not {status}"));
            }
            let text = cluster.kubectl(&["describe", "pod", pod]).ok();
            // Columns are as wide as the widest of their words.
            let words = one_space(&text);
            match parts.iter().find(|part| !words.contains(&one_space(part))) {
                Some(part) => Err(format!("no {part:?} in\n{text}")),
                None => Ok(()),
            }
        });
    }
}

fn one_space(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
