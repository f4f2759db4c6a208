//! The reference CNI plugins `bridge` and `ptp`, as Debian packages them, driven as Ripstop's own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use kernel::NetNs;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cni::{Plugin, Pod};
use crate::pair::Pair;
use crate::wiring::{node, two_nodes};

/// Where distributions and Kubernetes' own packages put them.
const FOLDERS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// The plugins, and where their IPAM keeps what it gave out.
#[derive(Debug)]
pub(crate) struct Plugins {
    folder: PathBuf,
    data: Arc<TempDir>,
}

impl Plugins {
    /// Finds them.
    pub(crate) fn find() -> Result<Self> {
        let folder = FOLDERS.iter().map(Path::new).find(|folder| {
            let has = |name| folder.join(name).is_file();
            has("bridge") && has("ptp") && has("host-local")
        });
        let folder = folder.with_context(|| {
            format!(
                "the CNI plugins bridge, ptp and host-local are in none of {}: install containernetworking-plugins, or leave them out with --beside plain,veth",
                FOLDERS.join(", ")
            )
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            data: Arc::new(tempfile::tempdir().context("make a folder for host-local")?),
        })
    }

    /// A plugin on a node of its own.
    pub(crate) fn on_a_node(&self, kind: &str) -> Result<Arc<Plugin>> {
        Ok(self.plugin(kind, &node()?, 1))
    }

    /// Two pods of one node.
    pub(crate) fn one_node(&self, kind: &str) -> Result<Pair> {
        let node = node()?;
        let plugin = self.plugin(kind, &node, 1);
        self.pair([&plugin, &plugin], Box::new(node))
    }

    /// Two pods of two nodes, each with a bridge of its own and a route to the other.
    pub(crate) async fn across_nodes(&self, kind: &str) -> Result<Pair> {
        let (nodes, switch) = two_nodes(block).await?;
        let plugins = [self.plugin(kind, &nodes[0], 1), self.plugin(kind, &nodes[1], 2)];
        self.pair([&plugins[0], &plugins[1]], Box::new((nodes, switch)))
    }

    fn pair(&self, plugins: [&Arc<Plugin>; 2], nodes: Box<dyn std::any::Any>) -> Result<Pair> {
        let (client, server) = (Pod::new("other-client")?, Pod::new("other-server")?);
        let (near, _) = plugins[0].attach(&client)?;
        let (far, _) = plugins[1].attach(&server)?;
        let address = far.address()?;
        let keep: Vec<Box<dyn std::any::Any>> = vec![
            Box::new(near),
            Box::new(far),
            nodes,
            Box::new(Arc::clone(&self.data)),
        ];
        Pair::new(client.netns, server.netns, address, keep)
    }

    fn plugin(&self, kind: &str, node: &Arc<NetNs>, number: u8) -> Arc<Plugin> {
        let config = self.config(kind, number);
        Plugin::new(&self.folder.join(kind), &config, Some(Arc::clone(node)))
    }

    fn config(&self, kind: &str, number: u8) -> Value {
        json!({
            "cniVersion": "1.0.0", "name": format!("{kind}-{number}"), "type": kind,
            "bridge": "cni0", "isGateway": true, "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": self.data.path(),
                "ranges": [[{"subnet": format!("{}/24", block(number))}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        })
    }
}

/// The pods of a node.
fn block(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 252, number, 0)
}
