//! What can go wrong with an embedded cluster: what it was, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::cluster::MAX_NODES;
use crate::network::{Family, IpFamily, Taken};

/// Why a cluster can't be made, run or removed. `Display` says what; [`Error::cure`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that would not do everywhere.
    #[error("{0:?} can't be the name of a cluster")]
    ClusterName(String),
    /// No nodes, or too many.
    #[error("a cluster can't have {asked} nodes")]
    NodeCount {
        /// What was asked for.
        asked: usize,
    },
    /// A range of a family that the cluster doesn't have.
    #[error("{flag} {range} is an {} range, and the cluster is to be {cluster}", Family::of(range.addr()))]
    WrongFamily {
        /// The flag.
        flag: &'static str,
        /// The range.
        range: IpNet,
        /// What the cluster is to be.
        cluster: IpFamily,
    },
    /// Two ranges where there is one a family.
    #[error("{flag} has two {} ranges, {first} and {second}", Family::of(first.addr()))]
    TwoOfOneFamily {
        /// The flag.
        flag: &'static str,
        /// The one.
        first: IpNet,
        /// The other.
        second: IpNet,
    },
    /// Flags disagree about the preferred family.
    #[error("{} has {} first, and {} has {} first", first.0, first.1, second.0, second.1)]
    FamilyOrder {
        /// Flag and what is first in it.
        first: (&'static str, Family),
        /// Flag and what is first in it.
        second: (&'static str, Family),
    },
    /// A range of addresses with a meaning of their own.
    #[error("{flag} {range} shares addresses with {reserved} ({what})")]
    RangeReserved {
        /// The flag.
        flag: &'static str,
        /// The range.
        range: IpNet,
        /// The reserved range.
        reserved: &'static str,
        /// What it is for.
        what: &'static str,
    },
    /// A range with too few addresses.
    #[error("{flag} {range} is too small")]
    RangeTooSmall {
        /// The flag.
        flag: &'static str,
        /// The range.
        range: IpNet,
        /// The longest prefix that would do.
        needs: u8,
    },
    /// A pod range with too few parts.
    #[error("--pod-cidr {range} has room for {room} nodes, and {nodes} were asked for")]
    PodRangeTooSmall {
        /// The range.
        range: IpNet,
        /// Parts in it.
        room: usize,
        /// Nodes asked for.
        nodes: usize,
        /// The length of a node's part.
        block: u8,
    },
    /// Two of the cluster's own ranges share addresses.
    #[error("{} {} and {} {} overlap", first.0, first.1, second.0, second.1)]
    RangesOverlap {
        /// Flag and range.
        first: (&'static str, IpNet),
        /// Flag and range.
        second: (&'static str, IpNet),
    },
    /// The node network is in use.
    #[error("the node network {network} overlaps {} ({})", other.range, other.by)]
    NodeNetworkTaken {
        /// What was asked for.
        network: IpNet,
        /// What uses it.
        other: Taken,
    },
    /// All that are tried are in use.
    #[error("no {} node network is free from {first} to {last}", Family::of(first.addr()))]
    NoNodeNetwork {
        /// The first that was tried.
        first: IpNet,
        /// The last one.
        last: IpNet,
    },
    /// No node of that name.
    #[error("there is no node {asked:?} in this cluster")]
    NoNode {
        /// What was asked for.
        asked: String,
        /// What there is.
        nodes: Vec<String>,
    },
    /// The node is in that state already, or about to be in another.
    #[error("{node} is {state}")]
    NodeState {
        /// The node.
        node: String,
        /// Its state.
        state: &'static str,
    },
    /// `cluster.json` is damaged.
    #[error("{path} is damaged: {reason}")]
    BrokenCluster {
        /// The file.
        path: PathBuf,
        /// In which way.
        reason: String,
    },
    /// No such cluster.
    #[error("there is no cluster {0:?}")]
    NoCluster(String),
    /// The cluster is there and not running.
    #[error("cluster {0:?} isn't running")]
    NotRunning(String),
    /// Another supervisor has this cluster.
    #[error("another supervisor runs cluster {0:?}")]
    AlreadySupervised(String),
    /// A file or folder.
    #[error("can't {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A request to the kernel.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// Namespaces, mounts, cgroups, processes.
    #[error("{action}: {source}")]
    System {
        /// What was being done.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// A process doesn't come up.
    #[error("{process} doesn't answer")]
    NotReady {
        /// Which.
        process: String,
        /// Where it says why.
        log: PathBuf,
    },
    /// An archive can't be put on a node.
    #[error("{archive} can't be loaded on {node}: {reason}")]
    Images {
        /// The archive.
        archive: PathBuf,
        /// The node.
        node: String,
        /// What containerd said.
        reason: String,
    },
    /// The supervisor's socket.
    #[error("the supervisor doesn't answer: {0}")]
    Socket(io::Error),
    /// What the supervisor answered instead.
    #[error("{what}")]
    Remote {
        /// What went wrong.
        what: String,
        /// What to do.
        cure: String,
        /// The log that says more.
        log: Option<PathBuf>,
    },
}

impl Error {
    /// A failed operation on a file.
    #[must_use]
    pub fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// Adds to an error of the system what was being done.
    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }

    /// What to do about it, in one line.
    #[must_use]
    pub fn cure(&self) -> String {
        match self {
            Self::ClusterName(_) => {
                "use up to 30 lowercase letters, digits and dashes, such as `--name dev-2`".to_owned()
            }
            Self::NodeCount { .. } => format!("ask for 1 to {MAX_NODES}, as in `--nodes 3`"),
            Self::WrongFamily { flag, range, cluster } => wrong_family(flag, *range, *cluster),
            Self::TwoOfOneFamily { flag, .. } => {
                format!("give {flag} one range, or with `--ip-family dual` one of each family")
            }
            Self::FamilyOrder { .. } => {
                "write the family that is to be preferred first everywhere".to_owned()
            }
            Self::RangeReserved { flag, range, .. } => format!(
                "give {flag} a private range, as in `{flag} {}`",
                match (*flag, Family::of(range.addr())) {
                    ("--node-network", Family::V4) => "192.168.77.0/24",
                    ("--node-network", Family::V6) => "fd00:77::/64",
                    (_, Family::V4) => "10.80.0.0/16",
                    (_, Family::V6) => "fd00:80::/56",
                }
            ),
            Self::RangeTooSmall { flag, needs, .. } => format!("give {flag} a /{needs} or a shorter prefix"),
            Self::PodRangeTooSmall { block, .. } => format!(
                "each node gets a /{block}: give --pod-cidr a shorter prefix, or ask for fewer --nodes"
            ),
            Self::RangesOverlap { first, .. } => format!("give {} another range", first.0),
            Self::NodeNetworkTaken { .. } => {
                "leave --node-network out to have a free one chosen, or give another".to_owned()
            }
            Self::NoNodeNetwork { first, .. } => format!(
                "give a free one with --node-network, as in `--node-network {}`",
                match Family::of(first.addr()) {
                    Family::V4 => "192.168.77.0/24",
                    Family::V6 => "fd00:77::/64",
                }
            ),
            Self::NoNode { nodes, .. } => format!("its nodes are {}", nodes.join(", ")),
            Self::NodeState { .. } => "`ripstop status` shows the nodes".to_owned(),
            Self::BrokenCluster { .. } => {
                "`ripstop down` removes the cluster, its objects included; `ripstop up` makes a new one".to_owned()
            }
            Self::NoCluster(name) => format!("`ripstop up --name {name}` makes it"),
            Self::NotRunning(name) => format!("`ripstop up --name {name}` starts it"),
            Self::AlreadySupervised(name) => format!("`ripstop status --name {name}` shows it"),
            Self::File { source, .. } | Self::System { source, .. } => cure_of(source),
            Self::Kernel(_) => "if the message names no cause, `dmesg` may".to_owned(),
            Self::Pki(_) => "the certificates are in the `pki` folder of the cluster's data".to_owned(),
            Self::NotReady { log, .. } => format!("its log says why: {}", log.display()),
            Self::Images { .. } => {
                "it must be a tar of `docker save`, or an OCI image layout as a tar; `docker save -o FILE IMAGE` makes one"
                    .to_owned()
            }
            Self::Socket(_) => "`ripstop up` starts a new supervisor; what runs goes on running".to_owned(),
            Self::Remote { cure, .. } => cure.clone(),
        }
    }

    /// The log that says more, if there is one.
    #[must_use]
    pub fn log(&self) -> Option<&Path> {
        match self {
            Self::NotReady { log, .. } => Some(log),
            Self::Remote { log, .. } => log.as_deref(),
            _ => None,
        }
    }
}

fn wrong_family(flag: &str, range: IpNet, cluster: IpFamily) -> String {
    let given = match Family::of(range.addr()) {
        Family::V4 => IpFamily::Ipv4,
        Family::V6 => IpFamily::Ipv6,
    };
    format!(
        "add `--ip-family dual` for both families or `--ip-family {}` for {given} alone, or give {flag} an {cluster} range",
        given.flag()
    )
}

fn cure_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run it as root, as in `sudo ripstop …`",
        io::ErrorKind::StorageFull => "make room on the disk",
        io::ErrorKind::NotFound => {
            "something it needs was removed: `ripstop down` and `ripstop up` start afresh"
        }
        _ => "`dmesg` and the logs of the cluster may say more",
    }
    .to_owned()
}
