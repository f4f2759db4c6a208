//! The domain types of the pod network: what the planner reads. No I/O and no Kubernetes types.
//!
//! ```text
//! Kubernetes objects ──kube-objects──► Snapshot ─┐
//! the node's kernel  ──kernel────────► NodeFacts ┴─plan()──► NodePlan
//! ```

mod mac;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use mac::{MacAddr, ParseMacError};

/// Everything about the cluster that one node's plan depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Every node of the cluster, this one included, by name.
    pub nodes: BTreeMap<String, Node>,
    /// The pods attached to this node, by attachment id (container id and interface name).
    pub attachments: BTreeMap<AttachmentId, Attachment>,
    /// Destinations that never see a masqueraded source, beside pods and nodes.
    pub non_masquerade: Vec<IpNet>,
}

/// A node as the network sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The node's own addresses (`InternalIP`), at most one a family that is used for routes.
    pub addresses: Vec<IpAddr>,
    /// The blocks that its pods' addresses come from (`spec.podCIDRs`).
    pub pod_cidrs: Vec<IpNet>,
}

/// What the kernel of this node is like, as far as a plan depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// This node's name in the snapshot.
    pub name: String,
    /// The link that leads to the other nodes.
    pub uplink: Uplink,
}

/// The link that leads to the other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// Link name, as in `eth0`.
    pub name: String,
    /// Largest packet it carries, in bytes.
    pub mtu: u32,
    /// Its addresses with prefix lengths: what is on the same link.
    pub addresses: Vec<IpNet>,
}

/// One CNI attachment: a container id and the interface's name in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentId {
    /// CNI container id (the sandbox's).
    pub container: String,
    /// CNI interface name, as in `eth0`.
    pub interface: String,
}

/// A pod's link and addresses on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Namespace and name of the pod, for people; empty if the runtime didn't say.
    pub pod: PodRef,
    /// Path of the pod's network namespace.
    pub netns: String,
    /// Name of the host's end of the veth pair.
    pub host_link: String,
    /// Addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
    /// Largest packet, in bytes.
    pub mtu: u32,
}

/// A pod by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID; empty if the runtime didn't say.
    pub uid: String,
}
