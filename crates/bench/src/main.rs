//! `make bench`: measures what Ripstop is held to, on a cluster of its own, and
//! prints each figure beside its bar. docs/bench.md says how to read them.
//!
//! ```text
//! Cluster (up, down) ─► starting · process · pods · paths · first · attach · crowd · takeover · api · schedule ─┐
//!           the same without Ripstop: plain, plugins ◄──┘                                                peers ─┴► Figures ─► table, chart
//! ```
//!
//! Whatever happens, the cluster is taken out again.

mod api;
mod attach;
mod by_service;
mod chains;
mod chart;
mod cluster;
mod cni;
mod compare;
mod crowd;
mod extent;
mod figures;
mod first;
mod group;
mod known;
mod machine;
mod names;
mod pair;
mod paths;
mod peers;
mod plain;
mod plugins;
mod pods;
mod policed;
mod policies;
mod process;
mod record;
mod scheduling;
mod services;
mod starting;
mod takeover;
mod traffic;
mod wiring;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use cluster::Cluster;
use extent::Extent;
use figures::Figures;
use pair::Toolbox;
use paths::Beside;

/// Measures Ripstop on this machine, as root.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Options {
    /// Measure only these
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds of what is measured more than once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..100))]
    rounds: u32,
    /// For how long each kind of traffic is sent in each round
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// What pods are joined by, beside Ripstop; plain routing always is
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "plain,bridge,ptp,veth"
    )]
    beside: Vec<Beside>,
    /// As short as can be, to see that it works: the figures mean nothing
    #[arg(long, conflicts_with = "record")]
    quick: bool,
    /// A page whose last section, `Figures`, is written anew; the picture goes beside it
    #[arg(long, value_name = "FILE.md", conflicts_with = "only")]
    record: Option<PathBuf>,
    /// The program [default: beside this one]
    #[arg(long)]
    ripstop: Option<PathBuf>,
    /// The static toolbox, for what is measured without Ripstop [default: where `make build` leaves it]
    #[arg(long)]
    toolbox: Option<PathBuf>,
    /// A CoreDNS, to measure names beside it, too
    #[arg(long, value_name = "FILE")]
    coredns: Option<PathBuf>,
    /// A word more for `ripstop up`, as in --up=--pod-network=vxlan
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    up: Vec<String>,
    /// The cluster's name
    #[arg(long, default_value = "bench")]
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Three nodes, from nothing to Ready
    Up,
    /// What server and agents hold when nothing happens
    Memory,
    /// A hundred pods
    Pods,
    /// Traffic from pod to pod, beside plain routing and others' plugins
    Paths,
    /// A new pod's first connection across nodes
    First,
    /// CNI ADD and DEL
    Add,
    /// An agent with two hundred pods
    Crowd,
    /// What leads to a thousand nodes, planned and written
    Peers,
    /// Five thousand Services, planned and written
    Services,
    /// A thousand policies and ten thousand pods, planned and written
    Policies,
    /// Names, beside dnsmasq
    Names,
    /// A load balancer's announcer dies
    Takeover,
    /// The API server: writes, watches, lists, memory
    Api,
    /// A thousand pods given nodes
    Schedule,
}

impl Part {
    /// Whether the cluster has to run for it, and isn't started by it.
    fn wants_cluster(self) -> bool {
        !matches!(
            self,
            Self::Up | Self::Peers | Self::Services | Self::Policies | Self::Names
        )
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    if !nix::unistd::geteuid().is_root() {
        bail!("measuring starts a cluster, which wants root: run it with sudo");
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let own = std::env::current_exe().context("find this program's own file")?;
    let ripstop = options
        .ripstop
        .clone()
        .unwrap_or_else(|| own.with_file_name("ripstop"));
    let toolbox = match &options.toolbox {
        Some(path) => path.clone(),
        None => pair::toolbox_beside(&own)?,
    };
    for file in [&ripstop, &toolbox] {
        if !file.is_file() {
            bail!("{} isn't there: run `make build`", file.display());
        }
    }
    if let Some(file) = options.coredns.as_deref().filter(|file| !file.is_file()) {
        bail!("{} isn't there: --coredns names the program", file.display());
    }
    let toolbox = Toolbox::new(toolbox)?;
    let cluster = Cluster::new(ripstop, &options.name, &options.up);
    let mut figures = Figures::default();
    let interrupted = async {
        match tokio::signal::ctrl_c().await {
            Ok(()) => {}
            Err(_) => std::future::pending().await,
        }
    };
    let measured = tokio::select! {
        done = measure(&options, &cluster, &toolbox, &mut figures) => done,
        () = interrupted => Err(anyhow::anyhow!("interrupted")),
    };
    eprintln!("taking the cluster out");
    cluster.down()?;
    let about = machine::describe();
    println!("{about}\n\n{figures}");
    measured?;
    match &options.record {
        Some(page) => record::write(page, &about, &figures),
        None => Ok(()),
    }
}

/// Measures part after part; what was measured is kept if a later part fails.
async fn measure(
    options: &Options,
    cluster: &Cluster,
    toolbox: &Toolbox,
    figures: &mut Figures,
) -> Result<()> {
    let mut runs = false;
    for part in Part::value_variants() {
        if !options.only.is_empty() && !options.only.contains(part) {
            continue;
        }
        if part.wants_cluster() && !runs {
            cluster.up()?;
            runs = true;
        }
        runs |= *part == Part::Up;
        let value = part.to_possible_value().context("all parts have names")?;
        eprintln!("{}:", value.get_help().cloned().unwrap_or_default());
        measure_part(*part, options, cluster, toolbox, figures)
            .await
            .with_context(|| format!("measuring `{}`", value.get_name()))?;
    }
    Ok(())
}

async fn measure_part(
    part: Part,
    options: &Options,
    cluster: &Cluster,
    toolbox: &Toolbox,
    figures: &mut Figures,
) -> Result<()> {
    let extent = options.extent();
    match part {
        Part::Up => starting::measure(cluster, extent.rounds, figures).await,
        Part::Memory => process::measure_memory(cluster, "idle", Some(60.0), figures).await,
        Part::Pods => pods::measure(cluster, extent.rounds, figures).await,
        Part::Paths => paths::measure(cluster, toolbox, &extent, &options.beside, figures).await,
        Part::First => first::measure(cluster, &extent, figures),
        Part::Add => attach::measure(cluster, &extent, &options.beside, figures).await,
        Part::Crowd => crowd::measure(cluster, &extent, figures).await,
        Part::Peers => peers::measure(figures).await,
        Part::Services => services::measure(figures).await,
        Part::Policies => policies::measure(figures).await,
        Part::Names => names::measure(cluster.ripstop(), options.coredns.as_deref(), &extent, figures),
        Part::Takeover => takeover::measure(cluster, extent.rounds, figures).await,
        Part::Api => api::measure(cluster, &extent, figures).await,
        Part::Schedule => scheduling::measure(cluster, &extent, figures).await,
    }
}

impl Options {
    fn extent(&self) -> Extent {
        if self.quick {
            return Extent::QUICK;
        }
        Extent {
            rounds: self.rounds,
            seconds: self.seconds,
            ..Extent::WHOLE
        }
    }
}

/// A time that is worth measuring for.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (0.05..=60.0).contains(seconds));
    seconds.ok_or_else(|| format!("`{text}` isn't from 0.05 to 60"))
}
