//! `ripstop up`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kernel::cgroup::Hierarchies;
use kernel::process::{Place, ProcessId, log_to, prepare};
use supervisor::preflight::{self, Problem};
use supervisor::protocol::{self, Client, Phase, Reply, Request, Status};
use supervisor::{Cluster, Error, Paths, files, log};
use tokio::time::sleep;

use crate::api::{self, NodeView};
use crate::args::Up;
use crate::failure::{Failure, print_problem};
use crate::lock::Lock;
use crate::output::out;
use crate::progress::seconds;
use crate::up::steps::Steps;
use crate::{down, kubeconfig, status};

pub(crate) mod config;
pub(crate) mod manifests;
mod plan;
mod ready;
mod steps;

/// How long the supervisor may take until it listens.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(10);
/// How much of a log is shown when something failed.
const LOG_LINES: usize = 15;

pub(crate) async fn run(args: Up) -> Result<(), Failure> {
    if let Some(problem) = preflight::root() {
        return Err(Failure::several(vec![problem]));
    }
    let name = args.named.name.clone();
    let paths = Paths::of(&name);
    let wish = args.config.as_deref().map(config::read).transpose()?;
    let args = match &wish {
        Some(wish) => wish.complete(args)?,
        None => args,
    };
    let manifests = manifests::read(wish.iter().flat_map(|wish| &wish.manifests))?;
    let _lock = Lock::of(&name).await?;
    let start = Instant::now();
    let existing = Cluster::load(&paths)?;
    if let Some(cluster) = &existing {
        plan::check_same(cluster, &args)?;
        plan::check_nodes(cluster, wish.as_ref())?;
    }
    let running = running(&paths).await?;
    if let (Some(_), Some(cluster)) = (&running, &existing) {
        plan::check_unchanged(cluster, wish.as_ref())?;
    }
    let cluster = match (running, &existing) {
        (Some(status), _) if status.phase == Phase::Running => {
            already_running(&args, &paths, &status).await?;
            return manifests::apply(&paths, manifests).await;
        }
        // Somebody else's `up` was ended before it saw the end of it.
        (Some(_), Some(cluster)) => cluster.clone(),
        _ => plan::plan(&args, wish.as_ref(), &paths, existing.as_ref()).await?,
    };
    let before = Before::look(&cluster, existing.is_some());
    let (status, nodes) = match bring_up(&cluster, &paths).await {
        Ok(up) => up,
        Err(failure) => return Err(clean_up(&args, &before, failure).await),
    };
    // The cluster is up whatever becomes of them.
    let applied = manifests::apply(&paths, manifests).await;
    let verb = if before.existed { "is back" } else { "is up" };
    out!("cluster {name} {verb} ({})\n", seconds(start.elapsed()));
    out!("{}\n", status::node_table(&status, &Ok(nodes)));
    for note in &status.notes {
        out!("note: {note}\n");
    }
    say_next(&args, &paths);
    applied
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
    out!("cluster {name} is already running\n");
    let nodes = match api::client(paths).await {
        Ok(client) => api::nodes(&client).await,
        Err(_) => Err(String::new()),
    };
    out!("{}\n", status::node_table(status, &nodes));
    say_next(args, paths);
    Ok(())
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
    steps.progress.begin("nodes Ready");
    let up = ready::wait_ready(paths).await?;
    steps.progress.done("nodes Ready");
    Ok(up)
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
    let mut child = command.spawn().map_err(failed)?;
    let id = ProcessId::of(child.id());
    // Should it end while this program runs, it is this program that has to take notice.
    std::thread::spawn(move || child.wait());
    id.ok_or_else(|| ended(paths))
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
                out!("context {context} is current in {}", path.display());
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
    out!("try:");
    out!("  {kubectl} get nodes");
    out!("  {kubectl} create deployment web --image=localhost/ripstop/toolbox:1 --replicas=6");
    out!("  ripstop check{flag}");
    out!("  ripstop down{flag}");
}
