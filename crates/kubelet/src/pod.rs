//! Short answers to questions about a Pod object.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, ObjectReference, Pod, PodSpec};

/// Labels and annotations of sandboxes and containers: what ties them to
/// their pods, under the names that Kubernetes' own kubelet and tools use.
pub(crate) mod label {
    pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
    pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
    pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    pub(crate) const HASH: &str = "io.kubernetes.container.hash";
    pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    pub(crate) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    pub(crate) const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
}

/// What Kubernetes gives a pod to end when nobody says otherwise.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Which pod: its name, and the identity behind the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl PodKey {
    pub(crate) fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }

    /// The folder of the pod's logs, below the node's.
    pub(crate) fn log_dir_name(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }

    /// What an event is about: the pod, or one of its containers.
    pub(crate) fn reference(&self, field_path: Option<String>) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: Some(self.uid.clone()),
            field_path,
            ..ObjectReference::default()
        }
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}({})", self.name, self.namespace, self.uid)
    }
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    fn named(name: &str) -> Self {
        match name {
            "Never" => Self::Never,
            "OnFailure" => Self::OnFailure,
            _ => Self::Always,
        }
    }
}

pub(crate) fn restart_policy(pod: &Pod) -> RestartPolicy {
    RestartPolicy::named(spec(pod).restart_policy.as_deref().unwrap_or_default())
}

/// Whether a container of the pod that ended with `code` is started again. Its own rules come before its own
/// policy, and that before the pod's (KEP-5307). Sidecars are never asked for.
pub(crate) fn restarts(pod: &Pod, container: &Container, code: i32) -> bool {
    let rules = container.restart_policy_rules.iter().flatten();
    let applies = rules.filter(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.as_ref().is_some_and(|values| values.contains(&code));
            listed == (codes.operator == "In")
        })
    });
    if applies.into_iter().next().is_some() {
        // Restarting is the one action that there is.
        return true;
    }
    let policy = match container.restart_policy.as_deref() {
        Some(own) => RestartPolicy::named(own),
        None => restart_policy(pod),
    };
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    }
}

/// The pod's spec; a pod without one (which no API server hands out) has none
/// of everything.
pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

pub(crate) fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// An init container that stays: it is up before the next one starts, and
/// ends after the others.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Every container that the pod came with, in the order they start.
pub(crate) fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    init_containers(pod).iter().chain(&spec(pod).containers)
}

/// Those that were added to the pod while it ran: each is started once.
pub(crate) fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod).ephemeral_containers.as_deref().unwrap_or_default()
}

/// An ephemeral container as a container like any other, of which it has a part.
pub(crate) fn as_container(it: &EphemeralContainer) -> Container {
    Container {
        name: it.name.clone(),
        image: it.image.clone(),
        image_pull_policy: it.image_pull_policy.clone(),
        command: it.command.clone(),
        args: it.args.clone(),
        working_dir: it.working_dir.clone(),
        env: it.env.clone(),
        env_from: it.env_from.clone(),
        volume_mounts: it.volume_mounts.clone(),
        volume_devices: it.volume_devices.clone(),
        security_context: it.security_context.clone(),
        stdin: it.stdin,
        stdin_once: it.stdin_once,
        tty: it.tty,
        termination_message_path: it.termination_message_path.clone(),
        termination_message_policy: it.termination_message_policy.clone(),
        ..Container::default()
    }
}

/// The container of that name, of whatever kind.
pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, Container>> {
    let own = all_containers(pod).find(|c| c.name == name).map(Cow::Borrowed);
    own.or_else(|| {
        let added = ephemeral_containers(pod).iter().find(|c| c.name == name);
        added.map(|c| Cow::Owned(as_container(c)))
    })
}

/// Where in the pod a container stands, as events name it.
pub(crate) fn field_path(pod: &Pod, name: &str) -> Option<String> {
    let list = if init_containers(pod).iter().any(|c| c.name == name) {
        "initContainers"
    } else if ephemeral_containers(pod).iter().any(|c| c.name == name) {
        "ephemeralContainers"
    } else {
        "containers"
    };
    Some(format!("spec.{list}{{{name}}}"))
}

pub(crate) fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

/// The time the pod's containers get to end by themselves.
pub(crate) fn grace(pod: &Pod) -> Duration {
    let seconds = pod
        .metadata
        .deletion_grace_period_seconds
        .filter(|_| pod.metadata.deletion_timestamp.is_some())
        .or(spec(pod).termination_grace_period_seconds);
    // Zero means "don't wait for the node", not "no warning": a process still
    // gets its signal and a second.
    seconds.map_or(DEFAULT_GRACE, |s| {
        Duration::from_secs(u64::try_from(s).unwrap_or(0).max(1))
    })
}

pub(crate) fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the API already says that the pod is over.
pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The name that the pod's processes see as their host's.
pub(crate) fn hostname(pod: &Pod) -> String {
    if let Some(name) = &spec(pod).hostname_override {
        return name.clone();
    }
    let wanted = spec(pod)
        .hostname
        .clone()
        .filter(|h| !h.is_empty())
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default();
    // The kernel takes 64 bytes; DNS labels, and so Kubernetes, 63.
    let mut name: String = wanted.chars().take(63).collect();
    name.truncate(name.trim_end_matches(['-', '.']).len());
    name
}

/// The pod's full name in the cluster's DNS, if it asked for one.
pub(crate) fn host_domain(pod: &Pod, cluster_domain: &str) -> Option<String> {
    // A name that replaces the pod's own isn't in the cluster's DNS.
    let own = spec(pod).hostname_override.is_none();
    let subdomain = spec(pod).subdomain.as_deref().filter(|s| own && !s.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!("{subdomain}.{namespace}.svc.{cluster_domain}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A pod from YAML's subset JSON, for tests.
    pub(crate) fn pod(json: serde_json::Value) -> Pod {
        let mut pod: Pod = serde_json::from_value(json).expect("a pod");
        let meta = &mut pod.metadata;
        meta.name.get_or_insert_with(|| "web".to_owned());
        meta.namespace.get_or_insert_with(|| "default".to_owned());
        meta.uid.get_or_insert_with(|| "u-1".to_owned());
        pod
    }

    #[test]
    fn a_long_name_still_makes_a_host_name() {
        let name = format!("{}-x", "a".repeat(62));
        let long = pod(serde_json::json!({"metadata": {"name": name}}));
        assert_eq!(hostname(&long), "a".repeat(62));
    }

    #[test]
    fn a_name_of_the_pods_choice_is_taken_as_it_is() {
        let it = pod(
            serde_json::json!({"spec": {"containers": [], "hostnameOverride": "db.example.com",
            "hostname": "web", "subdomain": "crew"}}),
        );
        assert_eq!(hostname(&it), "db.example.com");
        assert_eq!(host_domain(&it, "cluster.local"), None);
    }

    #[test]
    fn grace_comes_from_the_deletion_before_the_spec() {
        let mut it =
            pod(serde_json::json!({"spec": {"containers": [], "terminationGracePeriodSeconds": 60}}));
        assert_eq!(grace(&it), Duration::from_secs(60));
        it.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::now(),
        ));
        it.metadata.deletion_grace_period_seconds = Some(0);
        assert_eq!(grace(&it), Duration::from_secs(1));
    }
}
