//! What can be typed.

mod explain;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use controllers::AddressRange;
use ipnet::IpNet;
use model::PodNetworkMode;
use supervisor::network::IpFamily;
use supervisor::{ClusterName, NodePorts};

pub(crate) use explain::{Policy, Source, Trace};

/// A Kubernetes cluster's network, and a small cluster to run it in.
///
/// `ripstop up` starts a cluster of several nodes on this machine; plain kubectl drives it.
#[derive(Debug, Parser)]
#[command(name = "ripstop", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sudo ripstop up                       a cluster of three nodes
  sudo ripstop up --config cluster.yaml one as the file describes it
  kubectl get nodes                     … that kubectl knows at once
  sudo ripstop image load web.tar       put an image of yours on every node
  sudo ripstop check                    prove that its network works
  ripstop trace pod/web svc/db          may web reach db, and which policy says so
  sudo ripstop down                     take everything out again";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster, or bring it back after a crash or reboot
    Up(Up),
    /// Take a cluster out: afterwards nothing of it is left
    Down(Down),
    /// Show what runs: nodes, processes, restarts
    Status(Status),
    /// Print the administrator's kubeconfig
    Kubeconfig(Named),
    /// Work with images on the nodes
    Image {
        #[command(subcommand)]
        command: Image,
    },
    /// Save all objects of a cluster, and bring them back
    Snapshot {
        #[command(subcommand)]
        command: Snapshot,
    },
    /// Cut a node's power, and give it back
    Node {
        #[command(subcommand)]
        command: Node,
    },
    /// Prove the cluster's network, end to end
    Check(Check),
    /// Show what happens to conversations, and which policies decide
    Flows(Flows),
    /// Tell whether a packet would arrive, by which way, and which policy decides
    Trace(Trace),
    /// Look into network policies
    Policy {
        #[command(subcommand)]
        command: Policy,
    },
    /// Print the end of a process's log
    Logs(Logs),
    /// Print completions for a shell
    ///
    /// For bash: `ripstop completions bash > /etc/bash_completion.d/ripstop`
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Run a cluster's supervisor (`up` does)
    #[command(hide = true)]
    Supervise(Named),
    /// Run the API server, the controllers and the scheduler (the supervisor does)
    #[command(hide = true)]
    Server(Server),
    /// Run a node's DNS in the network namespace of this process
    #[command(hide = true)]
    Dns {
        /// The DNS's configuration, JSON
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run a node's agent in the network namespace of this process
    #[command(hide = true)]
    Agent {
        /// The agent's configuration, JSON
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

impl Command {
    /// Whether it is a process of a cluster rather than a person's command.
    pub(crate) fn is_process(&self) -> bool {
        matches!(
            self,
            Self::Supervise(_) | Self::Server(_) | Self::Agent { .. } | Self::Dns { .. }
        )
    }
}

/// Every command about a cluster says which.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Named {
    /// The cluster's name
    #[arg(long, default_value = "local", value_parser = cluster_name)]
    pub(crate) name: ClusterName,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) named: Named,
    /// What the cluster is to be: nodes with labels, zones, taints and mounts, ports of this machine,
    /// registries, manifests, and more
    ///
    /// A YAML file; docs/config.md describes it. What is given as an option too counts as it is given there.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// How many nodes [default: 3, or what the cluster has]
    #[arg(long, value_name = "COUNT")]
    pub(crate) nodes: Option<usize>,
    /// Leave the kubeconfig of the invoking user alone
    #[arg(long)]
    pub(crate) no_kubeconfig: bool,
    /// Which addresses pods, nodes and Services have [default: ipv4, or what the cluster has]
    ///
    /// In a dual-stack cluster the family whose ranges are written first is preferred: IPv4, unless
    /// --pod-cidr, --service-cidr or --node-network has both in the other order.
    #[arg(long, value_name = "FAMILY", value_enum)]
    pub(crate) ip_family: Option<Family>,
    /// Addresses of pods, a range of each family: a /24 of IPv4 and a /64 of IPv6 for each node
    /// [default: 10.244.0.0/16,fd00:10:244::/56]
    #[arg(long, value_name = "RANGE[,RANGE]", value_delimiter = ',')]
    pub(crate) pod_cidr: Vec<IpNet>,
    /// Addresses of Services, a range of each family [default: 10.96.0.0/16,fd00:10:96::/112]
    #[arg(long, value_name = "RANGE[,RANGE]", value_delimiter = ',')]
    pub(crate) service_cidr: Vec<IpNet>,
    /// Addresses of nodes, on a link of this machine, a range of each family [default: the first
    /// that are free from 172.30.0.0/24 and fd00:172:30::/64 on]
    #[arg(long, value_name = "RANGE[,RANGE]", value_delimiter = ',')]
    pub(crate) node_network: Vec<IpNet>,
    /// Destinations outside the cluster that see pods' own addresses rather than the node's: they
    /// need a route back [default: none]
    #[arg(long, value_name = "RANGE,…", value_delimiter = ',', value_parser = range)]
    pub(crate) non_masquerade: Vec<IpNet>,
    /// Ports that Services can have on every node [default: 30000-32767, or what the cluster has]
    #[arg(long, value_name = "FIRST-LAST")]
    pub(crate) service_node_port_range: Option<NodePorts>,
    /// How pods of different nodes reach each other: by routes (native), in tunnels (vxlan), or by
    /// routes where nodes share a link and in tunnels elsewhere (auto) [default: auto]
    #[arg(long, value_name = "KIND", value_parser = pod_network())]
    pub(crate) pod_network: Option<PodNetworkMode>,
    /// When it fails, leave everything as it is, to be looked at
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) named: Named,
    /// Keep objects, images and volumes for the next `up`
    #[arg(long)]
    pub(crate) keep_data: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) named: Named,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) named: Named,
    /// Check the cluster of this kubeconfig instead, whatever made it
    ///
    /// What only the machine of an embedded cluster can tell is left out then.
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The image that pods run; it must hold `toolbox`
    #[arg(long, default_value = "localhost/ripstop/toolbox:1")]
    pub(crate) image: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Flows {
    #[command(flatten)]
    pub(crate) named: Named,
    /// Ask the agent of this node alone, by its socket, where the kubelet is another's
    #[arg(long, value_name = "PATH", conflicts_with = "name")]
    pub(crate) socket: Option<PathBuf>,
    /// Go on with those that come, conversations that policies allow among them
    ///
    /// Without it there is what was kept: what was dropped, and what others have followed.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Those of pods and Services in this namespace
    #[arg(short, long, value_parser = object_name)]
    pub(crate) namespace: Option<String>,
    /// Those of pods of this name
    #[arg(long, value_parser = object_name)]
    pub(crate) pod: Option<String>,
    /// Those with this port on either side
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Only what was dropped
    #[arg(long)]
    pub(crate) dropped: bool,
    /// How many of the last ones, of each node while they are followed
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    pub(crate) last: usize,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// A name as objects have them.
fn object_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if !text.is_empty() && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("names have small letters, digits, - and . alone".to_owned())
}

