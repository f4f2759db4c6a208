//! What the runtime lost track of is found and removed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use cri::message::{
    ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig, LinuxPodSandboxConfig,
    PodSandboxConfig, PodSandboxMetadata,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use nix::mount::{MsFlags, mount};
use rstest::rstest;
use serde_json::{Value, json};

use crate::image;
use crate::lab::{Lab, container, on_a_node};

fn sleeper() -> Value {
    json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "a", "command": ["sleep", "1000"]}]})
}

/// A task's folder as a containerd leaves it that is killed while it makes it: mounted, and without what the
/// shim wants in order to take it down.
fn half_made(lab: &Lab) {
    let id = "c0ffee".repeat(8);
    let group = format!("{}/kubepods/podhalf-made/{id}", lab.config.cgroup_root);
    let dir = lab.tasks_dir().join(&id);
    let root = dir.join("rootfs");
    fs::create_dir_all(&root).unwrap();
    mount(None::<&str>, &root, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let spec = json!({"ociVersion": "1.0.2", "linux": {"cgroupsPath": group}});
    fs::write(dir.join("config.json"), spec.to_string()).unwrap();
    fs::write(dir.join("shim-binary-path"), "/usr/bin/containerd-shim-runc-v2").unwrap();
}

#[test]
fn nothing_stays_of_what_containerd_forgot() {
    on_a_node(async |lab| {
        lab.pod("web", sleeper()).await;
        lab.phase("web", "Running").await;
        lab.stop_kubelet().await;
        lab.kill_containerd();
        lab.lose_database();
        half_made(lab);
        assert_eq!(lab.tasks().len(), 3, "a sandbox, a container, a half");
        lab.start_containerd().await;
        lab.load_image();
        let sandboxes = lab.cri.list_pod_sandbox(Default::default()).await.unwrap();
        assert_eq!(sandboxes, [], "containerd knows of none");
        lab.pods()
            .delete("web", &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
        lab.start_kubelet();
        lab.nothing_left().await;
    });
}

#[rstest]
#[case::seen_by_a_list(200)]
#[case::before_a_list_saw_them(3_000)]
fn a_pod_whose_containers_containerd_forgot_can_be_deleted(#[case] relist_millis: u64) {
    on_a_node(async |lab| {
        lab.stop_kubelet().await;
        lab.config.relist_millis = relist_millis;
        lab.start_kubelet();
        lab.pod("web", sleeper()).await;
        let before = lab.phase("web", "Running").await;
        lab.kill_containerd();
        lab.lose_database();
        lab.start_containerd().await;
        lab.load_image();
        let id = |pod: &Pod| container(pod, "a")["containerID"].clone();
        lab.pod_where("web", "it runs anew", |pod| {
            container(pod, "a")["ready"] == true && id(pod) != id(&before)
        })
        .await;
        lab.delete("web", &DeleteParams::default()).await;
        lab.nothing_left().await;
    });
}

/// What looks like a shim whose task's folder is gone: one stays that was being started when containerd was
/// killed. A real one would need that moment.
fn stray_shim(lab: &Lab) -> Child {
    Command::new("sh")
        .arg0("containerd-shim-runc-v2")
        .args(["-c", "read line", "shim", "-id", "decade", "-address"])
        .arg(&lab.config.cri_socket)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_shim_that_serves_nothing_is_ended() {
    on_a_node(async |lab| {
        lab.pod("web", sleeper()).await;
        lab.phase("web", "Running").await;
        let mut shim = stray_shim(lab);
        lab.eventually("the shim is gone", || {
            let ended = shim.try_wait().unwrap();
            async move { ended }
        })
        .await;
        let pod = lab.phase("web", "Running").await;
        assert_eq!(
            container(&pod, "a")["restartCount"],
            0,
            "the pod's own shim stays"
        );
        lab.delete("web", &DeleteParams::default()).await;
        lab.nothing_left().await;
    });
}

/// A container in the pod's sandbox that nobody but the test knows.
async fn create(lab: &Lab, sandbox: &str, uid: &str) -> String {
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "other".to_owned(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: image::IMAGE.to_owned(),
            ..ImageSpec::default()
        }),
        command: vec!["sleep".to_owned(), "1000".to_owned()],
        linux: Some(LinuxContainerConfig::default()),
        ..ContainerConfig::default()
    };
    let of_pod = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata::default()),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("{}/kubepods/pod{uid}", lab.config.cgroup_root),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    };
    let created = lab.cri.create_container(sandbox, config, of_pod);
    created.await.unwrap()
}

#[test]
fn a_container_with_a_task_that_the_runtime_takes_for_none_can_be_removed() {
    on_a_node(async |lab| {
        lab.pod("web", sleeper()).await;
        let pod = lab.phase("web", "Running").await;
        let sandboxes = lab.cri.list_pod_sandbox(Default::default()).await.unwrap();
        let id = create(lab, &sandboxes[0].id, &pod.metadata.uid.unwrap()).await;
        // As it is when the caller of StartContainer goes away at the wrong moment: containerd has the task,
        // and its CRI doesn't know.
        lab.ctr(&["tasks", "start", "--detach", "--null-io", &id]);
        assert_eq!(lab.tasks().len(), 3);
        lab.cri.remove_container(&id).await.unwrap();
        assert_eq!(lab.tasks().len(), 2);
        lab.delete("web", &DeleteParams::default()).await;
        lab.nothing_left().await;
    });
}
