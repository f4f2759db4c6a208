//! `ripstop up`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kernel::Netlink;
use kernel::cgroup::Hierarchies;
use kernel::process::{Place, ProcessId, log_to, prepare};
use supervisor::cluster::Programs;
use supervisor::network::{Ranges, Taken, Wish};
use supervisor::paths::DATA_ROOT;
use supervisor::preflight::{self, Problem};
use supervisor::protocol::{self, Client, NodeState, Phase, Reply, Request, Status};
use supervisor::{Cluster, ClusterName, Error, Paths, files, log, programs};
use tokio::time::sleep;

use crate::api::{self, NodeView, Readiness};
use crate::args::Up;
use crate::failure::{Failure, print_problem};
use crate::lock::Lock;
use crate::progress::seconds;
use crate::up::steps::Steps;
use crate::{down, kubeconfig, status};

mod steps;

/// How many nodes a cluster has if nobody says.
const DEFAULT_NODES: usize = 3;
/// How long the supervisor may take until it listens.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(10);
/// How long nodes may take to be Ready after all processes are up.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How much of a log is shown when something failed.
const LOG_LINES: usize = 15;

pub(crate) async fn run(args: Up) -> Result<(), Failure> {
    if let Some(problem) = preflight::root() {
        return Err(Failure::several(vec![problem]));
    }
    let name = args.named.name.clone();
    let paths = Paths::of(&name);
    let _lock = Lock::of(&name).await?;
    let start = Instant::now();
    let existing = Cluster::load(&paths)?;
    if let Some(cluster) = &existing {
        check_same(cluster, &args)?;
    }
    let cluster = match (running(&paths).await?, &existing) {
        (Some(status), _) if status.phase == Phase::Running => {
            return already_running(&args, &paths, &status).await;
        }
        // Somebody else's `up` was ended before it saw the end of it.
        (Some(_), Some(cluster)) => cluster.clone(),
        _ => plan(&args, &paths, existing.as_ref()).await?,
    };
    let before = Before::look(&cluster, existing.is_some());
    let (status, nodes) = match bring_up(&cluster, &paths).await {
        Ok(up) => up,
        Err(failure) => return Err(clean_up(&args, &before, failure).await),
    };
    let verb = if before.existed { "is back" } else { "is up" };
    println!("cluster {name} {verb} ({})\n", seconds(start.elapsed()));
    println!("{}\n", status::node_table(&status, &Ok(nodes)));
    for note in &status.notes {
        println!("note: {note}\n");
    }
    say_next(&args, &paths);
    Ok(())
}

/// What there was of the cluster before it was started: all of that must outlast a failure.
#[derive(Debug)]
struct Before {
    /// It had data.
    existed: bool,
    /// Some of it ran: a supervisor had died.
    ran: bool,
}

impl Before {
    fn look(cluster: &Cluster, existed: bool) -> Self {
        let hierarchies = Hierarchies::detect();
        let ran = hierarchies.is_ok_and(|found| !found.group(&cluster.name.cgroup()).pids().is_empty());
        Self { existed, ran }
    }
}

/// The status of a supervisor that did or does its work; one that failed is ended.
async fn running(paths: &Paths) -> Result<Option<Status>, Failure> {
    let socket = paths.supervisor_socket();
    let Some(status) = protocol::status(&socket).await? else {
        return Ok(None);
    };
    if matches!(status.phase, Phase::Starting | Phase::Running) {
        return Ok(Some(status));
    }
    if let Some(client) = Client::send(&socket, &Request::Shutdown).await? {
        client.done().await?;
    }
    Ok(None)
}

async fn already_running(args: &Up, paths: &Paths, status: &Status) -> Result<(), Failure> {
    let name = &args.named.name;
    println!("cluster {name} is already running\n");
    let nodes = match api::client(paths).await {
        Ok(client) => api::nodes(&client).await,
        Err(_) => Err(String::new()),
    };
    println!("{}\n", status::node_table(status, &nodes));
    say_next(args, paths);
    Ok(())
}

