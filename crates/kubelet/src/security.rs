//! What a container's processes may do: the pod's wishes under the container's.

use cri::message::{
    Capability, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    ProfileType, SecurityProfile,
};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext,
};

use crate::pod;

/// Parts of /proc and /sys that tell of the machine, hidden by default.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// Parts of /proc that change the machine, not writable by default.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The user that an image names for its process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageUser {
    pub(crate) uid: Option<i64>,
    pub(crate) name: String,
}

fn of_pod(pod: &Pod) -> PodSecurityContext {
    pod::spec(pod).security_context.clone().unwrap_or_default()
}

fn of_container(container: &Container) -> SecurityContext {
    container.security_context.clone().unwrap_or_default()
}

/// Which namespaces the pod shares, and with whom.
pub(crate) fn namespaces(pod: &Pod) -> NamespaceOption {
    let spec = pod::spec(pod);
    let on = |flag: Option<bool>| flag.unwrap_or(false);
    let mode = |node: bool, otherwise: NamespaceMode| {
        let mode = if node { NamespaceMode::Node } else { otherwise };
        mode as i32
    };
    let own_pid = if on(spec.share_process_namespace) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: mode(pod::host_network(pod), NamespaceMode::Pod),
        pid: mode(on(spec.host_pid), own_pid),
        ipc: mode(on(spec.host_ipc), NamespaceMode::Pod),
        target_id: String::new(),
    }
}

pub(crate) fn is_privileged(container: &Container) -> bool {
    let context = container.security_context.as_ref();
    context.and_then(|c| c.privileged).unwrap_or(false)
}

