use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// What the kubelet of one node needs to know. Everything with a sensible
/// default may be left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The Node object's name.
    pub node_name: String,
    /// The node's own addresses, the preferred family first.
    pub node_ips: Vec<IpAddr>,
    /// The container runtime's socket.
    pub cri_socket: PathBuf,
    /// containerd's state folder (`state` of its configuration), where the kubelet removes what containerd
    /// forgot. Left out, nobody looks there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerd_state: Option<PathBuf>,
    /// Where pods' volumes (`pods/`) and logs (`logs/pods/`) live.
    pub root_dir: PathBuf,
    /// The node's cgroup in every hierarchy, such as `/ripstop/local/node-1`;
    /// pods go below it, into `kubepods/podUID`.
    pub cgroup_root: String,
    /// Where the kubelet's API listens: one port, at each of the node's addresses.
    #[serde(deserialize_with = "one_or_many")]
    pub listen: Vec<SocketAddr>,
    /// Certificate (chain) of the kubelet's API.
    pub server_cert: PathBuf,
    /// Key of the kubelet's API.
    pub server_key: PathBuf,
    /// The authority that signs the API's clients.
    pub client_ca: PathBuf,
    /// The node's resolver settings, for pods that use those.
    #[serde(default = "defaults::resolv_conf")]
    pub resolv_conf: PathBuf,
    /// Addresses of the cluster's DNS; empty while the cluster has none.
    #[serde(default)]
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS suffix.
    #[serde(default = "defaults::cluster_domain")]
    pub cluster_domain: String,
    /// Labels that the Node gets besides the well-known ones.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints that the Node is registered with.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// How many pods the node takes.
    #[serde(default = "defaults::max_pods")]
    pub max_pods: u32,
    /// What the node claims to have; what is left out is the whole machine's.
    #[serde(default)]
    pub capacity: Capacity,
    /// How long the node counts as alive after a renewal of its Lease.
    #[serde(default = "defaults::lease_seconds")]
    pub lease_seconds: u32,
    /// How many sandboxes and containers are set up at the same time.
    #[serde(default = "defaults::parallel_starts")]
    pub parallel_starts: usize,
    /// How often the runtime is asked what runs.
    #[serde(default = "defaults::relist_millis")]
    pub relist_millis: u64,
    /// How often is looked for what pods and the runtime left behind: on disk, among control groups and among
    /// processes.
    #[serde(default = "defaults::garbage_seconds")]
    pub garbage_seconds: u64,
    /// How large a container's log file grows before it is rotated.
    #[serde(default = "defaults::log_max_bytes")]
    pub log_max_bytes: u64,
    /// How many log files a container keeps, the current one included.
    #[serde(default = "defaults::log_max_files")]
    pub log_max_files: usize,
    /// When images that nobody uses are removed.
    #[serde(default)]
    pub image_gc: ImageGc,
}

/// When images that nobody uses are removed; the defaults are Kubernetes' own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImageGc {
    /// How full the images' disk may get before, in percent; 100 turns it off.
    pub high_percent: u8,
    /// How full the disk is to be afterwards, in percent.
    pub low_percent: u8,
    /// How long an image stays at least, in seconds.
    pub min_age_seconds: u32,
    /// How often the disk is looked at, in seconds.
    pub period_seconds: u64,
}

impl Default for ImageGc {
    fn default() -> Self {
        Self {
            high_percent: 85,
            low_percent: 80,
            min_age_seconds: 120,
            period_seconds: 300,
        }
    }
}

impl ImageGc {
    pub(crate) fn min_age(&self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_secs(self.min_age_seconds.into())
    }
}

/// The share of the machine that a node claims.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capacity {
    /// Processors, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// How many nodes share the machine: each claims its part of what isn't given above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_by: Option<u64>,
}

mod defaults {
    use super::PathBuf;

    pub(super) fn resolv_conf() -> PathBuf {
        "/etc/resolv.conf".into()
    }
    pub(super) fn cluster_domain() -> String {
        "cluster.local".to_owned()
    }
    pub(super) fn max_pods() -> u32 {
        110
    }
    pub(super) fn lease_seconds() -> u32 {
        40
    }
    pub(super) fn parallel_starts() -> usize {
        4
    }
    pub(super) fn relist_millis() -> u64 {
        1000
    }
    pub(super) fn garbage_seconds() -> u64 {
        60
    }

    pub(super) fn log_max_bytes() -> u64 {
        10 << 20
    }
    pub(super) fn log_max_files() -> usize {
        5
    }
}

