//! What a cluster is: asked for once, written to `cluster.json`, the same after every start.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{fs, io};

use ipnet::IpNet;
use model::PodNetworkMode;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::names::node_name;
use crate::network::{FamilyRanges, Ranges};
use crate::settings::{NodeSettings, Settings};
use crate::{ClusterName, Error, NodePorts, Paths};

/// The port of the API.
pub const API_PORT: u16 = 6443;
/// As many as have an address below the load balancers' (.200).
pub const MAX_NODES: usize = 100;

/// A cluster, as `cluster.json` holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// The version of Ripstop that wrote this.
    pub version: String,
    /// Its addresses.
    #[serde(flatten)]
    pub ranges: Ranges,
    /// Destinations outside the cluster that see pods' own addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub non_masquerade: Vec<IpNet>,
    /// How pods of different nodes reach each other.
    #[serde(default)]
    pub pod_network: PodNetworkMode,
    /// Ports that Services can have on every node, if somebody chose them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ports: Option<NodePorts>,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// What may be another at the next start.
    #[serde(flatten)]
    pub settings: Settings,
    /// What it runs.
    pub programs: Programs,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses in the node networks, the preferred family's first.
    #[serde(alias = "address", deserialize_with = "files::one_or_many")]
    pub addresses: Vec<IpAddr>,
    /// How it is to be.
    #[serde(flatten)]
    pub settings: NodeSettings,
}

/// The programs that a cluster runs, by absolute path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Programs {
    /// `ripstop` itself.
    pub ripstop: PathBuf,
    /// The CNI plugin `ripstop-cni`.
    pub cni: PathBuf,
    /// The archive with the toolbox and pause images.
    pub images: PathBuf,
    /// containerd.
    pub containerd: PathBuf,
    /// containerd's client.
    pub ctr: PathBuf,
    /// The runtime that starts containers.
    pub runc: PathBuf,
}

impl Cluster {
    /// A new cluster.
    ///
    /// # Errors
    /// When that many nodes don't fit.
    pub fn new(name: ClusterName, nodes: usize, ranges: Ranges, programs: Programs) -> Result<Self, Error> {
        if nodes == 0 || nodes > MAX_NODES {
            return Err(Error::NodeCount { asked: nodes });
        }
        let node = |index| {
            let addresses = ranges.iter().map(|ranges| ranges.node(index));
            Ok(Node {
                name: node_name(index),
                addresses: addresses.collect::<Result<_, Error>>()?,
                settings: NodeSettings::default(),
            })
        };
        Ok(Self {
            name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            nodes: (0..nodes).map(node).collect::<Result<_, Error>>()?,
            ranges,
            non_masquerade: Vec::new(),
            pod_network: PodNetworkMode::default(),
            node_ports: None,
            settings: Settings::default(),
            programs,
        })
    }

    /// The cluster that is kept in these folders; `None` when there is none.
    ///
    /// # Errors
    /// When its file can't be read or understood.
    pub fn load(paths: &Paths) -> Result<Option<Self>, Error> {
        let path = paths.cluster_file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", &path, error)),
        };
        let broken = |reason| Error::BrokenCluster { path, reason };
        match serde_json::from_slice::<Self>(&text) {
            Ok(cluster) if !cluster.is_whole() => {
                Err(broken("a node has not an address of each family".to_owned()))
            }
            Ok(cluster) => Ok(Some(cluster)),
            Err(error) => Err(broken(error.to_string())),
        }
    }

    /// Whether each node has an address in each node network, in their order.
    fn is_whole(&self) -> bool {
        let of = |node: &Node| {
            let networks = self.ranges.node_networks();
            let inside = |(address, network): (&IpAddr, &IpNet)| network.contains(address);
            node.addresses.len() == networks.len() && node.addresses.iter().zip(&networks).all(inside)
        };
        self.nodes.iter().all(of)
    }

    /// Writes the cluster's file.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save(&self, paths: &Paths) -> Result<(), Error> {
        // Secrets are inside: in the store, in pods' volumes.
        files::make_private_dir(&paths.data)?;
        let text = serde_json::to_string_pretty(self).expect("plain data becomes JSON");
        files::write(&paths.cluster_file(), &(text + "\n"), 0o644)?;
        Ok(())
    }

    /// The clusters below a folder such as `/var/lib/ripstop`, those that can't be read left out.
    #[must_use]
    pub fn all(root: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(root) else {
            return Vec::new();
        };
        let mut found: Vec<Self> = entries
            .flatten()
            .filter_map(|entry| fs::read(entry.path().join("cluster.json")).ok())
            .filter_map(|text| serde_json::from_slice(&text).ok())
            .filter(Self::is_whole)
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// The node of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&Node, Error> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.ok_or_else(|| Error::NoNode {
            asked: name.to_owned(),
            nodes: self.nodes.iter().map(|node| node.name.clone()).collect(),
        })
    }

    /// Where the API listens: its address in each node network, the preferred family's first.
    #[must_use]
    pub fn server_sockets(&self) -> Vec<SocketAddr> {
        let socket = |ranges: &FamilyRanges| SocketAddr::new(ranges.server(), API_PORT);
        self.ranges.iter().map(socket).collect()
    }

    /// The URL of the API.
    #[must_use]
    pub fn server_url(&self) -> String {
        let preferred = SocketAddr::new(self.ranges.preferred().server(), API_PORT);
        format!("https://{preferred}")
    }
}

impl Node {
    /// Its address of the preferred family.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.addresses[0]
    }
}

#[cfg(test)]
mod tests;
