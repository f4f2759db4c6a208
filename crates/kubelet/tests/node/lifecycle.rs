use std::time::{Duration, Instant};

use kernel::cgroup::Hierarchies;
use kube::api::{DeleteParams, LogParams};
use serde_json::json;

use crate::lab::{Lab, condition, container, on_a_node};

#[test]
fn a_crash_loop_waits_longer_and_shows_how_it_ended() {
    on_a_node(async |lab| {
        lab.pod(
            "web",
            json!({"containers": [{"name": "a", "command": ["sh", "-c", "echo run; exit 7"]}]}),
        )
        .await;
        let pod = lab
            .pod_where("web", "CrashLoopBackOff", |p| {
                container(p, "a")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            })
            .await;
        let status = container(&pod, "a");
        assert_eq!(status["restartCount"], 1);
        assert_eq!(status["lastState"]["terminated"]["exitCode"], 7);
        let message = status["state"]["waiting"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("back-off 10s restarting failed container=a pod=web_default("),
            "{message}"
        );
        let previous = LogParams {
            previous: true,
            ..LogParams::default()
        };
        assert_eq!(lab.logs("web", &previous).await, "run\n");
        lab.event("web", "BackOff").await;
    });
}

#[test]
fn probes_restart_and_gate() {
    on_a_node(async |lab| {
        // The sick one would be waited for all that time: its probe gives it less.
        lab.pod("web", json!({"hostNetwork": true, "terminationGracePeriodSeconds": 600, "containers": [
            {"name": "served", "command": ["sh", "-c", "mkdir /tmp/w; echo ok > /tmp/w/healthz; httpd -f -p 8080 -h /tmp/w"],
             "ports": [{"name": "http", "containerPort": 8080}],
             "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 30},
             "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1}},
            {"name": "sick", "command": ["sh", "-c", "trap '' TERM; touch /tmp/well; sleep 2; rm /tmp/well; sleep 1000"],
             "livenessProbe": {"exec": {"command": ["cat", "/tmp/well"]}, "periodSeconds": 1, "failureThreshold": 2,
                "terminationGracePeriodSeconds": 1}},
            {"name": "shy", "command": ["sleep", "1000"],
             "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/open"]}, "periodSeconds": 1}}]}))
            .await;
        let pod = lab
            .pod_where("web", "the server is ready", |p| {
                container(p, "served")["ready"] == true
            })
            .await;
        assert_eq!(container(&pod, "shy")["ready"], false);
        assert_eq!(condition(&pod, "Ready").as_deref(), Some("False"));
        assert_eq!(pod.status.unwrap().pod_ip.as_deref(), Some("127.0.0.1"));
        let pod = lab
            .pod_where("web", "the sick one was restarted", |p| {
                container(p, "sick")["restartCount"] == 1
            })
            .await;
        assert_eq!(container(&pod, "served")["restartCount"], 0);
        let unhealthy = lab.event("web", "Unhealthy").await;
        assert!(unhealthy.contains("probe failed"), "{unhealthy}");
        let killing = lab.event("web", "Killing").await;
        assert_eq!(killing, "Container sick failed liveness probe, will be restarted");
    });
}

#[test]
fn hooks_run_and_the_grace_period_is_kept() {
    on_a_node(async |lab| {
        lab.pod("web", json!({"terminationGracePeriodSeconds": 20,
            "volumes": [{"name": "host", "hostPath": {"path": lab.dir.path()}}],
            "containers": [{"name": "a",
                "command": ["sh", "-c", "trap 'echo term >> /host/trace; exit 0' TERM; while :; do sleep 0.1; done"],
                "volumeMounts": [{"name": "host", "mountPath": "/host"}],
                "lifecycle": {
                    "postStart": {"exec": {"command": ["sh", "-c", "echo start >> /host/trace"]}},
                    "preStop": {"exec": {"command": ["sh", "-c", "sleep 1; echo stop >> /host/trace"]}}}},
                {"name": "b", "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"],
                    "lifecycle": {"preStop": {"sleep": {"seconds": 2}}}}]}))
            .await;
        lab.ready("web").await;
        let begun = Instant::now();
        lab.delete("web", &DeleteParams::default()).await;
        assert!(begun.elapsed() >= Duration::from_secs(2));
        let trace = std::fs::read_to_string(lab.dir.path().join("trace")).unwrap();
        assert_eq!(trace, "start\nstop\nterm\n");
        lab.nothing_left().await;
    });
}

