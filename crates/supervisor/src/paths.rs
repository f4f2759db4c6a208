//! Where a cluster keeps things: what lasts, and what a reboot may lose.

use std::path::{Path, PathBuf};

use crate::ClusterName;

/// What lasts, one folder a cluster.
pub const DATA_ROOT: &str = "/var/lib/ripstop";
/// What a reboot may lose, one folder a cluster.
pub const RUN_ROOT: &str = "/run/ripstop";

/// The folders of one cluster.
#[derive(Debug, Clone)]
pub struct Paths {
    /// What lasts.
    pub data: PathBuf,
    /// What a reboot may lose.
    pub run: PathBuf,
}

impl Paths {
    /// Those of a cluster.
    #[must_use]
    pub fn of(name: &ClusterName) -> Self {
        Self {
            data: Path::new(DATA_ROOT).join(name.as_str()),
            run: Path::new(RUN_ROOT).join(name.as_str()),
        }
    }

    /// What `up` was asked for and chose.
    #[must_use]
    pub fn cluster_file(&self) -> PathBuf {
        self.data.join("cluster.json")
    }

    /// The authority's and the server's certificates.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.data.join("pki")
    }

    /// The API's objects.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.data.join("store.redb")
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig")
    }

    /// One log a process.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.data.join("log")
    }

    /// The log of a process such as `agent node-1`.
    #[must_use]
    pub fn log(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{}.log", process.replace(' ', "-")))
    }

    /// Where the supervisor answers.
    #[must_use]
    pub fn supervisor_socket(&self) -> PathBuf {
        self.run.join("supervisor.sock")
    }

    /// Held by the one supervisor.
    #[must_use]
    pub fn supervisor_lock(&self) -> PathBuf {
        self.run.join("supervisor.lock")
    }

    /// The mount namespaces of the nodes.
    #[must_use]
    pub fn mounts(&self) -> PathBuf {
        self.run.join("mnt")
    }

    /// The plugins that containerd runs.
    #[must_use]
    pub fn cni_bin(&self) -> PathBuf {
        self.data.join("cni/bin")
    }

    /// The folders of a node.
    #[must_use]
    pub fn node(&self, node: &str) -> NodePaths {
        NodePaths {
            data: self.data.join("nodes").join(node),
            run: self.run.join("nodes").join(node),
            mountns: self.mounts().join(node),
            power_off: self.run.join("nodes").join(format!("{node}.off")),
        }
    }
}

/// The folders of one node.
#[derive(Debug, Clone)]
pub struct NodePaths {
    /// What is on the node's disk.
    pub data: PathBuf,
    /// What the node loses with its power.
    pub run: PathBuf,
    /// The node's mount namespace.
    pub mountns: PathBuf,
    /// There while the node is stopped.
    pub power_off: PathBuf,
}

impl NodePaths {
    /// The CRI, and containerd's own API.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }

    /// containerd's configuration.
    #[must_use]
    pub fn containerd_config(&self) -> PathBuf {
        self.data.join("containerd.toml")
    }

    /// containerd's images and containers.
    #[must_use]
    pub fn containerd_root(&self) -> PathBuf {
        self.data.join("containerd")
    }

    /// What containerd keeps of what runs: its tasks' folders, its sandboxes' mounts.
    #[must_use]
    pub fn containerd_state(&self) -> PathBuf {
        self.run.join("containerd")
    }

    /// The registries' `hosts.toml` files.
    #[must_use]
    pub fn registries(&self) -> PathBuf {
        self.data.join("registries")
    }

    /// The CNI configuration that the agent writes when it is ready.
    #[must_use]
    pub fn cni_conf(&self) -> PathBuf {
        self.data.join("cni/net.d")
    }

    /// Where the plugin asks the agent.
    #[must_use]
    pub fn cni_socket(&self) -> PathBuf {
        self.run.join("cni.sock")
    }

    /// The node's certificates.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.data.join("pki")
    }

    /// How the agent reaches the API.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig")
    }

    /// The agent's configuration.
    #[must_use]
    pub fn agent_config(&self) -> PathBuf {
        self.data.join("agent.json")
    }

    /// What the agent has heard of other nodes.
    #[must_use]
    pub fn heard(&self) -> PathBuf {
        self.data.join("cni/heard.json")
    }

    /// How the node's DNS reaches the API.
    #[must_use]
    pub fn dns_kubeconfig(&self) -> PathBuf {
        self.data.join("dns.kubeconfig")
    }

    /// The DNS's configuration.
    #[must_use]
    pub fn dns_config(&self) -> PathBuf {
        self.data.join("dns.json")
    }

    /// What the DNS keeps for its own restarts.
    #[must_use]
    pub fn dns_data(&self) -> PathBuf {
        self.data.join("dns")
    }

    /// The name servers on the machine's loopback, which the node's DNS asks.
    #[must_use]
    pub fn upstreams(&self) -> PathBuf {
        self.data.join("upstreams.conf")
    }

    /// The name servers that the node asks.
    #[must_use]
    pub fn resolv_conf(&self) -> PathBuf {
        self.data.join("resolv.conf")
    }
}
