//! The supervisor's life.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::net::UnixListener as StdListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::cluster::{Cluster, Node};
use crate::crew::Crew;
use crate::protocol::{Failure, NodeState, NodeStatus, Phase, ProcessState, ProcessStatus, Status};
use crate::resolver::Resolver;
use crate::start::{digest, start, start_node};
use crate::state::{State, now};
use crate::unit::Wanted;
use crate::{ClusterName, Error, Paths, fabric, files, forward, log, node, socket, way_out};

/// How long the server and the agents may take to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(15);

/// What is kept behind a lock is whole at any moment.
const UNPOISONED: &str = "nobody panics while holding this lock";

/// A supervisor: one a cluster.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) cluster: Cluster,
    pub(crate) paths: Paths,
    pub(crate) state: Arc<State>,
    pub(crate) resolver: Resolver,
    /// Looks after the server.
    pub(crate) control: Arc<Crew>,
    /// Those who look after each node's processes.
    nodes: Mutex<BTreeMap<String, Arc<Crew>>>,
    /// The start, while it goes on.
    starting: Mutex<Option<AbortHandle>>,
    /// One change of nodes after the other.
    changing: tokio::sync::Mutex<()>,
    over: Notify,
    since: u64,
}

/// Runs the supervisor of a cluster until it is shut down.
///
/// # Errors
/// When there is no such cluster, or it has a supervisor already.
pub async fn run(name: &ClusterName) -> Result<(), Error> {
    let paths = Paths::of(name);
    let cluster = Cluster::load(&paths)?.ok_or_else(|| Error::NoCluster(name.to_string()))?;
    files::make_private_dir(&paths.run)?;
    files::make_dir(&paths.logs())?;
    let _lock = lock(&paths, name)?;
    let listener = listen(&paths)?;
    let supervisor = Arc::new(Supervisor::new(cluster, paths));
    tracing::info!(cluster = %name, "supervising");
    let accept = tokio::spawn(socket::serve(Arc::clone(&supervisor), listener));
    let dir = supervisor.paths.logs();
    let logs = tokio::spawn(async move { log::keep_small(&dir).await });
    let own = Arc::clone(&supervisor);
    let way_out = tokio::spawn(async move { way_out::keep_open(&own.cluster, &own.state).await });
    let ports = tokio::spawn(forward::run(Arc::clone(&supervisor)));
    supervisor.begin();
    let leave = until_signalled();
    tokio::select! {
        () = supervisor.over.notified() => tracing::info!("shut down"),
        result = leave => {
            result.map_err(Error::system("signals"))?;
            tracing::info!("leaving; what runs goes on running");
            for crew in supervisor.crews() {
                crew.dismiss(Wanted::Left);
            }
        }
    }
    accept.abort();
    logs.abort();
    way_out.abort();
    ports.abort();
    let _ = fs::remove_file(supervisor.paths.supervisor_socket());
    Ok(())
}

