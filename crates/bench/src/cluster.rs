//! The cluster that is measured, driven as a user drives it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use crate::cni::Plugin;

pub(crate) const NODES: usize = 3;

/// A cluster by its name.
#[derive(Debug)]
pub(crate) struct Cluster {
    ripstop: PathBuf,
    name: String,
    /// What `up` is asked for besides.
    more: Vec<String>,
}

impl Cluster {
    pub(crate) fn new(ripstop: PathBuf, name: &str, more: &[String]) -> Self {
        let (name, more) = (name.to_owned(), more.to_vec());
        Self { ripstop, name, more }
    }

    /// The program.
    pub(crate) fn ripstop(&self) -> &Path {
        &self.ripstop
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `ripstop up`, to its end.
    pub(crate) fn up(&self) -> Result<()> {
        let nodes = NODES.to_string();
        let mut words = vec!["up", "--no-kubeconfig", "--nodes", &nodes];
        words.extend(self.more.iter().map(String::as_str));
        self.run(&words).map(drop)
    }

    /// `ripstop down`, of everything.
    pub(crate) fn down(&self) -> Result<()> {
        self.run(&["down"]).map(drop)
    }

    /// `ripstop down`, but for objects and images.
    pub(crate) fn down_keeping_data(&self) -> Result<()> {
        self.run(&["down", "--keep-data"]).map(drop)
    }

    /// Cuts a node's power.
    pub(crate) fn stop_node(&self, node: &str) -> Result<()> {
        self.run(&["node", "stop", node]).map(drop)
    }

    /// Gives it back.
    pub(crate) fn start_node(&self, node: &str) -> Result<()> {
        self.run(&["node", "start", node]).map(drop)
    }

    /// A client of the cluster's API.
    pub(crate) async fn client(&self) -> Result<Client> {
        let output = self.run(&["kubeconfig"])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let kubeconfig = Kubeconfig::from_yaml(&text).context("read the kubeconfig")?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Ok(Client::try_from(config?)?)
    }

    /// The process ids of the processes of that name, as in `agent node-1`, or of that kind.
    pub(crate) fn pids(&self, process: &str) -> Result<Vec<u32>> {
        let output = self.run(&["status", "-o", "json"])?;
        let status: Value = serde_json::from_slice(&output.stdout).context("read the status")?;
        let processes = status["processes"]
            .as_array()
            .context("the status has no processes")?;
        let of_name = |one: &&Value| {
            let name = one["name"].as_str().unwrap_or_default();
            name == process || name.split(' ').next() == Some(process)
        };
        let pids: Vec<u32> = processes
            .iter()
            .filter(of_name)
            .filter_map(|one| one["pid"].as_u64()?.try_into().ok())
            .collect();
        if pids.is_empty() {
            bail!("no process `{process}` runs");
        }
        Ok(pids)
    }

    /// Where a node keeps what lasts.
    pub(crate) fn node_data(&self, node: &str) -> PathBuf {
        Path::new("/var/lib/ripstop")
            .join(&self.name)
            .join("nodes")
            .join(node)
    }

    /// The plugin that comes with the program, configured as a node's runtime passes it.
    pub(crate) fn plugin(&self, node: &str) -> Result<Arc<Plugin>> {
        let folder = self.node_data(node).join("cni/net.d");
        let files = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        let mut lists = files
            .filter_map(|file| Some(file.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "conflist"));
        let path = lists
            .next()
            .with_context(|| format!("no conflist in {}", folder.display()))?;
        let list: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        let mut config = list["plugins"][0].clone();
        for key in ["name", "cniVersion"] {
            config[key] = list[key].clone();
        }
        let program = self.ripstop.with_file_name("ripstop-cni");
        Ok(Plugin::new(&program, &config, None))
    }

    fn run(&self, words: &[&str]) -> Result<Output> {
        let shown = words.join(" ");
        let output = Command::new(&self.ripstop)
            .args(words)
            .args(["--name", &self.name])
            .output()
            .with_context(|| format!("run {}", self.ripstop.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`ripstop {shown}` failed: {}", said.trim());
        }
        Ok(output)
    }
}

/// Waits until as many nodes as there should be are Ready.
pub(crate) async fn all_ready(client: &Client) -> Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    loop {
        let nodes = api.list(&ListParams::default()).await?;
        let ready = nodes.iter().filter(|node| {
            let conditions = node
                .status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|c| c.type_ == "Ready" && c.status == "True")
        });
        if ready.count() == NODES {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
