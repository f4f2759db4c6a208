//! What the cluster will be: checked against the machine, and against what there is of it.

use std::path::Path;

use ipnet::IpNet;
use kernel::Netlink;
use supervisor::cluster::Programs;
use supervisor::network::{Ranges, Taken, Wish};
use supervisor::paths::DATA_ROOT;
use supervisor::preflight::{self, Problem};
use supervisor::{Cluster, ClusterName, Error, Paths, programs};

use crate::args::Up;
use crate::failure::{Failure, print_problem};
use crate::lock::Lock;

/// How many nodes a cluster has if nobody says.
const DEFAULT_NODES: usize = 3;

/// What is asked for must be what is there.
pub(super) fn check_same(cluster: &Cluster, args: &Up) -> Result<(), Failure> {
    let ranges = &cluster.ranges;
    let differs = |asked: Option<IpNet>, has: IpNet| asked.filter(|asked| asked.trunc() != has);
    let difference = if let Some(asked) = args.nodes.filter(|asked| *asked != cluster.nodes.len()) {
        Some(format!(
            "has {} nodes, and {asked} were asked for",
            cluster.nodes.len()
        ))
    } else if let Some(asked) = differs(args.node_network, ranges.node_network) {
        Some(format!(
            "has the node network {}, and {asked} was asked for",
            ranges.node_network
        ))
    } else if let Some(asked) = differs(args.pod_cidr, ranges.pod_cidr) {
        Some(format!(
            "has the pod range {}, and {asked} was asked for",
            ranges.pod_cidr
        ))
    } else if !args.non_masquerade.is_empty() && non_masquerade(args) != cluster.non_masquerade {
        Some(format!(
            "has the ranges [{}] for --non-masquerade, and [{}] were asked for",
            list(&cluster.non_masquerade),
            list(&non_masquerade(args))
        ))
    } else if let Some(asked) = args.pod_network.filter(|asked| *asked != cluster.pod_network) {
        Some(format!(
            "has the pod network {}, and {asked} was asked for",
            cluster.pod_network
        ))
    } else {
        differs(args.service_cidr, ranges.service_cidr).map(|asked| {
            format!(
                "has the Service range {}, and {asked} was asked for",
                ranges.service_cidr
            )
        })
    };
    let Some(difference) = difference else {
        return Ok(());
    };
    let name = &cluster.name;
    let cure = format!("leave the option out, or make it anew: `ripstop down --name {name}` first");
    Err(Failure::usage(format!("cluster {name} {difference}"), cure))
}

/// Checks the machine, and decides what the cluster will be.
pub(super) async fn plan(args: &Up, paths: &Paths, existing: Option<&Cluster>) -> Result<Cluster, Failure> {
    let programs = programs::find().map_err(Failure::several)?;
    let count = existing
        .map(|cluster| cluster.nodes.len())
        .or(args.nodes)
        .unwrap_or(DEFAULT_NODES);
    let problems = preflight::check(&programs, count, &paths.data).await;
    let (fatal, warnings): (Vec<Problem>, Vec<Problem>) =
        problems.into_iter().partition(|problem| problem.fatal);
    for problem in &warnings {
        print_problem("warning", problem);
    }
    if !fatal.is_empty() {
        return Err(Failure::several(fatal));
    }
    // Two clusters that start at the same moment must not choose the same addresses.
    let _lock = Lock::of_addresses().await?;
    let cluster = decide(args, existing, count, programs).await?;
    cluster.save(paths)?;
    Ok(cluster)
}

async fn decide(
    args: &Up,
    existing: Option<&Cluster>,
    count: usize,
    programs: Programs,
) -> Result<Cluster, Failure> {
    let name = &args.named.name;
    let taken = taken(name).await?;
    if let Some(old) = existing {
        // The machine may have come to use these addresses since.
        let wish = Wish {
            node_network: Some(old.ranges.node_network),
            pod_cidr: Some(old.ranges.pod_cidr),
            service_cidr: Some(old.ranges.service_cidr),
        };
        Ranges::choose(&wish, &taken, count)?;
        return Ok(Cluster {
            programs,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..old.clone()
        });
    }
    let wish = Wish {
        node_network: args.node_network,
        pod_cidr: args.pod_cidr,
        service_cidr: args.service_cidr,
    };
    let ranges = Ranges::choose(&wish, &taken, count)?;
    Ok(Cluster {
        non_masquerade: non_masquerade(args),
        pod_network: args.pod_network.unwrap_or_default(),
        ..Cluster::new(name.clone(), count, ranges, programs)?
    })
}

/// The ranges asked for, each once, whatever their order.
fn non_masquerade(args: &Up) -> Vec<IpNet> {
    IpNet::aggregate(&args.non_masquerade)
}

fn list(ranges: &[IpNet]) -> String {
    let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// Addresses that the machine reaches some way, and those of other clusters, running or not.
async fn taken(name: &ClusterName) -> Result<Vec<Taken>, Error> {
    let netlink = Netlink::current()?;
    let links = netlink.links().await?;
    let link_name = |index: Option<u32>| {
        let link = links.iter().find(|link| Some(link.index) == index);
        link.map_or("an unknown link", |link| link.name.as_str())
    };
    let own = name.machine_link();
    let mut taken = Vec::new();
    for route in netlink.routes().await? {
        // The default route is no claim; the own link is of an earlier start.
        if route.destination.prefix_len() > 0 && link_name(route.link) != own {
            taken.push(Taken {
                range: route.destination,
                by: format!("a route by {}", link_name(route.link)),
            });
        }
    }
    for address in netlink.addresses().await? {
        if link_name(Some(address.link)) != own {
            taken.push(Taken {
                range: address.address.trunc(),
                by: format!("an address of {}", link_name(Some(address.link))),
            });
        }
    }
    let others = Cluster::all(Path::new(DATA_ROOT))
        .into_iter()
        .filter(|cluster| cluster.name != *name);
    taken.extend(others.map(|cluster| Taken {
        range: cluster.ranges.node_network,
        by: format!("cluster {}", cluster.name),
    }));
    Ok(taken)
}

#[cfg(test)]
mod tests;