/// What is asked for must be what is there.
fn check_same(cluster: &Cluster, args: &Up) -> Result<(), Failure> {
    let ranges = &cluster.ranges;
    let differs = |asked: Option<ipnet::IpNet>, has: ipnet::IpNet| asked.filter(|asked| asked.trunc() != has);
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
async fn plan(args: &Up, paths: &Paths, existing: Option<&Cluster>) -> Result<Cluster, Failure> {
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
    Ok(Cluster::new(name.clone(), count, ranges, programs)?)
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

/// Starts the supervisor, and waits until every node is Ready.
async fn bring_up(cluster: &Cluster, paths: &Paths) -> Result<(Status, Vec<NodeView>), Failure> {
    let mut client = connect(cluster, paths).await?;
    let stopped = |node: &&supervisor::cluster::Node| paths.node(&node.name).power_off.exists();
    let off = cluster.nodes.iter().filter(stopped).count();
    let mut steps = Steps::new(cluster.nodes.len() - off);
    loop {
        match client.next().await? {
            Some(Reply::Step(step)) => steps.show(&step),
            Some(Reply::Done) => break,
            Some(Reply::Failed(failure)) => {
                let tail = failure.log.as_deref().map(log_tail).unwrap_or_default();
                return Err(Failure::from(Error::from(failure)).with_context(tail));
            }
            Some(Reply::Status(_)) => {}
            None => return Err(ended(paths)),
        }
    }
    let status = protocol::status(&paths.supervisor_socket())
        .await?
        .ok_or_else(|| ended(paths))?;
    steps.progress.begin("nodes Ready");
    let nodes = wait_ready(&status, paths).await?;
    steps.progress.done("nodes Ready");
    Ok((status, nodes))
}

/// The supervisor belongs to no terminal and no session, and outlives this program.
fn start_supervisor(cluster: &Cluster, paths: &Paths) -> Result<ProcessId, Failure> {
    let failed = |source| Error::System {
        action: "can't start the supervisor".to_owned(),
        source,
    };
    files::make_dir(&paths.logs())?;
    let group = Hierarchies::detect()
        .map_err(failed)?
        .group(&cluster.name.cgroup())
        .child("control");
    group.create().map_err(failed)?;
    let mut command = Command::new(&cluster.programs.ripstop);
    command
        .args(["supervise", "--name", cluster.name.as_str()])
        .current_dir("/");
    let place = Place {
        cgroup: Some(group),
        ..Place::default()
    };
    prepare(&mut command, &place).map_err(failed)?;
    log_to(&mut command, &paths.log("supervisor")).map_err(failed)?;
    let child = command.spawn().map_err(failed)?;
    ProcessId::of(child.id()).ok_or_else(|| ended(paths))
}

/// Follows the supervisor that there is, or a new one.
async fn connect(cluster: &Cluster, paths: &Paths) -> Result<Client, Failure> {
    let socket = paths.supervisor_socket();
    if let Some(client) = Client::send(&socket, &Request::Follow).await? {
        return Ok(client);
    }
    let supervisor = start_supervisor(cluster, paths)?;
    let deadline = Instant::now() + SUPERVISOR_LIMIT;
    loop {
        if let Some(client) = Client::send(&socket, &Request::Follow).await? {
            return Ok(client);
        }
        if !supervisor.is_alive() || Instant::now() > deadline {
            return Err(ended(paths));
        }
        sleep(Duration::from_millis(2)).await;
    }
}

fn ended(paths: &Paths) -> Failure {
    let log = paths.log("supervisor");
    let cure = format!("its log says why: {}", log.display());
    Failure::new("the supervisor ended before the cluster was up", cure).with_context(log_tail(&log))
}

fn log_tail(path: &Path) -> Vec<String> {
    let mut lines = vec![format!("--- the end of {}", path.display())];
    lines.extend(log::tail(path, LOG_LINES).unwrap_or_default());
    lines.push("---".to_owned());
    lines
}

async fn wait_ready(status: &Status, paths: &Paths) -> Result<Vec<NodeView>, Failure> {
    let client = api::client(paths).await?;
    let deadline = Instant::now() + READY_LIMIT;
    let wanted = || {
        status
            .nodes
            .iter()
            .filter(|node| node.state == NodeState::Running)
    };
    loop {
        let views = api::nodes(&client).await;
        let why = |name: &str| match &views {
            Err(error) => Some(error.clone()),
            Ok(views) => match views
                .iter()
                .find(|view| view.name == name)
                .map(|view| &view.ready)
            {
                Some(Readiness::Ready) => None,
                Some(Readiness::NotReady(why)) => Some(why.clone()),
                None => Some("it hasn't registered".to_owned()),
            },
        };
        let Some((node, why)) = wanted().find_map(|node| why(&node.name).map(|why| (node, why))) else {
            return Ok(views.unwrap_or_default());
        };
        if Instant::now() > deadline {
            let log = paths.log(&format!("agent {}", node.name));
            let what = format!("{} isn't Ready after {}: {why}", node.name, seconds(READY_LIMIT));
            let cure = format!("its log says more: {}", log.display());
            return Err(Failure::new(what, cure).with_context(log_tail(&log)));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Takes out what was made, unless somebody wants to look at it. An older cluster's data stays, and
/// so do pods that ran before.
async fn clean_up(args: &Up, before: &Before, failure: Failure) -> Failure {
    let name = &args.named.name;
    if args.keep || before.ran {
        let line = format!("left as it is: `ripstop status --name {name}`, `ripstop down --name {name}`");
        return failure.with_context(vec![line]);
    }
    if let Err(left) = down::take_out(name, before.existed).await {
        left.print();
    }
    failure
}

/// Adds the context, and says what can be done with it.
fn say_next(args: &Up, paths: &Paths) {
    let name = &args.named.name;
    let context = name.context();
    let flag = if name.as_str() == "local" {
        String::new()
    } else {
        format!(" --name {name}")
    };
    let kubectl = if args.no_kubeconfig {
        format!("kubectl --kubeconfig {}", paths.kubeconfig().display())
    } else {
        match kubeconfig::add(name, paths) {
            Ok(path) => {
                println!("context {context} is current in {}", path.display());
                "kubectl".to_owned()
            }
            Err(error) => {
                let cure = format!("`ripstop kubeconfig{flag}` prints what would have been added");
                print_problem(
                    "warning",
                    &Problem {
                        what: error,
                        cure,
                        fatal: false,
                    },
                );
                format!("kubectl --kubeconfig {}", paths.kubeconfig().display())
            }
        }
    };
    println!("try:");
    println!("  {kubectl} get nodes");
    println!("  {kubectl} create deployment web --image=localhost/ripstop/toolbox:1 --replicas=6");
    println!("  ripstop check{flag}");
    println!("  ripstop down{flag}");
}

#[cfg(test)]
mod tests;
