//! From pod to pod, through Ripstop and without it, in turns.

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::by_service::ByService;
use crate::cluster::Cluster;
use crate::cni::{Attached, Pod};
use crate::compare::{Comparison, Way};
use crate::extent::Extent;
use crate::figures::Figures;
use crate::pair::{Pair, Toolbox};
use crate::plain;
use crate::plugins::Plugins;
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

/// Ripstop, from pod to pod and from pod to a Service's address.
const RIPSTOP: &str = "Ripstop";
const BY_SERVICE: &str = "by a Service";

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
    for path in ["on one node", "across nodes"] {
        let near = path == "on one node";
        let pairs = pairs(cluster, near, beside).await?;
        for traffic in Traffic::ALL {
            let doing = || format!("pod to pod {path}, {}", traffic.name());
            let mut ways = in_turns(traffic, toolbox, &pairs, extent).with_context(doing)?;
            for way in &mut ways {
                way.ours = [RIPSTOP, BY_SERVICE].contains(&way.name);
                way.bar = bar(near, traffic).filter(|_| way.ours);
            }
            figures.compare(Comparison { path, traffic, ways });
        }
        ByService::remove(&cluster.client().await?, service_name(near)).await?;
    }
    Ok(())
}

/// What Ripstop may cost beside plain routing, by a Service as well.
fn bar(near: bool, traffic: Traffic) -> Option<f64> {
    match traffic {
        Traffic::RequestResponse if near => Some(0.95),
        Traffic::ConnectionPerRequest if near => Some(0.97),
        _ => None,
    }
}

/// What is compared: plain routing first, Ripstop second.
async fn pairs(cluster: &Cluster, near: bool, beside: &[Beside]) -> Result<Vec<Named>> {
    let plain = if near {
        plain::one_node().await?
    } else {
        plain::across_nodes().await?
    };
    let mut service = ours(cluster, near, "service-")?;
    service.by = Some(ByService::make(cluster, "node-1", service_name(near), service.address).await?);
    let mut pairs = vec![
        ("plain routing", plain),
        (RIPSTOP, ours(cluster, near, "")?),
        (BY_SERVICE, service),
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

fn service_name(near: bool) -> &'static str {
    if near { "bench-near" } else { "bench-far" }
}

/// Two pods of the cluster, as far as its nodes are concerned.
fn ours(cluster: &Cluster, near: bool, kind: &str) -> Result<Pair> {
    let (client, server) = (
        Pod::new(&format!("{kind}client"))?,
        Pod::new(&format!("{kind}server"))?,
    );
    let attach = |node: &str, pod: &Pod| -> Result<Attached> { Ok(cluster.plugin(node)?.attach(pod)?.0) };
    let one = attach("node-1", &client)?;
    let other = attach(if near { "node-1" } else { "node-2" }, &server)?;
    Ok(Pair {
        client: client.netns,
        server: server.netns,
        address: other.address()?,
        by: None,
        _keep: vec![Box::new(one), Box::new(other)],
    })
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
