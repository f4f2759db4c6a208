//! The agent's configuration: one JSON file, written by the supervisor or by a DaemonSet's ConfigMap.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use ipnet::IpNet;
use model::{PodNetwork, PodNetworkMode, Snapshot, Vxlan};
use serde::{Deserialize, Serialize};

/// What one node's agent needs to know.
///
/// ```json
/// {
///   "nodeName": "node-1",
///   "kubeconfig": "/var/lib/ripstop/local/nodes/node-1/kubeconfig",
///   "dataDir": "/var/lib/ripstop/local/nodes/node-1",
///   "runDir": "/run/ripstop/local/nodes/node-1",
///   "bpfDir": "/run/ripstop/local/nodes/node-1/bpf",
///   "nodeIps": ["172.30.0.11"],
///   "cni": {"confDir": "/var/lib/ripstop/local/nodes/node-1/cni/net.d"}
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentConfig {
    /// The name of this node's Node object.
    pub node_name: String,
    /// How to reach the API. Without it the agent is a pod and uses its service account.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// What must survive a restart of the agent: the journal of addresses is in `cni/` below it.
    pub data_dir: PathBuf,
    /// What a reboot may lose: sockets.
    pub run_dir: PathBuf,
    /// Where BPF programs and maps are pinned: a bpffs, or a folder where one may be mounted. Nodes
    /// that share a kernel have one each.
    #[serde(default = "default_bpf_dir")]
    pub bpf_dir: PathBuf,
    /// This node's own addresses, the preferred family first; the link that carries the first of
    /// them leads to the other nodes. Left out, they are the Node object's `InternalIP`s.
    #[serde(default)]
    pub node_ips: Vec<IpAddr>,
    /// The CNI plugin's side.
    pub cni: CniConfig,
    /// The pod network.
    #[serde(default)]
    pub network: NetworkConfig,
    /// The kubelet part. Only embedded clusters have it; elsewhere the node has a kubelet already.
    #[serde(default)]
    pub kubelet: Option<kubelet::Config>,
}

/// How the container runtime finds the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CniConfig {
    /// Where the runtime looks for network configurations. `10-ripstop.conflist` is there exactly
    /// while the network can serve pods.
    pub conf_dir: PathBuf,
    /// Where the plugin reaches the agent; left out, `cni.sock` in `runDir`.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// How many seconds a released address waits before another pod may have it.
    #[serde(default = "default_reuse_after")]
    pub reuse_after_seconds: u64,
    /// How many seconds, twice over, a container may have an attachment that the runtime doesn't know of:
    /// longer than it takes the runtime to make a sandbox. One that was asked for before the runtime was
    /// started may not.
    #[serde(default = "default_orphan_after")]
    pub orphan_after_seconds: u64,
}

/// The pod network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkConfig {
    /// Destinations outside the cluster that see pods' own addresses, because they have a route
    /// back. Pods and nodes always do.
    #[serde(default)]
    pub non_masquerade: Vec<IpNet>,
    /// Whether `spec.externalIPs` of Services counts. It lets whoever may write Services have any
    /// address's traffic, so it doesn't unless it's set.
    #[serde(default)]
    pub external_ips: bool,
    /// Service addresses that each node has for itself, because a process of its own answers there:
    /// the cluster's DNS.
    #[serde(default)]
    pub node_local: BTreeSet<IpAddr>,
    /// The largest packet of pods, in bytes; left out, what the uplink takes, less the tunnels'
    /// headers where all pods of other nodes are reached by tunnels.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// How pods of different nodes reach each other, the same on every node: `native` routes,
    /// `vxlan` tunnels, or `auto`, which routes between nodes that share a link and tunnels between
    /// others.
    #[serde(default)]
    pub pod_network: PodNetworkMode,
    /// What the tunnels are like, the same on every node.
    #[serde(default)]
    pub vxlan: Vxlan,
}

impl NetworkConfig {
    /// How pods of different nodes reach each other.
    pub fn pod_network(&self) -> PodNetwork {
        PodNetwork {
            mode: self.pod_network,
            vxlan: self.vxlan,
        }
    }

    /// The cluster as far as this configuration says: everything but its nodes and pods.
    pub fn blank(&self) -> Snapshot {
        Snapshot {
            non_masquerade: self.non_masquerade.clone(),
            pod_network: self.pod_network(),
            external_ips: self.external_ips,
            node_local: self.node_local.clone(),
            ..Snapshot::default()
        }
    }
}

/// Long enough for endpoints and policies on other nodes to forget the address, short enough for
/// small blocks with many short jobs.
const fn default_reuse_after() -> u64 {
    10
}

/// Longer than a runtime waits for a plugin.
const fn default_orphan_after() -> u64 {
    150
}

fn default_bpf_dir() -> PathBuf {
    "/sys/fs/bpf/ripstop".into()
}