impl Config {
    /// A configuration with all defaults. The certificate paths start out
    /// below `root_dir/pki`.
    pub fn new(
        node_name: impl Into<String>,
        node_ip: IpAddr,
        cri_socket: impl Into<PathBuf>,
        root_dir: impl Into<PathBuf>,
        cgroup_root: impl Into<String>,
    ) -> Self {
        let root_dir = root_dir.into();
        let pki = root_dir.join("pki");
        Self {
            node_name: node_name.into(),
            node_ips: vec![node_ip],
            cri_socket: cri_socket.into(),
            containerd_state: None,
            cgroup_root: cgroup_root.into(),
            listen: vec![SocketAddr::new(node_ip, 10250)],
            server_cert: pki.join("server.crt"),
            server_key: pki.join("server.key"),
            client_ca: pki.join("ca.crt"),
            root_dir,
            resolv_conf: defaults::resolv_conf(),
            cluster_dns: Vec::new(),
            cluster_domain: defaults::cluster_domain(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            max_pods: defaults::max_pods(),
            capacity: Capacity::default(),
            lease_seconds: defaults::lease_seconds(),
            parallel_starts: defaults::parallel_starts(),
            relist_millis: defaults::relist_millis(),
            garbage_seconds: defaults::garbage_seconds(),
            log_max_bytes: defaults::log_max_bytes(),
            log_max_files: defaults::log_max_files(),
            image_gc: ImageGc::default(),
        }
    }

    /// Where pods' volumes and files live.
    pub(crate) fn pods_dir(&self) -> PathBuf {
        self.root_dir.join("pods")
    }

    /// Where the files of `Localhost` seccomp profiles are.
    pub(crate) fn seccomp_dir(&self) -> PathBuf {
        self.root_dir.join("seccomp")
    }

    /// Where is kept whose images they are.
    pub(crate) fn pulled_file(&self) -> PathBuf {
        self.root_dir.join("pulled.json")
    }

    /// Where pods' logs live.
    pub(crate) fn logs_dir(&self) -> PathBuf {
        self.root_dir.join("logs/pods")
    }

    /// The cgroup of all pods.
    pub(crate) fn pods_cgroup(&self) -> String {
        format!("{}/kubepods", self.cgroup_root.trim_end_matches('/'))
    }

    pub(crate) fn relist(&self) -> Duration {
        Duration::from_millis(self.relist_millis.max(50))
    }
}

/// A single address is what an agent's file of before there were families has.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(SocketAddr),
        Many(Vec<SocketAddr>),
    }
    match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(socket) => Ok(vec![socket]),
        OneOrMany::Many(sockets) if sockets.is_empty() => Err(D::Error::custom(
            "listen is empty: give ADDRESS:PORT, as in 172.30.0.11:10250",
        )),
        OneOrMany::Many(sockets) => Ok(sockets),
    }
}

/// A pod's folder of volumes and other files.
pub(crate) fn pod_dir(pods: &Path, uid: &str) -> PathBuf {
    pods.join(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_configuration_is_enough() {
        let config: Config = serde_json::from_str(
            r#"{"nodeName":"node-1","nodeIps":["172.30.0.11"],"criSocket":"/run/c.sock",
                "rootDir":"/var/lib/x","cgroupRoot":"/ripstop/local/node-1",
                "listen":"172.30.0.11:10250","serverCert":"/a","serverKey":"/b","clientCa":"/c"}"#,
        )
        .unwrap();
        assert_eq!(config.max_pods, 110);
        assert_eq!(config.pods_cgroup(), "/ripstop/local/node-1/kubepods");
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn there_may_be_an_address_of_each_family_to_listen_at() {
        let text = |listen: &str| {
            format!(
                r#"{{"nodeName":"a","nodeIps":["172.30.0.11","fd00::11"],"criSocket":"/c","rootDir":"/r",
                "cgroupRoot":"/g","listen":{listen},"serverCert":"/a","serverKey":"/b","clientCa":"/c"}}"#
            )
        };
        let read = |listen| serde_json::from_str::<Config>(&text(listen)).map(|config| config.listen.len());
        assert_eq!(read(r#"["172.30.0.11:10250","[fd00::11]:10250"]"#).unwrap(), 2);
        assert_eq!(read(r#""172.30.0.11:10250""#).unwrap(), 1);
        let error = read("[]").unwrap_err();
        assert!(error.to_string().contains("listen is empty"), "{error}");
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        let error = serde_json::from_str::<Capacity>(r#"{"cpu":1}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `cpu`"), "{error}");
    }
}