/// Held for as long as the supervisor lives, and by nobody after it.
fn lock(paths: &Paths, name: &ClusterName) -> Result<Flock<File>, Error> {
    let path = paths.supervisor_lock();
    let file = File::create(&path).map_err(|error| Error::file("create", &path, error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| Error::AlreadySupervised(name.to_string()))
}

fn listen(paths: &Paths) -> Result<UnixListener, Error> {
    let path = paths.supervisor_socket();
    // The lock is ours: a socket that is there is an earlier supervisor's.
    let _ = fs::remove_file(&path);
    let open = || {
        use std::os::unix::fs::PermissionsExt;
        let listener = StdListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    open().map_err(|error| Error::file("listen at", &path, error))
}

async fn until_signalled() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

impl Supervisor {
    fn new(cluster: Cluster, paths: Paths) -> Self {
        let resolver = Resolver::of_machine(&cluster.ranges);
        let state = Arc::new(State::new());
        let names = cluster.nodes.iter().map(|node| node.name.clone());
        let nodes = names.map(|name| (name, Crew::new(&state))).collect();
        if let Some(note) = &resolver.note {
            state.note(note.clone());
        }
        Self {
            cluster,
            paths,
            control: Crew::new(&state),
            state,
            resolver,
            nodes: Mutex::new(nodes),
            starting: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
            over: Notify::new(),
            since: now(),
        }
    }

    /// Starts the cluster in the background.
    fn begin(self: &Arc<Self>) {
        let own = Arc::clone(self);
        let task = tokio::spawn(async move { own.start().await });
        *self.starting.lock().expect(UNPOISONED) = Some(task.abort_handle());
    }

    async fn start(self: &Arc<Self>) {
        let _alone = self.changing.lock().await;
        match start(self).await {
            Ok(()) => self.state.set_phase(Phase::Running),
            Err(error) => {
                tracing::error!(%error, "the cluster doesn't start");
                self.state.fail(Failure::from(&error));
            }
        }
    }

    /// Who looks after a node's processes.
    pub(crate) fn crew(&self, node: &str) -> Arc<Crew> {
        let mut nodes = self.nodes.lock().expect(UNPOISONED);
        let crew = nodes
            .entry(node.to_owned())
            .or_insert_with(|| Crew::new(&self.state));
        Arc::clone(crew)
    }

    /// The control plane's, and those of all nodes.
    fn crews(&self) -> Vec<Arc<Crew>> {
        let nodes = self.nodes.lock().expect(UNPOISONED);
        let control = std::iter::once(&self.control);
        control.chain(nodes.values()).map(Arc::clone).collect()
    }

    pub(crate) fn node_state(&self, node: &str) -> NodeState {
        if self.paths.node(node).power_off.exists() {
            NodeState::Stopped
        } else {
            NodeState::Running
        }
    }

    /// Cuts a node's power.
    pub(crate) async fn stop_node(&self, name: &str) -> Result<(), Error> {
        let _alone = self.changing.lock().await;
        self.node_in(name, NodeState::Running)?;
        tracing::info!(node = name, "cutting its power");
        self.cut_power(name).await
    }

    async fn cut_power(&self, name: &str) -> Result<(), Error> {
        files::write(&self.paths.node(name).power_off, "", 0o644)?;
        // Or its kernel would still refuse for processes that are dead already.
        fabric::unplug_node(&self.cluster, name).await?;
        let crew = self.crew(name);
        crew.dismiss(Wanted::Left);
        // Or what is killed would be started again meanwhile.
        crew.dismissed().await;
        self.nodes.lock().expect(UNPOISONED).remove(name);
        node::power_off(&self.cluster, &self.paths, name).await
    }

    /// Gives a node power again.
    pub(crate) async fn start_node(self: &Arc<Self>, name: &str) -> Result<(), Error> {
        let _alone = self.changing.lock().await;
        let node = self.node_in(name, NodeState::Stopped)?.clone();
        tracing::info!(node = name, "giving it power");
        let digest = digest(self.cluster.clone()).await?;
        let mark = self.paths.node(name).power_off;
        fs::remove_file(&mark).map_err(|error| Error::file("remove", &mark, error))?;
        let started = start_node(self, &node, &digest).await;
        if started.is_err()
            && let Err(error) = self.cut_power(name).await
        {
            tracing::warn!(node = name, %error, "half started, and can't be stopped again");
        }
        started
    }

    fn node_in(&self, name: &str, state: NodeState) -> Result<&Node, Error> {
        let node = self.cluster.node(name)?;
        if self.node_state(name) == state {
            return Ok(node);
        }
        Err(Error::NodeState {
            node: name.to_owned(),
            state: match state {
                NodeState::Running => "stopped already",
                NodeState::Stopped => "running already",
            },
        })
    }

    /// Ends server and agents in good order. Pods and shims end with their control groups.
    pub(crate) async fn shut_down(&self) {
        self.state.set_phase(Phase::Stopping);
        if let Some(starting) = self.starting.lock().expect(UNPOISONED).take() {
            starting.abort();
        }
        let crews = self.crews();
        for crew in &crews {
            crew.dismiss(Wanted::Ended);
        }
        let all = async {
            for crew in &crews {
                crew.dismissed().await;
            }
        };
        if tokio::time::timeout(SHUTDOWN_LIMIT, all).await.is_err() {
            tracing::warn!("some processes don't end");
        }
    }

    /// The supervisor's work is done.
    pub(crate) fn finish(&self) {
        self.over.notify_one();
    }

    pub(crate) fn status(&self) -> Status {
        let own = ProcessStatus {
            name: "supervisor".to_owned(),
            pid: Some(std::process::id()),
            state: ProcessState::Running,
            restarts: 0,
            since: self.since,
            last_end: None,
            log: self.paths.log("supervisor"),
        };
        let node = |node: &Node| NodeStatus {
            name: node.name.clone(),
            addresses: node.addresses.iter().map(ToString::to_string).collect(),
            state: self.node_state(&node.name),
        };
        let mut processes = vec![own];
        processes.extend(self.state.processes());
        Status {
            name: self.cluster.name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase: self.state.phase().0,
            ip_family: self.cluster.ranges.ip_family().flag().to_owned(),
            server: self.cluster.server_url(),
            pod_network: self.cluster.pod_network,
            nodes: self.cluster.nodes.iter().map(node).collect(),
            processes,
            notes: self.state.notes(),
        }
    }
}