#[cfg(test)]
impl Flows {
    pub(crate) fn of(name: &str) -> Flows {
        let args = Args::try_parse_from(["ripstop", "flows", "--name", name]);
        match args.map(|args| args.command) {
            Ok(Command::Flows(flows)) => flows,
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) named: Named,
    /// Which process, as `status` names it: supervisor, server, `agent node-1`, `dns node-1` …
    #[arg(required = true, num_args = 1..=2, value_name = "PROCESS")]
    pub(crate) process: Vec<String>,
    /// How many lines
    #[arg(short = 'n', long, default_value_t = 50, value_name = "COUNT")]
    pub(crate) lines: usize,
}

/// The families of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Family {
    /// IPv4 alone
    Ipv4,
    /// IPv6 alone: no pod, node or Service has an IPv4 address
    Ipv6,
    /// Both: each pod and node has an address of each
    Dual,
}

impl From<Family> for IpFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::Ipv4 => Self::Ipv4,
            Family::Ipv6 => Self::Ipv6,
            Family::Dual => Self::Dual,
        }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Put the images of docker-archive or OCI tars on every node
    ///
    /// `docker save -o web.tar web:1 && ripstop image load web.tar`. A tag of `:latest` makes
    /// Kubernetes ask a registry each time: use another.
    Load {
        #[command(flatten)]
        named: Named,
        /// Tars of `docker save`, or OCI image layouts as tars
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Save the objects of a running cluster, as of one moment
    ///
    /// It holds what the API holds, secrets among it; images, volumes, certificates and keys aren't in it.
    Save {
        #[command(flatten)]
        named: Named,
        /// Where to; a file that is there is replaced
        file: PathBuf,
    },
    /// Put a snapshot in the place of a stopped cluster's objects
    ///
    /// `ripstop down --keep-data` stops a cluster, `ripstop up` starts it again. What was there before is kept
    /// beside. Watches that know a later state are told to begin anew.
    Restore {
        #[command(flatten)]
        named: Named,
        /// A file of `ripstop snapshot save`
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Cut a node's power: its processes, links and mounts are gone at once, its disk stays
    Stop(OneNode),
    /// Give a stopped node power again
    Start(OneNode),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct OneNode {
    #[command(flatten)]
    pub(crate) named: Named,
    /// The node, as in node-1
    pub(crate) node: String,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Server {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", value_delimiter = ',', required = true)]
    pub(crate) listen: Vec<SocketAddr>,
    /// The file of the objects; made when it isn't there
    #[arg(long, value_name = "FILE")]
    pub(crate) store: PathBuf,
    /// The folder of ca.crt, server.crt, server.key, kubelet-client.crt and kubelet-client.key
    #[arg(long, value_name = "FOLDER")]
    pub(crate) pki: PathBuf,
    /// Addresses of pods, a range of each family, the preferred one's first
    #[arg(long, value_name = "RANGE", value_delimiter = ',', required = true)]
    pub(crate) pod_cidr: Vec<IpNet>,
    /// Addresses of Services, a range of each family, the preferred one's first
    #[arg(long, value_name = "RANGE", value_delimiter = ',', required = true)]
    pub(crate) service_cidr: Vec<IpNet>,
    /// Ports that Services can have on every node
    #[arg(long, value_name = "FIRST-LAST", default_value_t)]
    pub(crate) service_node_port_range: NodePorts,
    /// Addresses of load balancers, ranges of either family: the LoadBalancerPool `default`, made once
    #[arg(long, value_name = "FIRST-LAST", value_delimiter = ',')]
    pub(crate) load_balancer_pool: Vec<AddressRange>,
    /// Addresses that no load balancer gets, whatever a pool says; those of nodes it never does
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) reserved_address: Vec<IpAddr>,
    /// For how many seconds a node may be silent before it counts as lost
    #[arg(long, value_name = "SECONDS", default_value_t = 40)]
    pub(crate) node_monitor_grace_period: u32,
    /// For how many seconds pods that don't say stay on a node that isn't ready
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) default_not_ready_toleration_seconds: u32,
    /// For how many seconds pods that don't say stay on a node of which nothing is heard
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) default_unreachable_toleration_seconds: u32,
}

