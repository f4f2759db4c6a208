//! What a cluster's nodes are like, beyond their addresses: what `ripstop up --config` can ask for, as
//! `cluster.json` keeps it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How one node is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSettings {
    /// Labels, those of region and zone among them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints that it is registered with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// The machine's folders and files that it sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// How many processors it claims, in thousandths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// How much memory it claims, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// How many pods it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pods: Option<u32>,
}

/// A taint, as Kubernetes has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// A folder or file of the machine that a node sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Where it is on the machine.
    pub machine_path: PathBuf,
    /// Where the node sees it.
    pub node_path: PathBuf,
    /// Whether it can't be written there.
    #[serde(default)]
    pub read_only: bool,
}

/// What a cluster has besides nodes and addresses. All of it may be another at the next start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// The machine's ports that lead to nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<MachinePort>,
    /// How registries are reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<Registry>,
    /// When nodes and their pods are given up.
    #[serde(skip_serializing_if = "Losses::is_default")]
    pub losses: Losses,
}

/// When a node counts as lost, and for how long pods stay on it that don't say. In seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Losses {
    /// For how long a node may be silent.
    pub node_monitor_grace_period: u32,
    /// For how long pods stay on a node that isn't ready.
    pub not_ready_toleration: u32,
    /// For how long pods stay on a node of which nothing is heard.
    pub unreachable_toleration: u32,
}

impl Losses {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Losses {
    fn default() -> Self {
        Self {
            node_monitor_grace_period: 40,
            not_ready_toleration: 300,
            unreachable_toleration: 300,
        }
    }
}

/// The protocol of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
}

/// A port of the machine that leads to one of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachinePort {
    /// Where it is on the machine: for this machine alone unless something else is said.
    #[serde(default = "loopback")]
    pub address: IpAddr,
    /// The machine's port.
    pub port: u16,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
    /// The node; without one, any that has power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The node's port: a Service's node port, or one of a pod on the node.
    pub node_port: u16,
}

/// The address that only this machine reaches.
#[must_use]
pub fn loopback() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

/// How a registry is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registry {
    /// As images name it, as in `docker.io` or `registry.example:5000`.
    pub host: String,
    /// URLs that are asked first, in this order; the registry itself is the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// A file of certificates, PEM, that the mirrors' must be signed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether certificates aren't checked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}