fn profile(wanted: Option<&SeccompProfile>) -> SecurityProfile {
    let (profile_type, localhost_ref) = match wanted.map(|p| p.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let name = wanted.and_then(|p| p.localhost_profile.clone());
            (ProfileType::Localhost, name.unwrap_or_default())
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    SecurityProfile {
        profile_type: profile_type as i32,
        localhost_ref,
    }
}

/// The container's AppArmor profile, or else the pod's.
fn app_armor<'a>(shared: &'a PodSecurityContext, own: &'a SecurityContext) -> Option<&'a AppArmorProfile> {
    own.app_armor_profile
        .as_ref()
        .or(shared.app_armor_profile.as_ref())
}

/// Whether any container of the pod is to be confined by AppArmor.
pub(crate) fn wants_app_armor(pod: &Pod) -> bool {
    let shared = of_pod(pod);
    pod::all_containers(pod).any(|container| {
        let own = of_container(container);
        app_armor(&shared, &own).is_some_and(|profile| profile.type_ != "Unconfined")
    })
}

fn app_armor_profile(wanted: &AppArmorProfile) -> SecurityProfile {
    let profile_type = match wanted.type_.as_str() {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    SecurityProfile {
        profile_type: profile_type as i32,
        localhost_ref: wanted.localhost_profile.clone().unwrap_or_default(),
    }
}

/// The groups of all the pod's processes, the volumes' owner among them.
fn groups(context: &PodSecurityContext) -> Vec<i64> {
    let mut groups = context.supplemental_groups.clone().unwrap_or_default();
    groups.extend(context.fs_group);
    groups
}

/// For the sandbox's own process. A privileged container needs a privileged
/// sandbox around it.
pub(crate) fn of_sandbox(pod: &Pod) -> LinuxSandboxSecurityContext {
    let context = of_pod(pod);
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: context.run_as_user.map(Into::into),
        // The runtime refuses a group without a user.
        run_as_group: context.run_as_user.and(context.run_as_group).map(Into::into),
        supplemental_groups: groups(&context),
        privileged: pod::all_containers(pod).any(is_privileged),
        seccomp: Some(SecurityProfile {
            profile_type: ProfileType::RuntimeDefault as i32,
            localhost_ref: String::new(),
        }),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// For one container.
pub(crate) fn of(pod: &Pod, container: &Container, image: &ImageUser) -> LinuxContainerSecurityContext {
    let shared = of_pod(pod);
    let own = of_container(container);
    let privileged = own.privileged.unwrap_or(false);
    let user = own.run_as_user.or(shared.run_as_user).or(image.uid);
    let group = own.run_as_group.or(shared.run_as_group);
    let bare = own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| -> Vec<String> {
        let hidden = !privileged && !bare;
        list.iter().filter(|_| hidden).map(|p| (*p).to_owned()).collect()
    };
    let app_armor = app_armor(&shared, &own).filter(|_| !privileged);
    let app_armor = app_armor.map(app_armor_profile);
    let seccomp = own.seccomp_profile.as_ref().or(shared.seccomp_profile.as_ref());
    LinuxContainerSecurityContext {
        capabilities: own.capabilities.map(|c| Capability {
            add_capabilities: c.add.unwrap_or_default(),
            drop_capabilities: c.drop.unwrap_or_default(),
        }),
        privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user: user.map(Into::into),
        run_as_username: if user.is_none() {
            image.name.clone()
        } else {
            String::new()
        },
        run_as_group: group.map(Into::into),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(&shared),
        // Privileged processes and new privileges go together.
        no_new_privs: !own.allow_privilege_escalation.unwrap_or(true) && !privileged,
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(if privileged {
            profile(None)
        } else {
            profile(seccomp)
        }),
        apparmor: app_armor,
    }
}

/// Whether the container keeps its promise not to run as root; the error is
/// Kubernetes' wording.
pub(crate) fn verify_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let shared = of_pod(pod);
    let own = of_container(container);
    if !own.run_as_non_root.or(shared.run_as_non_root).unwrap_or(false) {
        return Ok(());
    }
    let whose = || {
        let meta = &pod.metadata;
        let name = meta.name.as_deref().unwrap_or_default();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let uid = meta.uid.as_deref().unwrap_or_default();
        format!(
            "(pod: \"{name}_{namespace}({uid})\", container: {})",
            container.name
        )
    };
    match own.run_as_user.or(shared.run_as_user) {
        Some(0) => Err(format!(
            "container's runAsUser breaks non-root policy {}",
            whose()
        )),
        Some(_) => Ok(()),
        None if image.uid == Some(0) => Err(format!(
            "container has runAsNonRoot and image will run as root {}",
            whose()
        )),
        None if image.uid.is_none() && !image.name.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {}",
            image.name,
            whose()
        )),
        None if image.uid.is_none() => Err(format!(
            "container has runAsNonRoot and image will run as root {}",
            whose()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;
    use serde_json::json;

    fn subject(pod_context: serde_json::Value, own: serde_json::Value) -> (Pod, Container) {
        let it = pod(json!({"spec": {"securityContext": pod_context,
            "containers": [{"name": "a", "securityContext": own}]}}));
        let container = it.spec.as_ref().unwrap().containers[0].clone();
        (it, container)
    }

    #[test]
    fn the_container_overrides_the_pod() {
        let (it, container) = subject(
            json!({"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000, "supplementalGroups": [5],
                   "seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"runAsUser": 7, "allowPrivilegeEscalation": false,
                   "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}),
        );
        let context = of(&it, &container, &ImageUser::default());
        assert_eq!(context.run_as_user, Some(7.into()));
        assert_eq!(context.run_as_group, Some(1000.into()));
        assert_eq!(context.supplemental_groups, [5, 2000]);
        assert!(context.no_new_privs);
        assert_eq!(
            context.seccomp.unwrap().profile_type,
            ProfileType::RuntimeDefault as i32
        );
        assert_eq!(context.capabilities.unwrap().drop_capabilities, ["ALL"]);
        assert!(context.masked_paths.contains(&"/proc/kcore".to_owned()));
    }

    #[test]
    fn privileged_hides_nothing_and_needs_a_privileged_sandbox() {
        let (it, container) = subject(json!({}), json!({"privileged": true}));
        let context = of(&it, &container, &ImageUser::default());
        assert!(context.privileged && context.masked_paths.is_empty() && !context.no_new_privs);
        assert!(of_sandbox(&it).privileged);
    }

    #[test]
    fn an_image_of_root_breaks_run_as_non_root() {
        let (it, container) = subject(json!({"runAsNonRoot": true}), json!({}));
        let root = ImageUser {
            uid: Some(0),
            name: String::new(),
        };
        insta::assert_snapshot!(verify_non_root(&it, &container, &root).unwrap_err(),
            @r#"container has runAsNonRoot and image will run as root (pod: "web_default(u-1)", container: a)"#);
        let numeric = ImageUser {
            uid: Some(65532),
            name: String::new(),
        };
        assert_eq!(verify_non_root(&it, &container, &numeric), Ok(()));
    }
}