/// A range, or a single address as one.
fn range(text: &str) -> Result<IpNet, String> {
    let range = text.parse::<IpNet>().ok();
    range
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        .map(|range| range.trunc())
        .ok_or_else(|| {
            "it is neither a range, as in 192.168.0.0/16 or fd00:1::/64, nor an address".to_owned()
        })
}

fn cluster_name(text: &str) -> Result<ClusterName, String> {
    text.parse::<ClusterName>().map_err(|error| error.cure())
}

fn pod_network() -> impl TypedValueParser<Value = PodNetworkMode> {
    PossibleValuesParser::new(PodNetworkMode::ALL.map(PodNetworkMode::name))
        .try_map(|name| name.parse::<PodNetworkMode>())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_about_a_cluster_takes_a_name() {
        for line in [
            "up",
            "down",
            "status",
            "kubeconfig",
            "check",
            "logs server",
            "image load a.tar",
            "snapshot save a.snapshot",
            "snapshot restore a.snapshot",
            "node stop node-1",
            "node start node-1",
            "supervise",
        ] {
            let words = ["ripstop"]
                .into_iter()
                .chain(line.split(' '))
                .chain(["--name", "other"]);
            Args::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn ranges_are_taken_with_or_without_a_length_and_nothing_else_is() {
        let parse = |text: &str| range(text).map(|range| range.to_string());
        assert_eq!(parse("192.168.7.9/16").as_deref(), Ok("192.168.0.0/16"));
        assert_eq!(parse("192.0.2.1").as_deref(), Ok("192.0.2.1/32"));
        assert_eq!(parse("fd00:1::/64").as_deref(), Ok("fd00:1::/64"));
        for text in ["", "10.0.0.0/33", "home", "10.0.0.0-10.0.0.9"] {
            let error = range(text).expect_err("none");
            assert!(error.contains("192.168.0.0/16"), "{text}: {error}");
        }
    }

    #[test]
    fn ranges_are_given_as_kubernetes_takes_them() {
        let words = [
            "ripstop",
            "up",
            "--ip-family",
            "dual",
            "--pod-cidr",
            "10.1.0.0/16,fd01::/56",
        ];
        let Command::Up(up) = Args::try_parse_from(words).expect("valid").command else {
            panic!("up is up")
        };
        assert_eq!(up.ip_family, Some(Family::Dual));
        let texts: Vec<_> = up.pod_cidr.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.1.0.0/16", "fd01::/56"]);
        assert!(up.service_cidr.is_empty());
    }

    #[test]
    fn a_range_of_ports_that_is_none_is_refused_with_an_example() {
        let words = |range: &'static str| ["ripstop", "up", "--service-node-port-range", range];
        assert!(Args::try_parse_from(words("31000-31999")).is_ok());
        let error = Args::try_parse_from(words("10000-20000")).expect_err("refused");
        let text = error.to_string();
        assert!(text.contains("10250") && text.contains("30000-32767"), "{text}");
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_an_example() {
        let error = Args::try_parse_from(["ripstop", "up", "--name", "A B"]).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--name dev-2"), "{error}");
    }

    #[test]
    fn every_command_has_its_help() {
        for command in Args::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
