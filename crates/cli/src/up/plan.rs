//! What the cluster will be: checked against the machine, and against what there is of it.

use std::path::Path;

use ipnet::IpNet;
use kernel::Netlink;
use supervisor::cluster::Programs;
use supervisor::network::{IpFamily, Ranges, Taken, Wish as RangeWish};
use supervisor::paths::DATA_ROOT;
use supervisor::preflight::{self, Problem};
use supervisor::{Cluster, ClusterName, Error, Paths, programs};

use crate::args::Up;
use crate::failure::{Failure, print_problem};
use crate::lock::Lock;
use crate::up::config::Wish;

/// How many nodes a cluster has if nobody says.
const DEFAULT_NODES: usize = 3;

/// What is asked for must be what is there.
pub(super) fn check_same(cluster: &Cluster, args: &Up) -> Result<(), Failure> {
    let Some(difference) = difference(cluster, args) else {
        return Ok(());
    };
    let name = &cluster.name;
    let cure = format!(
        "leave the option out, or make it anew, without what it has now: `ripstop down --name {name}` first"
    );
    Err(Failure::usage(format!("cluster {name} {difference}"), cure))
}

fn difference(cluster: &Cluster, args: &Up) -> Option<String> {
    let (ranges, has_nodes) = (&cluster.ranges, cluster.nodes.len());
    if let Some(asked) = args.nodes.filter(|asked| *asked != has_nodes) {
        return Some(format!("has {has_nodes} nodes, and {asked} were asked for"));
    }
    let has_family = ranges.ip_family();
    if let Some(asked) = args
        .ip_family
        .map(IpFamily::from)
        .filter(|asked| *asked != has_family)
    {
        return Some(format!("is {has_family}, and {asked} was asked for"));
    }
    if !args.non_masquerade.is_empty() && non_masquerade(args) != cluster.non_masquerade {
        return Some(format!(
            "has the ranges [{}] for --non-masquerade, and [{}] were asked for",
            list(&cluster.non_masquerade),
            list(&non_masquerade(args))
        ));
    }
    if let Some(asked) = args.pod_network.filter(|asked| *asked != cluster.pod_network) {
        return Some(format!(
            "has the pod network {}, and {asked} was asked for",
            cluster.pod_network
        ));
    }
    let has_ports = cluster.node_ports.unwrap_or_default();
    if let Some(asked) = args.service_node_port_range.filter(|asked| *asked != has_ports) {
        return Some(format!(
            "has the node ports {has_ports}, and {asked} were asked for"
        ));
    }
    let lists = [
        ("node network", &args.node_network, ranges.node_networks()),
        ("pod range", &args.pod_cidr, ranges.pod_cidrs()),
        ("Service range", &args.service_cidr, ranges.service_cidrs()),
    ];
    lists.into_iter().find_map(|(what, asked, has)| {
        let asked: Vec<IpNet> = asked.iter().map(IpNet::trunc).collect();
        let same = match asked.as_slice() {
            [] => true,
            // One of two is what is meant where the other is left out.
            [one] => has.contains(one),
            _ => asked == has,
        };
        (!same).then(|| {
            format!(
                "has the {what} {}, and {} was asked for",
                list(&has),
                list(&asked)
            )
        })
    })
}

/// The nodes of a file must be those that the cluster has.
pub(super) fn check_nodes(cluster: &Cluster, wish: Option<&Wish>) -> Result<(), Failure> {
    let Some(wish) = wish.filter(|wish| !wish.nodes.is_empty()) else {
        return Ok(());
    };
    let asked: Vec<&str> = wish.nodes.iter().map(|(name, _)| name.as_str()).collect();
    let has: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    if asked == has {
        return Ok(());
    }
    let name = &cluster.name;
    let what = format!(
        "cluster {name} has the nodes {}, and the file has {}",
        has.join(", "),
        asked.join(", ")
    );
    let cure = format!("make it anew, without what it has now: `ripstop down --name {name}` first");
    Err(Failure::usage(what, cure))
}

