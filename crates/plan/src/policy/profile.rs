//! Profiles: what of a pod policies ask for. Pods of one Deployment have the same, so that terms are
//! compared with as many profiles as there are kinds of pods.

use std::collections::BTreeSet;

use model::{Labels, NamedPort, NamespacedName, PolicyPod, Protocol};

/// What of a pod policies ask for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Profile {
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) ports: BTreeSet<NamedPort>,
}

impl Profile {
    pub(super) fn new(name: &NamespacedName, pod: &PolicyPod) -> Profile {
        Profile {
            namespace: name.namespace.clone(),
            labels: pod.labels.clone(),
            ports: pod.ports.clone(),
        }
    }

    /// What the cluster's DNS on each node counts as: the pod that people know it by.
    pub(super) fn dns() -> Profile {
        let port = |name: &str, protocol, port| NamedPort {
            name: name.to_owned(),
            protocol,
            port,
        };
        Profile {
            namespace: "kube-system".to_owned(),
            labels: Labels::from([("k8s-app".to_owned(), "kube-dns".to_owned())]),
            ports: BTreeSet::from([
                port("dns", Protocol::Udp, 53),
                port("dns-tcp", Protocol::Tcp, 53),
                port("metrics", Protocol::Tcp, 9153),
            ]),
        }
    }

    /// The numbers of the ports of this name.
    pub(super) fn numbers(&self, name: &str, protocol: Protocol) -> impl Iterator<Item = u16> {
        let ports = self.ports.iter();
        let named = ports.filter(move |port| port.name == name && port.protocol == protocol);
        named.map(|port| port.port)
    }
}