impl AgentConfig {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> anyhow::Result<AgentConfig> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the agent's configuration {}", path.display()))?;
        let config: AgentConfig = serde_json::from_str(&text).with_context(|| {
            format!(
                "the agent's configuration {} isn't what it should be",
                path.display()
            )
        })?;
        config
            .validate()
            .with_context(|| format!("in {}", path.display()))?;
        Ok(config)
    }

    /// Refuses what can't work, with the field's name.
    pub fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            !self.node_name.is_empty(),
            "nodeName is empty: give the Node object's name"
        );
        for (field, path) in [
            ("dataDir", &self.data_dir),
            ("runDir", &self.run_dir),
            ("bpfDir", &self.bpf_dir),
            ("cni.confDir", &self.cni.conf_dir),
        ] {
            ensure!(
                path.is_absolute(),
                "{field} {} must be an absolute path",
                path.display()
            );
        }
        let socket = self.socket();
        ensure!(
            socket.is_absolute(),
            "cni.socket {} must be an absolute path",
            socket.display()
        );
        const SOCKET_PATH_MAX: usize = 107;
        ensure!(
            socket.as_os_str().len() <= SOCKET_PATH_MAX,
            "cni.socket {} is longer than the {SOCKET_PATH_MAX} bytes that the kernel allows: choose a shorter runDir",
            socket.display()
        );
        ensure!(
            self.cni.orphan_after_seconds > 0,
            "cni.orphanAfterSeconds 0 would release what the runtime is about to use: leave it out for 150"
        );
        if let Some(mtu) = self.network.mtu {
            ensure!(
                (MTU_MIN..=MTU_MAX).contains(&mtu),
                "network.mtu {mtu} must be between {MTU_MIN}, which IPv6 needs, and {MTU_MAX}"
            );
        }
        let Vxlan { vni, port } = self.network.vxlan;
        ensure!(
            (1..Vxlan::VNI_END).contains(&vni),
            "network.vxlan.vni {vni} must be between 1 and {}",
            Vxlan::VNI_END - 1
        );
        ensure!(
            port != 0,
            "network.vxlan.port 0 is no port: leave it out for 4789, or give a free one"
        );
        Ok(())
    }

    /// Where the node's own processes are told of conversations.
    pub fn flows_socket(&self) -> PathBuf {
        self.run_dir.join("flows.sock")
    }

    /// Where the plugin reaches the agent.
    pub fn socket(&self) -> PathBuf {
        self.cni
            .socket
            .clone()
            .unwrap_or_else(|| self.run_dir.join("cni.sock"))
    }

    /// Where the journal and what the agent last knew are kept.
    pub fn cni_dir(&self) -> PathBuf {
        self.data_dir.join("cni")
    }

    /// The control group of everything on this node: where nodes share a machine, the one that its pods
    /// are below, else the root.
    pub fn cgroup(&self) -> String {
        let kubelet = self.kubelet.as_ref();
        kubelet.map_or_else(|| "/".to_owned(), |kubelet| kubelet.cgroup_root.clone())
    }

    /// How long a released address waits.
    pub fn reuse_after(&self) -> Duration {
        Duration::from_secs(self.cni.reuse_after_seconds)
    }
}

const MTU_MIN: u32 = 1280;
const MTU_MAX: u32 = 65535;

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn minimal() -> Value {
        json!({"nodeName": "a", "dataDir": "/d", "runDir": "/r", "cni": {"confDir": "/c"}})
    }

    fn read(value: &Value) -> anyhow::Result<AgentConfig> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), value.to_string()).expect("written");
        AgentConfig::read(file.path())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = read(&minimal()).expect("valid");
        assert_eq!(config.socket(), Path::new("/r/cni.sock"));
        assert_eq!(config.cni_dir(), Path::new("/d/cni"));
        assert_eq!(config.reuse_after(), Duration::from_secs(10));
        assert_eq!(config.bpf_dir, Path::new("/sys/fs/bpf/ripstop"));
        assert_eq!(config.kubelet, None);
        assert_eq!(config.network.pod_network(), PodNetwork::default());
    }

    #[rstest]
    #[case::no_name(json!({"nodeName": ""}), "nodeName is empty")]
    #[case::relative(json!({"dataDir": "d"}), "dataDir d must be an absolute path")]
    #[case::typo(json!({"nodeIp": "10.0.0.1"}), "unknown field `nodeIp`")]
    #[case::small_mtu(json!({"network": {"mtu": 1000}}), "network.mtu 1000 must be between 1280")]
    #[case::vni(json!({"network": {"vxlan": {"vni": 1 << 24}}}), "network.vxlan.vni 16777216 must be between 1 and 16777215")]
    #[case::port(json!({"network": {"vxlan": {"port": 0}}}), "network.vxlan.port 0 is no port")]
    #[case::mode(json!({"network": {"podNetwork": "vlan"}}), "unknown variant `vlan`, expected one of `auto`, `native`, `vxlan`")]
    #[case::orphans(json!({"cni": {"confDir": "/c", "orphanAfterSeconds": 0}}), "cni.orphanAfterSeconds 0")]
    #[case::long_socket(json!({"runDir": format!("/{}", "x".repeat(120))}), "longer than the 107 bytes")]
    fn what_cannot_work_is_refused_by_name(#[case] change: Value, #[case] message: &str) {
        let mut value = minimal();
        for (key, change) in change.as_object().expect("an object") {
            value[key] = change.clone();
        }
        let error = format!("{:#}", read(&value).expect_err("refused"));
        assert!(error.contains(message), "{error}");
    }
}
