//! Starts everything, as much as possible at the same time.
//!
//! ```text
//! network ───────────┬─► server ──────────────────────┐
//! certificates ──────┤                                 ├─► agent NODE
//!                    └─► node NODE ┬► containerd NODE ─┴─► images NODE
//!                                  └► dns NODE
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kernel::cgroup::Hierarchies;
use kernel::netns;
use kernel::process::Place;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, Node};
use crate::protocol::NodeState;
use crate::run::Supervisor;
use crate::settings::Losses;
use crate::unit::Unit;
use crate::{Error, Paths, credentials, fabric, files, images, node, way_out};

/// How long a process may take until it answers.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Ended this often before it answered: it won't.
const MOST_FAILURES: u32 = 4;
/// The server's own end: it finishes what it answers and closes the store.
const SERVER_GRACE: Duration = Duration::from_secs(10);

/// Starts the cluster; what runs already is taken over.
pub(crate) async fn start(supervisor: &Arc<Supervisor>) -> Result<(), Error> {
    let (cluster, paths, state) = (&supervisor.cluster, &supervisor.paths, &supervisor.state);
    let digest = tokio::spawn(digest(cluster.clone()));
    let network = async {
        fabric::build_switch(cluster).await?;
        way_out::open(cluster, state).await
    };
    tokio::try_join!(
        state.step("network", network),
        state.step("certificates", make_credentials(cluster.clone(), paths.clone())),
    )?;
    install_plugins(cluster, paths)?;
    supervisor.control.look_after(server_unit(cluster, paths)?);

    let digest = digest.await.expect("hashing doesn't panic")?;
    let mut work = JoinSet::new();
    let own = Arc::clone(supervisor);
    work.spawn(async move { own.state.step("server", server_ready(&own)).await });
    for node in cluster
        .nodes
        .iter()
        .filter(|node| supervisor.node_state(&node.name) == NodeState::Running)
    {
        let (own, node, digest) = (Arc::clone(supervisor), node.clone(), digest.clone());
        work.spawn(async move { start_node(&own, &node, &digest).await });
    }
    while let Some(result) = work.join_next().await {
        result.expect("a step doesn't panic")?;
    }
    Ok(())
}

/// Starts a node; says that it is done when its containers can be started. The agent tells the
/// API when the node is ready.
pub(crate) async fn start_node(supervisor: &Arc<Supervisor>, node: &Node, digest: &str) -> Result<(), Error> {
    let (cluster, paths, state) = (&supervisor.cluster, &supervisor.paths, &supervisor.state);
    let name = &node.name;
    let crew = supervisor.crew(name);
    let power = node::power_on(cluster, paths, node, &supervisor.resolver);
    let units = state.step(format!("node {name}"), power).await?;
    let containerd = units.containerd.name.clone();
    crew.look_after(units.containerd);
    // It answers with what it knew last until the server is there.
    crew.look_after(units.dns);
    let socket = paths.node(name).containerd_socket();
    let ready = ready(supervisor, &containerd, || UnixStream::connect(&socket));
    state.step(containerd.clone(), ready).await?;

    // The agent asks containerd and the server from its first moment on: it isn't started before
    // they answer, so that it need not ask twice.
    let agent = async {
        server_ready(supervisor).await?;
        crew.look_after(units.agent);
        Ok(())
    };
    let load = images::ensure(cluster, paths, name, &cluster.programs.images, digest);
    let load = state.step(format!("images {name}"), load);
    tokio::try_join!(agent, load)?;
    Ok(())
}

/// The digest of the archive that every node gets.
pub(crate) async fn digest(cluster: Cluster) -> Result<String, Error> {
    let work = tokio::task::spawn_blocking(move || images::digest(&cluster.programs.images));
    work.await.expect("hashing doesn't panic")
}

async fn make_credentials(cluster: Cluster, paths: Paths) -> Result<(), Error> {
    let work = tokio::task::spawn_blocking(move || credentials::ensure(&cluster, &paths));
    work.await.expect("making certificates doesn't panic")
}

/// Puts the CNI plugin where containerd looks for it, under both names that it answers to.
fn install_plugins(cluster: &Cluster, paths: &Paths) -> Result<(), Error> {
    for name in ["ripstop-cni", "loopback"] {
        files::install(&cluster.programs.cni, &paths.cni_bin().join(name))?;
    }
    Ok(())
}

fn server_unit(cluster: &Cluster, paths: &Paths) -> Result<Unit, Error> {
    let hierarchies = Hierarchies::detect().map_err(Error::system("control groups"))?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut args = vec![
        "server".to_owned(),
        format!("--listen={}", list(&cluster.server_sockets())),
        format!("--store={}", text(&paths.store())),
        format!("--pki={}", text(&paths.pki())),
        format!("--pod-cidr={}", list(&cluster.ranges.pod_cidrs())),
        format!("--service-cidr={}", list(&cluster.ranges.service_cidrs())),
    ];
    if let Some(ports) = cluster.node_ports {
        args.push(format!("--service-node-port-range={ports}"));
    }
    let balancers = cluster.ranges.load_balancers();
    if !balancers.is_empty() {
        args.push(format!("--load-balancer-pool={}", list(&balancers)));
    }
    args.push(format!(
        "--reserved-address={}",
        list(&cluster.ranges.own_addresses())
    ));
    let losses = &cluster.settings.losses;
    if *losses != Losses::default() {
        args.extend([
            format!("--node-monitor-grace-period={}", losses.node_monitor_grace_period),
            format!(
                "--default-not-ready-toleration-seconds={}",
                losses.not_ready_toleration
            ),
            format!(
                "--default-unreachable-toleration-seconds={}",
                losses.unreachable_toleration
            ),
        ]);
    }
    Ok(Unit {
        name: "server".to_owned(),
        program: cluster.programs.ripstop.clone(),
        args,
        place: Place {
            netns: Some(netns::named(&cluster.name.switch_netns())),
            mountns: None,
            cgroup: Some(hierarchies.group(&cluster.name.cgroup()).child("control")),
            hostname: None,
        },
        log: paths.log("server"),
        replace: false,
        grace: SERVER_GRACE,
        listen: Vec::new(),
    })
}

/// As a flag takes several values.
fn list(values: &[impl ToString]) -> String {
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    texts.join(",")
}

async fn server_ready(supervisor: &Arc<Supervisor>) -> Result<(), Error> {
    for socket in supervisor.cluster.server_sockets() {
        ready(supervisor, "server", || TcpStream::connect(socket)).await?;
    }
    Ok(())
}

/// Waits until a process takes connections.
async fn ready<T, F>(
    supervisor: &Supervisor,
    process: &str,
    mut connect: impl FnMut() -> F,
) -> Result<(), Error>
where
    F: Future<Output = std::io::Result<T>>,
{
    let deadline = Instant::now() + READY_LIMIT;
    let before = supervisor.state.restarts(process);
    loop {
        // A refused connection comes back at once; one into nowhere would take minutes.
        let attempt = tokio::time::timeout(Duration::from_millis(500), connect());
        if matches!(attempt.await, Ok(Ok(_))) {
            return Ok(());
        }
        let failures = supervisor.state.restarts(process) - before;
        if failures >= MOST_FAILURES || Instant::now() > deadline {
            return Err(Error::NotReady {
                process: process.to_owned(),
                log: supervisor.paths.log(process),
            });
        }
        sleep(Duration::from_millis(5)).await;
    }
}
