//! The domain types of the network: what the planner reads. No I/O and no Kubernetes types.
//!
//! ```text
//! Kubernetes objects ──kube-objects──► Snapshot ─┐
//! the node's kernel  ──kernel────────► NodeFacts ┴─plan()──► NodePlan
//! ```

mod flow;
mod heard;
mod host_port;
mod mac;
mod packet;
mod pod_network;
mod policy;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use flow::{Flow, FlowEnd, FlowEvent, FlowFilter, FlowPolicy};
pub use heard::{Heard, HeardOf};
pub use host_port::{HostPort, Limits, Protocol, Rate};
pub use mac::{MacAddr, ParseMacError};
pub use packet::{Packet, Transport};
pub use pod_network::{ParseModeError, PodNetwork, PodNetworkMode, Vxlan};
pub use policy::{
    Direction, Labels, NamedPort, NamespacedName, Operator, Policy, PolicyAttachment, PolicyPeer, PolicyPod,
    PolicyPort, PolicyRule, PolicySnapshot, PortMatch, Requirement, Selector,
};
pub use service::{
    Backend, Endpoint, Hints, ParseStrategyError, Service, ServiceName, ServicePort, Slice, SlicePort,
    Strategy, TrafficPolicy,
};

/// Everything about the cluster that one node's plan depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Every node of the cluster, this one included, by name.
    pub nodes: BTreeMap<String, Node>,
    /// The pods attached to this node, by attachment id (container id and interface name).
    pub attachments: BTreeMap<AttachmentId, Attachment>,
    /// Destinations that never see a masqueraded source, beside pods and nodes.
    pub non_masquerade: Vec<IpNet>,
    /// Where Services' cluster addresses are from. What is sent to one of them and isn't for a Service is
    /// refused.
    #[serde(default)]
    pub service_ranges: BTreeSet<IpNet>,
    /// How pods of different nodes reach each other.
    #[serde(default)]
    pub pod_network: PodNetwork,
    /// The cluster's Services that traffic is translated for.
    #[serde(skip)]
    pub services: BTreeMap<ServiceName, Service>,
    /// Whether `spec.externalIPs` of Services counts. It lets whoever may write Services have any
    /// address's traffic.
    #[serde(default)]
    pub external_ips: bool,
    /// Service addresses that each node has for itself, and answers itself: the cluster's DNS. They
    /// are never translated, whatever a Service of that address says.
    #[serde(default)]
    pub node_local: BTreeSet<IpAddr>,
}

/// A node as the network sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The node's own addresses (`InternalIP`), at most one a family that is used for routes.
    pub addresses: Vec<IpAddr>,
    /// The blocks that its pods' addresses come from (`spec.podCIDRs`).
    pub pod_cidrs: Vec<IpNet>,
    /// The zone that it is in (`topology.kubernetes.io/zone`), if it's known.
    #[serde(default)]
    pub zone: Option<String>,
}

/// What the kernel of this node is like, as far as a plan depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// This node's name in the snapshot.
    pub name: String,
    /// The link that leads to the other nodes.
    pub uplink: Uplink,
    /// The control group of all that runs on this node, its own where nodes share a machine, else the
    /// root; none where nothing translates Services at sockets.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// The largest packets that the paths to other nodes carry, by the nodes' addresses, where the
    /// kernel has learnt that it's less than the uplink's.
    #[serde(default)]
    pub path_mtus: BTreeMap<IpAddr, u32>,
}

/// The link that leads to the other nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// What the names of our links on a node begin with. Nobody else's links may.
pub const LINK_PREFIX: &str = "rip-";

impl AttachmentId {
    /// An attachment of that container and interface.
    pub fn new(container: impl Into<String>, interface: impl Into<String>) -> AttachmentId {
        AttachmentId {
            container: container.into(),
            interface: interface.into(),
        }
    }

    /// The name of the node's end of the attachment's link: [`LINK_PREFIX`] and a digest, as names of
    /// links have 15 characters at most. The same attachment always yields the same name.
    pub fn host_link(&self) -> String {
        const HEX_DIGITS: usize = 11;
        let digest = format!("{:016x}", self.digest());
        format!("{LINK_PREFIX}{}", &digest[..HEX_DIGITS])
    }

    /// A 64-bit digest (FNV-1a) that is the same in every process and version.
    pub fn digest(&self) -> u64 {
        digest(self.container.bytes().chain([b'/']).chain(self.interface.bytes()))
    }
}

/// The Ethernet address of a node's ends of tunnels: the same node always has the same, so that
/// nodes needn't tell each other.
pub fn tunnel_mac(node: &str) -> MacAddr {
    MacAddr::local(digest(node.bytes()))
}

/// FNV-1a.
fn digest(bytes: impl Iterator<Item = u8>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.interface)
    }
}

/// A pod's link and addresses on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Namespace and name of the pod, for people; empty if the runtime didn't say.
    pub pod: PodRef,
    /// Name of the CNI network that it is an attachment to; empty if an older agent made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// Path of the pod's network namespace.
    pub netns: String,
    /// Name of the host's end of the veth pair: [`AttachmentId::host_link`].
    pub host_link: String,
    /// Addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Ports of the node that lead to the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<HostPort>,
    /// The rates that its traffic is held to.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// When the process that asked for it started, in clock ticks since the machine did; none if that
    /// isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u64>,
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

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_fit_and_differ() {
        let names = ["eth0", "eth1", "net1"]
            .map(|interface| AttachmentId::new("0123456789abcdef", interface).host_link());
        for name in &names {
            assert!(name.len() <= 15 && name.starts_with(LINK_PREFIX), "{name}");
        }
        assert_ne!(names[0], names[1]);
        // Written down: a new version must find what an old one made.
        assert_eq!(AttachmentId::new("c1", "eth0").host_link(), "rip-9e27a0abdbb");
    }

    #[test]
    fn a_nodes_tunnel_address_is_the_same_everywhere() {
        assert_eq!(tunnel_mac("node-1").to_string(), "02:c2:20:78:79:c3");
        // Two nodes with one address would get each other's frames.
        let names =
            (0..10_000).flat_map(|n| [format!("node-{n}"), format!("ip-10-0-{}-{}", n / 256, n % 256)]);
        let addresses: std::collections::BTreeSet<MacAddr> = names.map(|name| tunnel_mac(&name)).collect();
        assert_eq!(addresses.len(), 20_000);
    }
}