/// What a file asks of a running cluster must be what it was started with.
pub(super) fn check_unchanged(cluster: &Cluster, wish: Option<&Wish>) -> Result<(), Failure> {
    if wish.is_none_or(|wish| furnished(cluster.clone(), wish) == *cluster) {
        return Ok(());
    }
    let name = &cluster.name;
    let what = format!("cluster {name} is running, and not as the file says");
    let cure = format!(
        "`ripstop down --name {name} --keep-data` first: objects, images and volumes stay, and `up --config` starts it as the file says"
    );
    Err(Failure::usage(what, cure))
}

/// The cluster as a file wishes it to be, beyond addresses.
fn furnished(mut cluster: Cluster, wish: &Wish) -> Cluster {
    for (node, (name, settings)) in cluster.nodes.iter_mut().zip(&wish.nodes) {
        node.name.clone_from(name);
        node.settings.clone_from(settings);
    }
    cluster.settings.clone_from(&wish.settings);
    cluster
}

/// Ports that lead to nodes, and namespaces that have their names, must be nobody else's.
fn check_names(cluster: &Cluster) -> Result<(), Failure> {
    let nodes = || cluster.nodes.iter().map(|node| node.name.as_str());
    let mut ports = cluster
        .settings
        .ports
        .iter()
        .filter_map(|port| port.node.as_deref());
    if let Some(absent) = ports.find(|name| !nodes().any(|node| node == *name)) {
        let there: Vec<&str> = nodes().collect();
        return Err(Failure::usage(
            format!("a port leads to the node {absent:?}, which isn't there"),
            format!("there are {}", there.join(", ")),
        ));
    }
    let namespaces = |cluster: &Cluster| -> Vec<String> {
        let nodes = cluster
            .nodes
            .iter()
            .map(|node| cluster.name.node_netns(&node.name));
        nodes.chain([cluster.name.switch_netns()]).collect()
    };
    let own = namespaces(cluster);
    let others = Cluster::all(Path::new(DATA_ROOT)).into_iter();
    for other in others.filter(|other| other.name != cluster.name) {
        if let Some(same) = namespaces(&other).iter().find(|name| own.contains(name)) {
            return Err(Failure::usage(
                format!("cluster {} has a network namespace {same} too", other.name),
                "give the cluster or its nodes other names",
            ));
        }
    }
    Ok(())
}

/// Checks the machine, and decides what the cluster will be.
pub(super) async fn plan(
    args: &Up,
    wish: Option<&Wish>,
    paths: &Paths,
    existing: Option<&Cluster>,
) -> Result<Cluster, Failure> {
    let programs = programs::find().map_err(Failure::several)?;
    let count = existing
        .map(|cluster| cluster.nodes.len())
        .or(args.nodes)
        .unwrap_or(DEFAULT_NODES);
    let family = existing.map_or_else(|| asked_family(args), |cluster| cluster.ranges.ip_family());
    let problems = preflight::check(&programs, count, family, &paths.data).await;
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
    let mut cluster = decide(args, existing, count, programs).await?;
    if let Some(wish) = wish {
        cluster = furnished(cluster, wish);
    }
    check_names(&cluster)?;
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
        Ranges::choose(&RangeWish::from(&old.ranges), &taken, count)?;
        return Ok(Cluster {
            programs,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..old.clone()
        });
    }
    let wish = RangeWish {
        ip_family: asked_family(args),
        node_network: args.node_network.clone(),
        pod_cidr: args.pod_cidr.clone(),
        service_cidr: args.service_cidr.clone(),
    };
    let ranges = Ranges::choose(&wish, &taken, count)?;
    Ok(Cluster {
        non_masquerade: non_masquerade(args),
        pod_network: args.pod_network.unwrap_or_default(),
        node_ports: args.service_node_port_range,
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

fn asked_family(args: &Up) -> IpFamily {
    args.ip_family.map_or_else(IpFamily::default, IpFamily::from)
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
    for cluster in others {
        let by = format!("cluster {}", cluster.name);
        let networks = cluster.ranges.node_networks().into_iter();
        taken.extend(networks.map(|range| Taken {
            range,
            by: by.clone(),
        }));
    }
    Ok(taken)
}

#[cfg(test)]
mod tests;