#[test]
fn a_stubborn_container_is_killed_and_a_second_deletion_hurries() {
    on_a_node(async |lab| {
        let stubborn = json!({"terminationGracePeriodSeconds": 600, "containers": [
            {"name": "a", "command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]}]});
        for name in ["one", "two"] {
            lab.pod(name, stubborn.clone()).await;
        }
        for name in ["one", "two"] {
            lab.ready(name).await;
        }
        lab.delete("one", &DeleteParams::default().grace_period(1)).await;
        lab.pods().delete("two", &DeleteParams::default()).await.unwrap();
        lab.event("two", "Killing").await;
        lab.delete("two", &DeleteParams::default().grace_period(0)).await;
        lab.nothing_left().await;
    });
}

/// The API has forgotten the first at once, and the scheduler with it; here it is still ending.
#[test]
fn a_port_of_a_pod_that_was_deleted_by_force_is_the_next_ones() {
    on_a_node(async |lab| {
        let port = json!({"containerPort": 80, "hostPort": 8080});
        let spec = json!({"containers": [{"name": "a", "command": ["sleep", "1000"], "ports": [port]}]});
        lab.pod("one", spec.clone()).await;
        lab.ready("one").await;
        let now = DeleteParams::default().grace_period(0);
        lab.pods().delete("one", &now).await.unwrap();
        lab.pod("two", spec).await;
        lab.ready("two").await;
    });
}

#[test]
fn a_pod_is_active_no_longer_than_it_may() {
    on_a_node(async |lab| {
        lab.pod(
            "web",
            json!({"activeDeadlineSeconds": 2, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "a", "command": ["sleep", "1000"]}]}),
        )
        .await;
        let pod = lab.phase("web", "Failed").await;
        assert_eq!(pod.status.unwrap().reason.as_deref(), Some("DeadlineExceeded"));
    });
}

#[test]
fn limits_reach_the_kernel_and_a_greedy_container_is_oom_killed() {
    on_a_node(async |lab| {
        lab.pod(
            "web",
            json!({"restartPolicy": "Never", "containers": [{"name": "a",
            "command": ["sh", "-c", "x=$(yes | head -c 200000000); sleep 1"],
            "resources": {"limits": {"memory": "20Mi", "cpu": "500m"}}}]}),
        )
        .await;
        let pod = lab.phase("web", "Failed").await;
        assert_eq!(container(&pod, "a")["state"]["terminated"]["reason"], "OOMKilled");
        assert_eq!(pod.status.unwrap().qos_class.as_deref(), Some("Guaranteed"));
        // The pod as a whole has a limit too.
        let uid = pod.metadata.uid.unwrap();
        let group = format!("{}/kubepods/pod{uid}", lab.config.cgroup_root);
        let read = |files: [&str; 2]| {
            let hierarchies = Hierarchies::detect().unwrap();
            let dirs = hierarchies
                .iter()
                .map(|h| h.root.join(group.trim_start_matches('/')));
            let texts = dirs.flat_map(|dir| files.map(|file| std::fs::read_to_string(dir.join(file))));
            let text = texts.flatten().next();
            text.unwrap_or_else(|| panic!("{group} has neither of {files:?}"))
        };
        assert_eq!(
            read(["memory.max", "memory.limit_in_bytes"]).trim(),
            (20 << 20).to_string()
        );
        assert!(read(["cpu.max", "cpu.cfs_quota_us"]).starts_with("50000"));
    });
}

#[test]
fn security_contexts_are_kept() {
    on_a_node(async |lab| {
        lab.pod("web", json!({"restartPolicy": "Never",
            "securityContext": {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000},
            "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [{"name": "a",
                "command": ["sh", "-c", "id -u; id -g; id -G; touch /x 2>/dev/null || echo read-only; touch /data/f && stat -c %g /data/f"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "securityContext": {"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}}]}))
            .await;
        lab.phase("web", "Succeeded").await;
        assert_eq!(
            lab.logs("web", &LogParams::default()).await,
            "1000\n3000\n3000 2000\nread-only\n2000\n"
        );
        profiles(lab).await;
        lab.pod(
            "root",
            json!({"containers": [{"name": "a", "securityContext": {"runAsNonRoot": true}}]}),
        )
        .await;
        let pod = lab
            .pod_where("root", "refused", |p| {
                container(p, "a")["state"]["waiting"]["reason"] == "CreateContainerConfigError"
            })
            .await;
        let message = container(&pod, "a")["state"]["waiting"]["message"].clone();
        assert!(
            message
                .as_str()
                .unwrap()
                .starts_with("container has runAsNonRoot and image will run as root")
        );
    });
}

/// A seccomp profile of the node's own, and all of `/proc` where that is asked for.
async fn profiles(lab: &Lab) {
    let folder = lab.config.root_dir.join("seccomp");
    std::fs::create_dir_all(&folder).unwrap();
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
    std::fs::write(folder.join("no-mkdir.json"), profile.to_string()).unwrap();
    let confined = |file: &str| {
        json!({"restartPolicy": "Never", "containers": [{"name": "a",
            "command": ["sh", "-c", "mkdir /tmp/x 2>/dev/null || echo denied; grep -c ' /proc/sys ' /proc/mounts; true"],
            "securityContext": {"procMount": "Unmasked",
                "seccompProfile": {"type": "Localhost", "localhostProfile": file}}}]})
    };
    lab.pod("confined", confined("no-mkdir.json")).await;
    lab.pod("unconfined", confined("none.json")).await;
    lab.phase("confined", "Succeeded").await;
    let said = lab.logs("confined", &LogParams::default()).await;
    assert_eq!(said, "denied\n0\n");
    let pod = lab
        .pod_where("unconfined", "refused", |p| {
            container(p, "a")["state"]["waiting"]["reason"] == "CreateContainerError"
        })
        .await;
    let message = container(&pod, "a")["state"]["waiting"]["message"].to_string();
    assert!(message.contains("none.json"), "{message}");
}

#[test]
fn a_status_says_of_which_generation_it_is() {
    on_a_node(async |lab| {
        lab.pod(
            "web",
            json!({"terminationGracePeriodSeconds": 1, "activeDeadlineSeconds": 5000,
            "containers": [{"name": "a", "command": ["sleep", "1000"]}]}),
        )
        .await;
        lab.ready("web").await;
        for (generation, seconds) in [(2, 4999), (3, 4998)] {
            let fewer = json!({"spec": {"activeDeadlineSeconds": seconds}});
            let params = kube::api::PatchParams::default();
            let pod = lab
                .pods()
                .patch("web", &params, &kube::api::Patch::Merge(fewer))
                .await
                .unwrap();
            assert_eq!(pod.metadata.generation, Some(generation));
            lab.pod_where("web", "its generation is observed", |pod| {
                pod.status.as_ref().and_then(|status| status.observed_generation) == Some(generation)
            })
            .await;
        }
        lab.delete("web", &DeleteParams::default()).await;
    });
}
