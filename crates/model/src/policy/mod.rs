//! NetworkPolicies, and what they are about: pods and namespaces by their labels.
//!
//! What a policy says is kept as it's meant, and what couldn't be read of it opens nothing: a rule
//! whose peers are all unreadable is for nobody, and never for everybody.

mod selector;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use selector::{Labels, Operator, Requirement, Selector};

use crate::{AttachmentId, PodRef, Protocol};

/// An object of a namespace, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespacedName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl NamespacedName {
    /// An object of that namespace and name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> NamespacedName {
        NamespacedName {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A way that traffic takes, as seen from the pod that a policy selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From it.
    Egress,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::Ingress, Direction::Egress];
}

/// A NetworkPolicy. The pods that it selects are those of its own namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whom it's for.
    pub pods: Selector,
    /// What may come to them; none: it doesn't say, and isolates nobody in that direction.
    pub ingress: Option<Vec<PolicyRule>>,
    /// What may leave them.
    pub egress: Option<Vec<PolicyRule>>,
}

impl Policy {
    /// The rules of a direction; none if the policy isn't about it.
    pub fn rules(&self, direction: Direction) -> Option<&[PolicyRule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// A rule of a policy: it allows what is of one of its peers and for one of its ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyRule {
    /// The other side; none: everybody. An empty list is nobody.
    pub peers: Option<Vec<PolicyPeer>>,
    /// The receiver's ports; none: everything, whatever its protocol. An empty list is nothing.
    pub ports: Option<Vec<PolicyPort>>,
}

/// The other side of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyPeer {
    /// Pods by labels.
    Pods {
        /// The labels of their namespace; none: it's the policy's own.
        namespaces: Option<Selector>,
        /// Their own labels.
        pods: Selector,
    },
    /// Addresses.
    Block {
        /// These,
        net: IpNet,
        /// but none of those.
        except: BTreeSet<IpNet>,
    },
}

/// Ports of one protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyPort {
    /// The protocol.
    pub protocol: Protocol,
    /// Which of its ports.
    pub ports: PortMatch,
}

/// Which ports of a protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortMatch {
    /// All.
    All,
    /// This one.
    One(u16),
    /// From the first to the last (`endPort`).
    Range(u16, u16),
    /// Those that the receiving pod has under this name.
    Named(String),
}

/// A pod, as far as policies depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyPod {
    /// Its UID; empty if it isn't known.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// Its addresses; none if it has finished, as they may be another's by now.
    pub addresses: Vec<IpAddr>,
    /// Its containers' ports that have names.
    pub ports: BTreeSet<NamedPort>,
    /// Whether it shares its node's network: policies don't select it, and its address is the node's.
    pub host_network: bool,
    /// The node that it is on; none if it's on none yet.
    pub node: Option<String>,
}

/// A port of a pod that has a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}

/// A pod's link and addresses on this node, as far as policies depend on them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyAttachment {
    /// The pod. Without a name it's no pod of the cluster's, and no policy is about it.
    pub pod: PodRef,
    /// What IPAM gave it.
    pub addresses: Vec<IpAddr>,
}

/// Everything that one node's policies depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySnapshot {
    /// The node.
    pub node: String,
    /// The cluster's policies.
    pub policies: BTreeMap<NamespacedName, Arc<Policy>>,
    /// The labels of its namespaces.
    pub namespaces: BTreeMap<String, Labels>,
    /// Its pods.
    pub pods: BTreeMap<NamespacedName, Arc<PolicyPod>>,
    /// The pods attached to the node.
    pub attachments: BTreeMap<AttachmentId, PolicyAttachment>,
    /// Addresses that each node answers at itself: the cluster's DNS. They count as a pod of it.
    pub node_local: BTreeSet<IpAddr>,
}
