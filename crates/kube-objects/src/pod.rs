//! `v1.Pod` and `v1.Namespace`, as far as policies depend on them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Namespace, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{Labels, NamedPort, NamespacedName, PolicyPod, Protocol};

/// The label by which the API server names every namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// A part of a Pod that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PodProblem {
    /// An address isn't one.
    #[error("status.podIPs {0:?} isn't an IP address, and policies don't know the pod by it")]
    Address(String),
    /// A port isn't one.
    #[error(
        "port {0:?} of a container is no port of TCP, UDP or SCTP, and policies don't find it by its name"
    )]
    Port(String),
}

/// An object's namespace and name.
pub fn namespaced_name(meta: &ObjectMeta) -> NamespacedName {
    NamespacedName::new(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

/// A Pod as policies see it, and what of it couldn't be used. One that has finished has no addresses:
/// they may be another's.
pub fn pod(object: &Pod) -> (PolicyPod, Vec<PodProblem>) {
    let mut problems = Vec::new();
    let spec = object.spec.as_ref();
    let node = spec.and_then(|spec| spec.node_name.clone());
    let pod = PolicyPod {
        uid: object.metadata.uid.clone().unwrap_or_default(),
        labels: object.metadata.labels.clone().unwrap_or_default(),
        addresses: if is_finished(object) {
            Vec::new()
        } else {
            addresses(object, &mut problems)
        },
        ports: spec.map(|spec| ports(spec, &mut problems)).unwrap_or_default(),
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
        node: node.filter(|node| !node.is_empty()),
    };
    (pod, problems)
}

/// Whether a pod's containers have ended for good.
pub fn is_finished(object: &Pod) -> bool {
    let status = object.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn addresses(object: &Pod, problems: &mut Vec<PodProblem>) -> Vec<IpAddr> {
    let status = object.status.as_ref();
    let many = status
        .and_then(|status| status.pod_ips.as_deref())
        .unwrap_or_default();
    let one = status.and_then(|status| status.pod_ip.as_deref());
    let one = one.filter(|text| many.is_empty() && !text.is_empty());
    let mut addresses = Vec::new();
    for text in many.iter().map(|one| one.ip.as_str()).chain(one) {
        match text.parse::<IpAddr>() {
            Ok(address) => {
                let address = address.to_canonical();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            Err(_) => problems.push(PodProblem::Address(text.to_owned())),
        }
    }
    addresses
}

/// The ports that have names, of containers that run as long as the pod does.
fn ports(spec: &PodSpec, problems: &mut Vec<PodProblem>) -> BTreeSet<NamedPort> {
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let beside = spec.init_containers.iter().flatten().filter(stays);
    let all = spec
        .containers
        .iter()
        .chain(beside)
        .flat_map(|container| container.ports.iter().flatten());
    let mut ports = BTreeSet::new();
    for port in all {
        let Some(name) = port.name.clone().filter(|name| !name.is_empty()) else {
            continue;
        };
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP" | "") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        };
        let number = u16::try_from(port.container_port).ok().filter(|port| *port != 0);
        match (protocol, number) {
            (Some(protocol), Some(port)) => drop(ports.insert(NamedPort { name, protocol, port })),
            _ => problems.push(PodProblem::Port(name)),
        }
    }
    ports
}

/// A Namespace's labels. Its own name is always among them, as the API server sees to.
pub fn namespace(object: &Namespace) -> Labels {
    let mut labels = object.metadata.labels.clone().unwrap_or_default();
    if let Some(name) = &object.metadata.name {
        labels.insert(NAMESPACE_NAME.to_owned(), name.clone());
    }
    labels
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(object: Value) -> (PolicyPod, Vec<PodProblem>) {
        pod(&serde_json::from_value(object).expect("a Pod"))
    }

    #[test]
    fn a_pod_is_its_labels_addresses_and_named_ports() {
        let (pod, problems) = read(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u1", "labels": {"app": "web"}},
            "spec": {"nodeName": "node-1", "containers": [
                {"name": "a", "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 9}]},
                {"name": "b", "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
            ], "initContainers": [
                {"name": "beside", "restartPolicy": "Always", "ports": [{"name": "metrics", "containerPort": 9090}]},
                {"name": "first", "ports": [{"name": "setup", "containerPort": 1}]},
            ]},
            "status": {"phase": "Running", "podIP": "10.244.1.5", "podIPs": [{"ip": "10.244.1.5"}, {"ip": "fd00::5"}]},
        }));
        assert_eq!(problems, []);
        assert_eq!((pod.uid.as_str(), pod.node.as_deref()), ("u1", Some("node-1")));
        assert_eq!(pod.labels["app"], "web");
        assert_eq!(pod.addresses.len(), 2);
        let names: Vec<(&str, u16)> = pod
            .ports
            .iter()
            .map(|port| (port.name.as_str(), port.port))
            .collect();
        assert_eq!(names, [("dns", 53), ("http", 8080), ("metrics", 9090)]);
    }

    #[test]
    fn a_finished_pod_has_no_addresses() {
        for phase in ["Succeeded", "Failed"] {
            let (pod, _) = read(json!({"metadata": {}, "status": {"phase": phase, "podIP": "10.244.1.5"}}));
            assert_eq!(pod.addresses, Vec::<IpAddr>::new());
        }
        let (pod, _) = read(json!({"metadata": {}, "status": {"phase": "Pending", "podIP": "10.244.1.5"}}));
        assert_eq!(pod.addresses.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_of_a_pod_is_named() {
        let (pod, problems) = read(json!({
            "metadata": {},
            "spec": {"hostNetwork": true, "containers": [{"name": "a", "ports": [{"name": "http", "containerPort": 70000}]}]},
            "status": {"podIP": "here"},
        }));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(pod.host_network && pod.ports.is_empty() && pod.addresses.is_empty());
    }

    #[test]
    fn a_namespace_always_has_its_name() {
        let object = json!({"metadata": {"name": "a", "labels": {"team": "x"}}});
        let labels = namespace(&serde_json::from_value(object).expect("a Namespace"));
        assert_eq!(labels[NAMESPACE_NAME], "a");
        assert_eq!(labels["team"], "x");
    }
}
