//! What the runtime is told about a pod as a whole. Pure: Pod → CRI.

use std::collections::BTreeMap;

use cri::message::{LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol};
use k8s_openapi::api::core::v1::Pod;

use crate::config::Config;
use crate::pod::{self, PodKey, label};
use crate::{dns, security};

/// Sysctls that belong to one pod alone, and so are safe to set.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The pod's cgroup, in every hierarchy.
pub(crate) fn cgroup(config: &Config, uid: &str) -> String {
    format!("{}/pod{uid}", config.pods_cgroup())
}

/// The labels that tie a sandbox or container to its pod.
pub(crate) fn identity(key: &PodKey) -> BTreeMap<String, String> {
    BTreeMap::from([
        (label::POD_NAME.into(), key.name.clone()),
        (label::POD_NAMESPACE.into(), key.namespace.clone()),
        (label::POD_UID.into(), key.uid.clone()),
    ])
}

/// A sysctl that the pod asks for and mustn't have, if there is one.
pub(crate) fn forbidden_sysctl(pod: &Pod) -> Option<String> {
    sysctls(pod)
        .into_keys()
        .find(|name| !SAFE_SYSCTLS.contains(&name.as_str()))
}

fn sysctls(pod: &Pod) -> BTreeMap<String, String> {
    let context = pod::spec(pod).security_context.as_ref();
    context
        .and_then(|c| c.sysctls.as_ref())
        .into_iter()
        .flatten()
        .map(|s| (s.name.replace('/', "."), s.value.clone()))
        .collect()
}

/// The sandbox's configuration. `attempt` counts the pod's sandboxes, `node`
/// is the text of the node's `resolv.conf`.
pub(crate) fn sandbox_config(pod: &Pod, attempt: u32, config: &Config, node: &str) -> PodSandboxConfig {
    let key = PodKey::of(pod);
    let own_network = !pod::host_network(pod);
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.extend(identity(&key));
    PodSandboxConfig {
        hostname: if own_network {
            full_hostname(pod, config)
        } else {
            String::new()
        },
        log_directory: config
            .logs_dir()
            .join(key.log_dir_name())
            .to_string_lossy()
            .into_owned(),
        dns_config: Some(dns::dns_config(pod, config, node).0),
        port_mappings: port_mappings(pod),
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup(config, &key.uid),
            security_context: Some(security::of_sandbox(pod)),
            sysctls: sysctls(pod),
            ..LinuxPodSandboxConfig::default()
        }),
        metadata: Some(PodSandboxMetadata {
            name: key.name,
            uid: key.uid,
            namespace: key.namespace,
            attempt,
        }),
    }
}

/// What the kernel takes as a host's name.
const MAX_HOSTNAME: usize = 64;

/// Why the pod can't have the host name that it asks for, if it can't.
pub(crate) fn impossible_hostname(pod: &Pod, config: &Config) -> Option<String> {
    let name = full_hostname(pod, config);
    let is_long = !pod::host_network(pod) && name.len() > MAX_HOSTNAME;
    is_long.then(|| {
        format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long \
             ({MAX_HOSTNAME} characters is the max, {} characters requested)",
            name.len()
        )
    })
}

/// The host name, in full where the pod asks for that.
fn full_hostname(pod: &Pod, config: &Config) -> String {
    let short = pod::hostname(pod);
    let wants_full = pod::spec(pod).set_hostname_as_fqdn.unwrap_or(false);
    match pod::host_domain(pod, &config.cluster_domain).filter(|_| wants_full) {
        Some(domain) => format!("{short}.{domain}"),
        None => short,
    }
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    pod::all_containers(pod)
        .flat_map(|c| c.ports.iter().flatten())
        .map(|port| PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            } as i32,
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;
    use serde_json::json;

    fn config() -> Config {
        let ip = "172.30.0.11".parse().unwrap();
        Config::new("node-1", ip, "/run/c.sock", "/var/lib/n", "/ripstop/local/node-1")
    }

    #[test]
    fn a_pod_of_its_own_network() {
        let it = pod(json!({
            "metadata": {"name": "web-0", "labels": {"app": "web"}, "annotations": {"a": "b"}},
            "spec": {"subdomain": "web", "setHostnameAsFQDN": true,
                "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
                "containers": [{"name": "a", "ports": [
                    {"containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]}]}}));
        insta::assert_debug_snapshot!(sandbox_config(&it, 1, &config(), "nameserver 192.0.2.53\n"));
    }

    #[test]
    fn a_full_name_that_the_kernel_does_not_take_is_said() {
        let it = |name: &str| {
            pod(
                json!({"metadata": {"name": name}, "spec": {"subdomain": "web", "setHostnameAsFQDN": true, "containers": []}}),
            )
        };
        assert_eq!(impossible_hostname(&it("short"), &config()), None);
        let why = impossible_hostname(&it(&"a".repeat(40)), &config()).expect("too long");
        assert!(
            why.ends_with("is too long (64 characters is the max, 70 characters requested)"),
            "{why}"
        );
    }

    #[test]
    fn on_the_nodes_network_there_is_no_host_name_to_set() {
        let it = pod(json!({"spec": {"hostNetwork": true, "containers": []}}));
        let sandbox = sandbox_config(&it, 0, &config(), "");
        assert_eq!(sandbox.hostname, "");
        let context = sandbox.linux.unwrap().security_context.unwrap();
        assert_eq!(
            context.namespace_options.unwrap().network,
            cri::message::NamespaceMode::Node as i32
        );
    }

    #[test]
    fn sysctls_of_the_whole_node_are_forbidden() {
        let it = pod(json!({"spec": {"containers": [],
            "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}}));
        assert_eq!(forbidden_sysctl(&it), Some("kernel.msgmax".into()));
    }
}
