//! What a cluster is: asked for once, written to `cluster.json`, the same after every start.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use ipnet::IpNet;
use model::PodNetworkMode;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::names::node_name;
use crate::network::{self, Ranges};
use crate::{ClusterName, Error, Paths};

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
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// What it runs.
    pub programs: Programs,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its address in the node network.
    pub address: IpAddr,
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
            Ok(Node {
                name: node_name(index),
                address: network::node_address(ranges.node_network, index)?,
            })
        };
        Ok(Self {
            name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            nodes: (0..nodes).map(node).collect::<Result<_, Error>>()?,
            ranges,
            non_masquerade: Vec::new(),
            pod_network: PodNetworkMode::default(),
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
        let cluster = serde_json::from_slice(&text).map_err(|error| Error::BrokenCluster {
            path,
            reason: error.to_string(),
        })?;
        Ok(Some(cluster))
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

    /// The address of the API on the node network.
    #[must_use]
    pub fn server_address(&self) -> IpAddr {
        network::server_address(self.ranges.node_network)
    }

    /// The URL of the API.
    #[must_use]
    pub fn server_url(&self) -> String {
        match self.server_address() {
            IpAddr::V4(address) => format!("https://{address}:{API_PORT}"),
            IpAddr::V6(address) => format!("https://[{address}]:{API_PORT}"),
        }
    }

    /// The machine's address on the node network, with its prefix length.
    #[must_use]
    pub fn gateway(&self) -> IpNet {
        let network = self.ranges.node_network;
        network::with_prefix(network::gateway_address(network), network)
    }
}
