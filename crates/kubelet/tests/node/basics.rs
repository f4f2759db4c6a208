use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use kube::api::{DeleteParams, LogParams, Patch, PatchParams};
use serde_json::json;

use crate::lab::{NODE, condition, container, on_a_node};

#[test]
fn a_node_registers_and_renews_its_lease() {
    on_a_node(async |lab| {
        let nodes: Api<Node> = Api::all(lab.client.clone());
        let node = nodes.get(NODE).await.unwrap();
        let status = node.status.unwrap();
        let info = status.node_info.unwrap();
        assert!(
            info.container_runtime_version.starts_with("containerd://"),
            "{info:?}"
        );
        assert_eq!(info.kubelet_version, "v1.36.0+ripstop");
        assert_eq!(status.capacity.unwrap()["pods"].0, "110");
        // Another start takes the Node over and leaves one of everything.
        lab.stop_kubelet().await;
        lab.start_kubelet();
        lab.event(NODE, "NodeReady").await;
        let again = nodes.get(NODE).await.unwrap();
        assert_eq!(again.metadata.uid, node.metadata.uid);
        let status = again.status.unwrap();
        let addresses: Vec<_> = status.addresses.unwrap().into_iter().map(|a| a.type_).collect();
        assert_eq!(addresses, ["InternalIP", "Hostname"]);
        let conditions: Vec<_> = status.conditions.unwrap().into_iter().map(|c| c.type_).collect();
        assert_eq!(
            conditions,
            ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]
        );
        assert_eq!(node.metadata.labels.unwrap()["kubernetes.io/hostname"], NODE);
        let leases: Api<Lease> = Api::namespaced(lab.client.clone(), "kube-node-lease");
        let lease = lab
            .eventually("a Lease", || async { leases.get_opt(NODE).await.unwrap() })
            .await;
        assert_eq!(
            lease.metadata.owner_references.unwrap()[0].uid,
            node.metadata.uid.unwrap()
        );
    });
}

