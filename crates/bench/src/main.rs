//! `make bench`: measures what Ripstop is held to, on a cluster of its own, and
//! prints each figure beside its bar. docs/bench.md says how to read them.
//!
//! ```text
//! Cluster (up, down) ─► starting · memory · pods · paths · attach ─► Figures ─► table
//!                                                  └─ plain: the same without Ripstop
//! ```
//!
//! Whatever happens, the cluster is taken out again.

mod attach;
mod cluster;
mod cni;
mod compare;
mod figures;
mod machine;
mod memory;
mod pair;
mod paths;
mod plain;
mod plugins;
mod pods;
mod starting;
mod traffic;
mod wiring;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use cluster::Cluster;
use figures::Figures;
use pair::Toolbox;
use paths::{Beside, Extent};

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
    /// The program [default: beside this one]
    #[arg(long)]
    ripstop: Option<PathBuf>,
    /// The static toolbox, for what is measured without Ripstop [default: where `make build` leaves it]
    #[arg(long)]
    toolbox: Option<PathBuf>,
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
    /// CNI ADD
    Add,
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
    let toolbox = Toolbox::new(toolbox)?;
    let cluster = Cluster::new(ripstop, &options.name);
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
    println!("{}\n\n{figures}", machine::describe());
    measured
}

/// Measures part after part; what was measured is kept if a later part fails.
async fn measure(
    options: &Options,
    cluster: &Cluster,
    toolbox: &Toolbox,
    figures: &mut Figures,
) -> Result<()> {
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let rounds = options.rounds;
    if wanted(Part::Up) {
        eprintln!("starting a cluster, {rounds} times and once");
        starting::measure(cluster, rounds, figures)
            .await
            .context("measuring `up`")?;
    } else {
        cluster.up()?;
    }
    let client = cluster.client().await?;
    if wanted(Part::Memory) {
        eprintln!("reading memory");
        memory::measure(cluster, "idle", Some(60.0), figures)
            .await
            .context("measuring memory")?;
    }
    if wanted(Part::Pods) {
        eprintln!("starting 100 pods, {rounds} times");
        pods::measure(cluster, &client, rounds, figures)
            .await
            .context("measuring 100 pods")?;
    }
    if wanted(Part::Paths) {
        eprintln!("sending from pod to pod, {rounds} rounds");
        let extent = Extent {
            rounds,
            seconds: options.seconds,
            beside: options.beside.clone(),
        };
        paths::measure(cluster, toolbox, &extent, figures)
            .await
            .context("measuring paths")?;
    }
    if wanted(Part::Add) {
        eprintln!("attaching and detaching");
        attach::measure(cluster, figures).context("measuring CNI ADD")?;
    }
    Ok(())
}

/// A time that is worth measuring for.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (0.05..=60.0).contains(seconds));
    seconds.ok_or_else(|| format!("`{text}` isn't from 0.05 to 60"))
}
