//! What can be written into the file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use model::PodNetworkMode;
use serde::Deserialize;
use serde_saphyr::Spanned;
use supervisor::NodePorts;
use supervisor::settings::{Protocol, loopback};

use super::scalar::{Cpu, Memory, Range, Seconds};
use crate::args;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) api_version: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) kind: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) ip_family: Option<Family>,
    #[serde(default, rename = "podCIDRs")]
    pub(super) pod_cidrs: Vec<Range>,
    #[serde(default, rename = "serviceCIDRs")]
    pub(super) service_cidrs: Vec<Range>,
    #[serde(default)]
    pub(super) node_networks: Vec<Range>,
    #[serde(default)]
    pub(super) non_masquerade: Vec<Range>,
    #[serde(default)]
    pub(super) service_node_port_range: Option<NodePorts>,
    #[serde(default)]
    pub(super) pod_network: Option<PodNetworkMode>,
    #[serde(default)]
    pub(super) nodes: Vec<Node>,
    #[serde(default)]
    pub(super) ports: Vec<Port>,
    #[serde(default)]
    pub(super) registries: Vec<Registry>,
    #[serde(default)]
    pub(super) manifests: Vec<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) node_monitor_grace_period: Option<Spanned<Seconds>>,
    #[serde(default)]
    pub(super) not_ready_toleration: Option<Seconds>,
    #[serde(default)]
    pub(super) unreachable_toleration: Option<Seconds>,
}

/// As `--ip-family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Family {
    Ipv4,
    Ipv6,
    Dual,
}

impl From<Family> for args::Family {
    fn from(family: Family) -> Self {
        match family {
            Family::Ipv4 => Self::Ipv4,
            Family::Ipv6 => Self::Ipv6,
            Family::Dual => Self::Dual,
        }
    }
}

/// A node. Without a name it is `node-1`, `node-2` … by its place in the list.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Node {
    #[serde(default)]
    pub(super) name: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) zone: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) region: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub(super) taints: Vec<Taint>,
    #[serde(default)]
    pub(super) mounts: Vec<Mount>,
    #[serde(default)]
    pub(super) cpu: Option<Cpu>,
    #[serde(default)]
    pub(super) memory: Option<Memory>,
    #[serde(default)]
    pub(super) max_pods: Option<Spanned<u32>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Taint {
    pub(super) key: Spanned<String>,
    #[serde(default)]
    pub(super) value: Option<Spanned<String>>,
    pub(super) effect: Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl Effect {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) machine_path: Spanned<PathBuf>,
    pub(super) node_path: Spanned<PathBuf>,
    #[serde(default)]
    pub(super) read_only: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Port {
    #[serde(default = "loopback")]
    pub(super) address: IpAddr,
    pub(super) port: Spanned<u16>,
    #[serde(default)]
    pub(super) protocol: Protocol,
    #[serde(default)]
    pub(super) node: Option<Spanned<String>>,
    pub(super) node_port: Spanned<u16>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Registry {
    pub(super) host: Spanned<String>,
    #[serde(default)]
    pub(super) mirrors: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) ca: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) insecure: bool,
}
