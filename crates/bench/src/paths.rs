//! From pod to pod, through Ripstop and without it, in turns.

use std::net::IpAddr;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::by_service::ByService;
use crate::cluster::Cluster;
use crate::cni::{Attached, Pod};
use crate::compare::{Comparison, Way};
use crate::extent::Extent;
use crate::figures::Figures;
use crate::group::Group;
use crate::pair::{Pair, Toolbox};
use crate::plain;
use crate::plugins::Plugins;
use crate::policed::Policed;
use crate::traffic::Traffic;

/// What pods are joined by, beside Ripstop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Beside {
    /// Routed veth pairs and nothing else
    Plain,
    /// The reference plugin `bridge`
    Bridge,
    /// The reference plugin `ptp`
    Ptp,
    /// One veth pair, without routing: the limit
    Veth,
}

impl Beside {
    /// The reference plugin's name, if it's one.
    pub(crate) fn plugin(self) -> Option<&'static str> {
        match self {
            Self::Bridge => Some("bridge"),
            Self::Ptp => Some("ptp"),
            Self::Plain | Self::Veth => None,
        }
    }
}

/// Ripstop, from pod to pod, from pod to a Service's address, and the same with policies in force.
const RIPSTOP: &str = "Ripstop";
const BY_SERVICE: &str = "by a Service";
const POLICED: &str = "by a Service, 1,000 policies";

/// Two pods and the name of what joins them.
type Named = (&'static str, Pair);

/// Measures all kinds of traffic on both paths.
pub(crate) async fn measure(
    cluster: &Cluster,
    toolbox: &Toolbox,
    extent: &Extent,
    beside: &[Beside],
    figures: &mut Figures,
) -> Result<()> {
    let client = cluster.client().await?;
    for path in ["on one node", "across nodes"] {
        let near = path == "on one node";
        let namespace = if near { "bench-near" } else { "bench-far" };
        let policed = Policed::make(&client, namespace, extent).await?;
        let pairs = pairs(cluster, &policed, near, beside).await?;
        for traffic in Traffic::ALL {
            let doing = || format!("pod to pod {path}, {}", traffic.name());
            let mut ways = in_turns(traffic, toolbox, &pairs, extent).with_context(doing)?;
            for way in &mut ways {
                way.ours = [RIPSTOP, BY_SERVICE, POLICED].contains(&way.name);
                way.bar = bar(near, traffic, way.name).filter(|_| way.ours);
            }
            figures.compare(Comparison { path, traffic, ways });
        }
        drop(pairs);
        for service in [BY_SERVICE, POLICED] {
            ByService::remove(&client, service_name(near, service)).await?;
        }
        policed.remove().await?;
    }
    Ok(())
}

/// What Ripstop may cost beside plain routing, by a Service as well.
fn bar(near: bool, traffic: Traffic, way: &str) -> Option<f64> {
    match traffic {
        Traffic::RequestResponse if near && way == POLICED => Some(0.97),
        Traffic::RequestResponse if near => Some(0.95),
        Traffic::ConnectionPerRequest if near && way == POLICED => Some(1.0),
        Traffic::ConnectionPerRequest if near => Some(0.97),
        _ => None,
    }
}

/// What is compared: plain routing first, Ripstop second.
async fn pairs(cluster: &Cluster, policed: &Policed, near: bool, beside: &[Beside]) -> Result<Vec<Named>> {
    let plain = if near {
        plain::one_node().await?
    } else {
        plain::across_nodes().await?
    };
    let pod = |name: &str| Pod::new(&format!("{}-{name}", if near { "near" } else { "far" }));
    let direct = ours(cluster, near, pod("client")?, pod("server")?)?;
    let mut service = ours(cluster, near, pod("service-client")?, pod("service-server")?)?;
    let (asks, answers) = (Pod::of(&policed.asks)?, Pod::of(&policed.answers)?);
    let (mut held, asking) = joined(cluster, near, asks, answers)?;
    policed.know(asking, held.address).await?;
    for (pair, name) in [(&mut service, BY_SERVICE), (&mut held, POLICED)] {
        let name = service_name(near, name);
        pair.by = Some(ByService::make(cluster, name, pair.address).await?);
    }
    let mut pairs = vec![
        ("plain routing", plain),
        (RIPSTOP, direct),
        (BY_SERVICE, service),
        (POLICED, held),
    ];
    for kind in beside.iter().filter_map(|beside| beside.plugin()) {
        let plugins = Plugins::find()?;
        let pair = if near {
            plugins.one_node(kind)?
        } else {
            plugins.across_nodes(kind).await?
        };
        pairs.push((kind, pair));
    }
    if beside.contains(&Beside::Veth) && near {
        pairs.push(("veth alone", plain::alone().await?));
    }
    Ok(pairs)
}

fn service_name(near: bool, way: &str) -> &'static str {
    match (near, way) {
        (true, POLICED) => "bench-near-policed",
        (true, _) => "bench-near",
        (false, POLICED) => "bench-far-policed",
        (false, _) => "bench-far",
    }
}

/// Two pods of the cluster, as far as its nodes are concerned.
fn ours(cluster: &Cluster, near: bool, client: Pod, server: Pod) -> Result<Pair> {
    Ok(joined(cluster, near, client, server)?.0)
}

/// The same, and the address of who asks.
fn joined(cluster: &Cluster, near: bool, client: Pod, server: Pod) -> Result<(Pair, IpAddr)> {
    let attach = |node: &str, pod: &Pod| -> Result<Attached> { Ok(cluster.plugin(node)?.attach(pod)?.0) };
    let one = attach("node-1", &client)?;
    let other = attach(if near { "node-1" } else { "node-2" }, &server)?;
    let (asking, address) = (one.address()?, other.address()?);
    let keep: Vec<Box<dyn std::any::Any>> = vec![Box::new(one), Box::new(other)];
    let mut pair = Pair::new(client.netns, server.netns, address, keep)?;
    pair.group = Group::of_node(cluster, "node-1")?;
    Ok((pair, asking))
}

/// Round by round, every pair once a round.
fn in_turns(traffic: Traffic, toolbox: &Toolbox, pairs: &[Named], extent: &Extent) -> Result<Vec<Way>> {
    let mut ways = Vec::new();
    let mut servers = Vec::new();
    for (name, pair) in pairs {
        servers.push(traffic.serve(toolbox, pair).context(*name)?);
        ways.push(Way::new(name));
    }
    // Once without being counted: caches, neighbours.
    for round in 0..=extent.rounds {
        for ((name, pair), way) in pairs.iter().zip(&mut ways) {
            let cost = traffic.cost(toolbox, pair, extent.seconds).context(*name)?;
            if round > 0 {
                way.costs.push(cost);
            }
        }
    }
    Ok(ways)
}
