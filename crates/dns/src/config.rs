//! The configuration of one node's DNS: one JSON file, written by the supervisor or by a
//! DaemonSet's ConfigMap. What people set in a running cluster is in [`crate::settings`].

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::name;

/// What one node's DNS needs to know.
///
/// ```json
/// {
///   "nodeName": "node-1",
///   "kubeconfig": "/var/lib/ripstop/local/nodes/node-1/dns.kubeconfig",
///   "dataDir": "/var/lib/ripstop/local/nodes/node-1/dns",
///   "listen": ["10.96.0.10:53", "172.30.0.11:53"],
///   "metrics": ["127.0.0.1:9153", "10.96.0.10:9153"],
///   "servers": ["10.96.0.10"]
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsConfig {
    /// The name of this node's Node object.
    pub node_name: String,
    /// How to reach the API. Without it the DNS is a pod and uses its service account.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// What must survive a restart: the names that were known last.
    pub data_dir: PathBuf,
    /// Where questions are answered, by UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Where health and numbers are told.
    #[serde(default)]
    pub metrics: Vec<SocketAddr>,
    /// The addresses of the cluster's DNS: those of its Service.
    pub servers: Vec<IpAddr>,
    /// The cluster's domain.
    #[serde(default = "default_domain")]
    pub cluster_domain: String,
    /// Addresses of Services and pods: nobody else is asked for their names.
    #[serde(default)]
    pub cluster_ranges: Vec<IpNet>,
    /// Who may ask, beside the node itself; left out, everybody.
    #[serde(default)]
    pub clients: Vec<IpNet>,
    /// The node's resolver settings: whom to ask for other names, and what pods' resolvers search.
    #[serde(default = "default_resolv_conf")]
    pub resolv_conf: PathBuf,
    /// Where the node's agent says what it has heard of other nodes: `cni/heard.json` in its data folder. Left out, all
    /// nodes are taken to be there.
    #[serde(default)]
    pub heard: Option<PathBuf>,
    /// The network namespace whose loopback it is that `resolv_conf` and the settings mean, as in `/proc/1/ns/net`;
    /// left out, this one's.
    #[serde(default)]
    pub loopback_netns: Option<PathBuf>,
}

fn default_domain() -> String {
    "cluster.local".to_owned()
}

fn default_resolv_conf() -> PathBuf {
    "/etc/resolv.conf".into()
}

impl DnsConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it isn't there, or isn't what it should be.
    pub fn read(path: &Path) -> anyhow::Result<DnsConfig> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the DNS's configuration {}", path.display()))?;
        let config: DnsConfig = serde_json::from_str(&text).with_context(|| {
            format!(
                "the DNS's configuration {} isn't what it should be",
                path.display()
            )
        })?;
        config
            .validate()
            .with_context(|| format!("in {}", path.display()))?;
        Ok(config)
    }

    /// Refuses what can't work, with the field's name.
    ///
    /// # Errors
    /// When something can't work.
    pub fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            !self.node_name.is_empty(),
            "nodeName is empty: give the Node object's name"
        );
        ensure!(
            !self.listen.is_empty(),
            "listen is empty: give ADDRESS:PORT, as in 10.96.0.10:53"
        );
        ensure!(
            !self.servers.is_empty(),
            "servers is empty: give the addresses of the DNS's Service, as in 10.96.0.10"
        );
        let netns = self.loopback_netns.iter().map(|path| ("loopbackNetns", path));
        let heard = self.heard.iter().map(|path| ("heard", path));
        let paths = [("dataDir", &self.data_dir), ("resolvConf", &self.resolv_conf)];
        for (field, path) in paths.into_iter().chain(netns).chain(heard) {
            ensure!(
                path.is_absolute(),
                "{field} {} must be an absolute path",
                path.display()
            );
        }
        let domain = name::parse(&self.cluster_domain).filter(|name| !name.is_root());
        ensure!(
            domain.is_some(),
            "clusterDomain {:?} isn't a domain, as in cluster.local",
            self.cluster_domain
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn read(change: Value) -> anyhow::Result<DnsConfig> {
        let mut value =
            json!({"nodeName": "a", "dataDir": "/d", "listen": ["10.96.0.10:53"], "servers": ["10.96.0.10"]});
        for (key, change) in change.as_object().expect("an object") {
            value[key] = change.clone();
        }
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), value.to_string()).expect("written");
        DnsConfig::read(file.path())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = read(json!({})).expect("valid");
        assert_eq!(config.cluster_domain, "cluster.local");
        assert_eq!(config.resolv_conf, Path::new("/etc/resolv.conf"));
        assert!(config.clients.is_empty());
    }

    #[rstest]
    #[case(json!({"nodeName": ""}), "nodeName is empty")]
    #[case(json!({"listen": []}), "listen is empty")]
    #[case(json!({"servers": []}), "servers is empty")]
    #[case(json!({"dataDir": "d"}), "dataDir d must be an absolute path")]
    #[case(json!({"loopbackNetns": "net"}), "loopbackNetns net must be an absolute path")]
    #[case(json!({"heard": "heard.json"}), "heard heard.json must be an absolute path")]
    #[case(json!({"clusterDomain": "."}), "clusterDomain \".\" isn't a domain")]
    #[case(json!({"listens": []}), "unknown field `listens`")]
    fn what_cannot_work_is_refused_by_name(#[case] change: Value, #[case] message: &str) {
        let error = format!("{:#}", read(change).expect_err("refused"));
        assert!(error.contains(message), "{error}");
    }
}
