use kube::api::DeleteParams;
use serde_json::json;

use crate::lab::{container, on_a_node};

fn sleeper() -> serde_json::Value {
    json!({"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "a", "command": ["sleep", "1000"],
         "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}]})
}

#[test]
fn a_restarted_kubelet_disturbs_nothing_and_catches_up() {
    on_a_node(async |lab| {
        for name in ["stays", "goes", "vanishes"] {
            lab.pod(name, sleeper()).await;
        }
        for name in ["stays", "goes", "vanishes"] {
            lab.ready(name).await;
        }
        let before = lab.pods().get("stays").await.unwrap();
        lab.stop_kubelet().await;
        lab.pods().delete("goes", &DeleteParams::default()).await.unwrap();
        // Nobody is there to confirm: the object is gone before its containers are.
        lab.pods()
            .delete("vanishes", &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
        // As a kubelet leaves it that is killed while it removes a pod.
        let half = lab.config.root_dir.join("pods/half-removed/volumes");
        std::fs::create_dir_all(&half).unwrap();
        lab.start_kubelet();
        lab.gone("goes").await;
        lab.eventually("what was left behind is gone", || async {
            (!half.parent().unwrap().exists()).then_some(())
        })
        .await;
        lab.eventually("only one pod is left", || async {
            let sandboxes = lab.cri.list_pod_sandbox(Default::default()).await.unwrap();
            (sandboxes.len() == 1).then_some(())
        })
        .await;
        let after = lab.ready("stays").await;
        assert_eq!(container(&after, "a"), container(&before, "a"));
        let since = |pod: &k8s_openapi::api::core::v1::Pod| {
            pod.status
                .clone()
                .unwrap()
                .conditions
                .unwrap()
                .into_iter()
                .find(|c| c.type_ == "Ready")
                .unwrap()
        };
        assert_eq!(
            since(&after).last_transition_time,
            since(&before).last_transition_time
        );
        lab.delete("stays", &DeleteParams::default()).await;
        lab.nothing_left().await;
    });
}

#[test]
fn a_restarted_runtime_disturbs_nothing() {
    on_a_node(async |lab| {
        lab.pod("web", sleeper()).await;
        let before = lab.ready("web").await;
        lab.kill_containerd();
        lab.start_containerd().await;
        lab.pod("new", sleeper()).await;
        lab.ready("new").await;
        let after = lab.ready("web").await;
        assert_eq!(
            container(&after, "a")["containerID"],
            container(&before, "a")["containerID"]
        );
    });
}

#[test]
fn a_dead_sandbox_is_replaced_and_restarts_count_on() {
    on_a_node(async |lab| {
        lab.pod("web", sleeper()).await;
        let before = lab.ready("web").await;
        // As after a reboot: everything of the pod is dead when the kubelet comes.
        lab.stop_kubelet().await;
        let sandbox = lab
            .cri
            .list_pod_sandbox(Default::default())
            .await
            .unwrap()
            .remove(0);
        lab.cri.stop_pod_sandbox(&sandbox.id).await.unwrap();
        lab.start_kubelet();
        let after = lab
            .pod_where("web", "it runs again", |p| {
                container(p, "a")["restartCount"] == 1 && container(p, "a")["ready"] == true
            })
            .await;
        assert_ne!(after.status.unwrap().pod_ip, before.status.unwrap().pod_ip);
        lab.event("web", "SandboxChanged").await;
        lab.delete("web", &DeleteParams::default()).await;
        lab.nothing_left().await;
    });
}

#[test]
fn pods_wait_for_the_nodes_network() {
    on_a_node(async |lab| {
        lab.gate.set(Err("the link is down".to_owned()));
        lab.pod("web", sleeper()).await;
        let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(lab.client.clone());
        lab.eventually("the node says why it isn't Ready", || async {
            let node = nodes.get(crate::lab::NODE).await.unwrap();
            let ready = node
                .status?
                .conditions?
                .into_iter()
                .find(|c| c.type_ == "Ready")?;
            (ready.status == "False" && ready.message.as_deref() == Some("the link is down")).then_some(())
        })
        .await;
        let pod = lab.pods().get("web").await.unwrap();
        assert_eq!(pod.status.unwrap().pod_ip, None);
        lab.gate.set(Ok(()));
        lab.ready("web").await;
    });
}
