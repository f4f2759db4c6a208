//! What the runtime is told about one container. Pure: Pod → CRI.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cri::message::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, Mount, NamespaceMode,
    ProfileType,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use sha2::{Digest, Sha256};

use crate::env::Env;
use crate::expand::expand;
use crate::pod::{self, PodKey, label};
use crate::resources::linux_resources;
use crate::sandbox;
use crate::security::{self, ImageUser};

/// Where a container's last words go unless the pod says otherwise.
pub(crate) const MESSAGE_PATH: &str = "/dev/termination-log";

/// What was found out before a container can be described.
pub(crate) struct Prepared {
    /// How often the container was started before.
    pub(crate) restart_count: u32,
    /// The image's id on this node.
    pub(crate) image_ref: String,
    pub(crate) image_user: ImageUser,
    pub(crate) env: Env,
    /// Volumes, the hosts file and the like, in the order to be mounted.
    pub(crate) mounts: Vec<Mount>,
    pub(crate) machine_memory: i64,
    /// Where the files of seccomp profiles are.
    pub(crate) seccomp_dir: PathBuf,
    /// The run whose processes the container sees, instead of its own alone.
    pub(crate) target: Option<String>,
}

/// Changes when the container must be replaced: its image is all that may
/// change in a pod that exists.
pub(crate) fn hash(container: &Container) -> String {
    let mut hasher = Sha256::new();
    hasher.update(container.name.as_bytes());
    hasher.update([0]);
    hasher.update(container.image.as_deref().unwrap_or_default().as_bytes());
    let digest = hasher.finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A container's log file, relative to its pod's folder of logs.
pub(crate) fn log_path(container: &str, restart_count: u32) -> PathBuf {
    PathBuf::from(container).join(format!("{restart_count}.log"))
}

/// The container's configuration.
pub(crate) fn container_config(pod: &Pod, container: &Container, prepared: Prepared) -> ContainerConfig {
    let key = PodKey::of(pod);
    let lookup: BTreeMap<&str, &str> = prepared
        .env
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let words = |list: &Option<Vec<String>>| -> Vec<String> {
        let list = list.iter().flatten();
        list.map(|word| expand(word, |name| lookup.get(name).copied()))
            .collect()
    };
    let mut labels = sandbox::identity(&key);
    labels.insert(label::CONTAINER_NAME.into(), container.name.clone());
    let mut security_context = security::of(pod, container, &prepared.image_user);
    if let (Some(target), Some(options)) = (prepared.target, &mut security_context.namespace_options) {
        options.pid = NamespaceMode::Target as i32;
        options.target_id = target;
    }
    if let Some(profile) = &mut security_context.seccomp
        && profile.profile_type == ProfileType::Localhost as i32
    {
        // Pods name a file below the node's folder; the runtime wants all of the path.
        let path = prepared.seccomp_dir.join(&profile.localhost_ref);
        profile.localhost_ref = path.to_string_lossy().into_owned();
    }
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: container.name.clone(),
            attempt: prepared.restart_count,
        }),
        image: Some(ImageSpec {
            image: prepared.image_ref,
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        }),
        command: words(&container.command),
        args: words(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        labels,
        annotations: annotations(pod, container, prepared.restart_count),
        log_path: log_path(&container.name, prepared.restart_count)
            .to_string_lossy()
            .into_owned(),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(LinuxContainerConfig {
            resources: Some(linux_resources(pod, container, prepared.machine_memory)),
            security_context: Some(security_context),
        }),
        envs: prepared
            .env
            .into_iter()
            .map(|(key, value)| KeyValue {
                key,
                value: value.into_bytes(),
            })
            .collect(),
        mounts: prepared.mounts,
        devices: Vec::new(),
    }
}

/// What a later look at the container needs to know, the pod's object being
/// gone perhaps.
fn annotations(pod: &Pod, container: &Container, restart_count: u32) -> BTreeMap<String, String> {
    let message_path = container
        .termination_message_path
        .as_deref()
        .unwrap_or(MESSAGE_PATH);
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    BTreeMap::from([
        (label::HASH.into(), hash(container)),
        (label::RESTART_COUNT.into(), restart_count.to_string()),
        (label::MESSAGE_PATH.into(), message_path.to_owned()),
        (label::MESSAGE_POLICY.into(), policy.to_owned()),
        (label::GRACE.into(), pod::grace(pod).as_secs().to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;
    use serde_json::json;

    #[test]
    fn a_container_in_full() {
        let it = pod(
            json!({"spec": {"terminationGracePeriodSeconds": 5, "containers": [{
            "name": "a", "image": "localhost/ripstop/toolbox:1",
            "command": ["sh", "-c", "echo $(GREETING) $(NOBODY)"], "args": ["$(GREETING)"],
            "workingDir": "/srv", "stdin": true,
            "resources": {"limits": {"memory": "64Mi"}},
            "securityContext": {"readOnlyRootFilesystem": true}}]}}),
        );
        let container = it.spec.as_ref().unwrap().containers[0].clone();
        let prepared = Prepared {
            restart_count: 2,
            image_ref: "sha256:feed".into(),
            image_user: ImageUser {
                uid: Some(0),
                name: String::new(),
            },
            env: vec![("GREETING".into(), "hello".into())],
            mounts: vec![Mount {
                container_path: "/data".into(),
                host_path: "/var/lib/n/pods/u-1/volumes/x".into(),
                ..Mount::default()
            }],
            machine_memory: 1 << 34,
            seccomp_dir: "/var/lib/n/seccomp".into(),
            target: None,
        };
        insta::assert_debug_snapshot!(container_config(&it, &container, prepared));
    }

    #[test]
    fn only_a_new_image_replaces_a_container() {
        let mut container = Container {
            name: "a".into(),
            image: Some("x:1".into()),
            ..Default::default()
        };
        let before = hash(&container);
        container.working_dir = Some("/elsewhere".into());
        assert_eq!(hash(&container), before);
        container.image = Some("x:2".into());
        assert_ne!(hash(&container), before);
    }
}