#[test]
fn a_pod_runs_answers_and_goes_without_a_trace() {
    on_a_node(async |lab| {
        lab.pod("web", json!({"terminationGracePeriodSeconds": 2, "containers": [{"name": "a",
            "command": ["sh", "-c", "echo hello from $POD $MISSING; hostname; cat /etc/hosts; trap 'exit 0' TERM; while :; do sleep 0.1; done"],
            "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}]}))
            .await;
        let pod = lab.ready("web").await;
        let status = pod.status.clone().unwrap();
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert!(status.pod_ip.as_deref().unwrap().starts_with("10.9."));
        assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
        for kind in [
            "Initialized",
            "ContainersReady",
            "PodReadyToStartContainers",
            "PodScheduled",
        ] {
            assert_eq!(condition(&pod, kind).as_deref(), Some("True"), "{kind}");
        }
        let logs = lab.logs("web", &LogParams::default()).await;
        assert!(
            logs.starts_with("hello from web\nweb\n# Kubernetes-managed hosts file.\n"),
            "{logs}"
        );
        assert!(
            logs.contains(&format!("{}\tweb\n", status.pod_ip.unwrap())),
            "{logs}"
        );
        for reason in ["Pulled", "Created", "Started"] {
            lab.event("web", reason).await;
        }
        lab.delete("web", &DeleteParams::default()).await;
        lab.nothing_left().await;
    });
}

#[test]
fn jobs_end_by_their_restart_policy() {
    on_a_node(async |lab| {
        for (name, policy, script) in [
            ("good", "Never", "exit 0"),
            ("bad", "Never", "echo oh no > /dev/termination-log; exit 3"),
            (
                "retry",
                "OnFailure",
                "test -e /data/again || { touch /data/again; exit 1; }",
            ),
        ] {
            lab.pod(
                name,
                json!({"restartPolicy": policy,
                "volumes": [{"name": "data", "emptyDir": {}}],
                "containers": [{"name": "a", "command": ["sh", "-c", script],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}),
            )
            .await;
        }
        lab.phase("good", "Succeeded").await;
        let bad = lab.phase("bad", "Failed").await;
        let ended = &container(&bad, "a")["state"]["terminated"];
        assert_eq!(
            (ended["exitCode"].as_i64(), ended["reason"].as_str()),
            (Some(3), Some("Error"))
        );
        assert_eq!(ended["message"], "oh no\n");
        let retry = lab.phase("retry", "Succeeded").await;
        assert_eq!(container(&retry, "a")["restartCount"], 1);
        // What is over keeps its log, and its address is shown still.
        assert!(retry.status.unwrap().pod_ip.is_some());
        for name in ["good", "bad", "retry"] {
            lab.delete(name, &DeleteParams::default()).await;
        }
        lab.nothing_left().await;
    });
}

#[test]
fn init_containers_run_first_and_sidecars_stay() {
    on_a_node(async |lab| {
        lab.pod(
            "web",
            json!({"terminationGracePeriodSeconds": 1, "restartPolicy": "Never",
            "volumes": [{"name": "data", "emptyDir": {}}],
            "initContainers": [
                {"name": "proxy", "restartPolicy": "Always", "command": ["sleep", "1000"]},
                {"name": "setup", "command": ["sh", "-c", "echo ready > /data/state"],
                 "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "containers": [{"name": "a", "command": ["sh", "-c", "cat /data/state; sleep 1"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}),
        )
        .await;
        let pod = lab.phase("web", "Running").await;
        assert_eq!(container(&pod, "proxy")["started"], true);
        let params = LogParams {
            container: Some("a".into()),
            ..LogParams::default()
        };
        assert_eq!(lab.logs("web", &params).await, "ready\n");
        // The sidecar doesn't keep the pod from ending.
        lab.phase("web", "Succeeded").await;
    });
}

#[test]
fn a_missing_secret_is_waited_for() {
    on_a_node(async |lab| {
        lab.create::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"color": "blue"}}))
            .await;
        lab.pod(
            "web",
            json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "a",
            "command": ["sh", "-c", "echo $COLOR $TOKEN; sleep 1000"],
            "envFrom": [{"configMapRef": {"name": "settings"}}],
            "env": [
                {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}]}]}),
        )
        .await;
        let waits = lab
            .pod_where("web", "waits", |p| {
                container(p, "a")["state"]["waiting"]["reason"] == "CreateContainerConfigError"
            })
            .await;
        assert_eq!(
            container(&waits, "a")["state"]["waiting"]["message"],
            "secret \"keys\" not found"
        );
        assert_eq!(
            lab.event("web", "Failed").await,
            "Error: secret \"keys\" not found"
        );
        lab.create::<Secret>(json!({"metadata": {"name": "keys"}, "stringData": {"token": "s3cret"}}))
            .await;
        lab.ready("web").await;
        assert_eq!(lab.logs("web", &LogParams::default()).await, "blue s3cret\n");
    });
}

#[test]
fn an_image_that_cannot_be_had_is_backed_off_from() {
    on_a_node(async |lab| {
        let missing = "localhost:1/none:1";
        lab.pod(
            "never",
            json!({"containers": [{"name": "a", "image": missing, "imagePullPolicy": "Never"}]}),
        )
        .await;
        lab.pod("pull", json!({"containers": [{"name": "a", "image": missing}]}))
            .await;
        lab.pod(
            "odd",
            json!({"containers": [{"name": "a", "image": "Not/An Image"}]}),
        )
        .await;
        for (name, reason) in [
            ("never", "ErrImageNeverPull"),
            ("pull", "ErrImagePull"),
            ("pull", "ImagePullBackOff"),
            ("odd", "InvalidImageName"),
        ] {
            lab.pod_where(name, reason, |p| {
                container(p, "a")["state"]["waiting"]["reason"] == reason
            })
            .await;
        }
        let failed = lab.event("pull", "Failed").await;
        assert!(
            failed.starts_with("Failed to pull image \"localhost:1/none:1\": rpc error: code = "),
            "{failed}"
        );
        lab.event("pull", "BackOff").await;
        for name in ["never", "pull", "odd"] {
            lab.delete(name, &DeleteParams::default()).await;
        }
        lab.nothing_left().await;
    });
}

/// The runtime would say so again and again, and name neither the annotation nor the cure.
#[test]
fn a_rate_that_cannot_be_is_told_once_and_the_pod_waits_for_its_correction() {
    on_a_node(async |lab| {
        lab.create::<Pod>(json!({
            "metadata": {"name": "slow", "annotations": {"kubernetes.io/egress-bandwidth": "10m"}},
            "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "a", "image": crate::image::IMAGE, "command": ["sleep", "1000"]}]},
        }))
        .await;
        let said = lab.event("slow", "FailedCreatePodSandBox").await;
        assert!(
            said.contains(r#"kubernetes.io/egress-bandwidth is "10m""#),
            "{said}"
        );
        let annotate = async |patch| {
            let patch = Patch::Merge(json!({"metadata": {"annotations": patch}}));
            lab.pods()
                .patch("slow", &PatchParams::default(), &patch)
                .await
                .unwrap();
        };
        // Another one about something else says nothing new.
        annotate(json!({"example.com/note": "a"})).await;
        annotate(json!({"kubernetes.io/ingress-bandwidth": "fast"})).await;
        lab.eventually("both are told", || async {
            let events = lab.events("slow").await;
            (events.len() == 2 && events.iter().any(|(_, said)| said.contains("ingress"))).then_some(())
        })
        .await;
        annotate(json!({"kubernetes.io/ingress-bandwidth": null, "kubernetes.io/egress-bandwidth": "10M"}))
            .await;
        lab.ready("slow").await;
        let failures = lab.events("slow").await.into_iter();
        assert_eq!(
            failures
                .filter(|(reason, _)| reason == "FailedCreatePodSandBox")
                .count(),
            2
        );
    });
}

#[test]
fn a_runtime_class_stands_for_its_handler() {
    on_a_node(async |lab| {
        let classes: Api<RuntimeClass> = Api::all(lab.client.clone());
        for (name, handler) in [("ordinary", "runc"), ("special", "no-such-runtime")] {
            let class = json!({"metadata": {"name": name}, "handler": handler});
            let class = serde_json::from_value(class).unwrap();
            classes.create(&Default::default(), &class).await.unwrap();
            let mut spec = json!({"terminationGracePeriodSeconds": 1,
                "containers": [{"name": "a", "command": ["sleep", "1000"]}]});
            spec["runtimeClassName"] = name.into();
            lab.pod(name, spec).await;
        }
        lab.ready("ordinary").await;
        let why = lab.event("special", "FailedCreatePodSandBox").await;
        assert!(why.contains("\"no-such-runtime\""), "{why}");
        // Its class gone: the pod that was let in says what it waits for.
        classes.delete("special", &Default::default()).await.unwrap();
        lab.eventually("it says that its class is gone", || async {
            let gone = "failed to get sandbox runtime: RuntimeClass \"special\" not found";
            let events = lab.events("special").await;
            events.iter().any(|(_, why)| why.contains(gone)).then_some(())
        })
        .await;
        for name in ["ordinary", "special"] {
            lab.delete(name, &DeleteParams::default()).await;
        }
        lab.nothing_left().await;
    });
}
