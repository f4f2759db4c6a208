//! Commands that explain.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::Output;
use crate::explain::Port;

/// Where objects come from.
#[derive(Debug, ClapArgs)]
pub(crate) struct Source {
    /// Where names without a namespace are
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Read manifests of this folder, or this file, instead of asking a cluster
    #[arg(short = 'f', long = "filename", value_name = "DIR", conflicts_with_all = ["kubeconfig", "context"])]
    pub(crate) folder: Option<PathBuf>,
    /// The kubeconfig to reach the cluster with [default: $KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = TRACE)]
pub(crate) struct Trace {
    /// Who sends: pod/NAME, NAMESPACE/pod/NAME, node/NAME, or an address
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// Whom it's for: pod/NAME, svc/NAME, NAMESPACE/svc/NAME, node/NAME, an address, or a name of the
    /// cluster's DNS
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// The port, by number or name, with its protocol; or icmp [default: a Service's only port]
    #[arg(short, long, value_name = "PORT[/PROTOCOL]")]
    pub(crate) port: Option<Port>,
    #[command(flatten)]
    pub(crate) source: Source,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

const TRACE: &str = "\
The packet is walked through the same plans that the nodes' kernels get: translation to a Service's
endpoint, what the sender's policies allow, the way, what the receiver's policies allow. No packet is sent.

Exit status: 0 it arrives, 1 it doesn't, 2 that can't be told.

Examples:
  ripstop trace pod/frontend pod/db --port 6379
  ripstop trace pod/frontend svc/db --port 6379/tcp     … to each of the Service's endpoints
  ripstop trace pod/web kube-dns.kube-system --port 53/udp
  ripstop trace 192.0.2.7 node/node-1 --port 30080      … from outside, by a node port
  ripstop trace -n shop pod/web billing/svc/api -p http
  ripstop trace -f manifests/ pod/web pod/db -p 5432    … before anything is applied";

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Show what a pod's policies say: which ones select it, their rules in words, who may reach it
    #[command(after_help = SHOW)]
    Show {
        /// The pod: NAME, pod/NAME or NAMESPACE/pod/NAME
        #[arg(value_name = "POD")]
        pod: String,
        #[command(flatten)]
        source: Source,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

const SHOW: &str = "\
A pod that no policy selects in a direction is free in it. One that policies select may do what any of their
rules allows, and nothing else; its own node always reaches it. What reaches it must be allowed to leave its
sender, too: `ripstop trace` asks both.

Examples:
  ripstop policy show db
  ripstop policy show -n shop web -o json
  ripstop policy show -f manifests/ db";
