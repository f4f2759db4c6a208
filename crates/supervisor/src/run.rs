//! The supervisor's life.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::net::UnixListener as StdListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, Node};
use crate::protocol::{Failure, NodeState, NodeStatus, Phase, ProcessState, ProcessStatus, Status};
use crate::resolver::Resolver;
use crate::start::{digest, start, start_node, wanted};
use crate::state::{State, now};
use crate::unit::{Unit, Wanted};
use crate::{ClusterName, Error, Paths, files, log, node, socket, way_out};

/// How long the server and the agents may take to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(15);

/// A supervisor: one a cluster.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) cluster: Cluster,
    pub(crate) paths: Paths,
    pub(crate) state: Arc<State>,
    pub(crate) resolver: Resolver,
    /// For the units of the whole cluster.
    pub(crate) wanted: watch::Sender<Wanted>,
    /// For the units of each node.
    nodes: Mutex<BTreeMap<String, watch::Sender<Wanted>>>,
    units: Mutex<JoinSet<()>>,
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
    files::make_dir(&paths.run)?;
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
    let starting = {
        let own = Arc::clone(&supervisor);
        tokio::spawn(async move { own.start().await })
    };
    let leave = until_signalled();
    tokio::select! {
        () = supervisor.over.notified() => tracing::info!("shut down"),
        result = leave => {
            result.map_err(Error::system("signals"))?;
            tracing::info!("leaving; what runs goes on running");
            supervisor.tell_all(Wanted::Left);
        }
    }
    starting.abort();
    accept.abort();
    logs.abort();
    way_out.abort();
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
        let names = cluster.nodes.iter().map(|node| node.name.clone());
        let nodes = names.map(|name| (name, wanted())).collect();
        let resolver = Resolver::of_machine();
        let state = State::new();
        if let Some(note) = &resolver.note {
            state.note(note.clone());
        }
        Self {
            cluster,
            paths,
            state: Arc::new(state),
            resolver,
            wanted: wanted(),
            nodes: Mutex::new(nodes),
            units: Mutex::new(JoinSet::new()),
            changing: tokio::sync::Mutex::new(()),
            over: Notify::new(),
            since: now(),
        }
    }

    async fn start(self: Arc<Self>) {
        let _alone = self.changing.lock().await;
        match start(&self).await {
            Ok(()) => self.state.set_phase(Phase::Running),
            Err(error) => {
                tracing::error!(%error, "the cluster doesn't start");
                self.state.fail(Failure::from(&error));
            }
        }
    }

    /// Keeps a process running from now on.
    pub(crate) fn look_after(&self, unit: Unit, wanted: watch::Receiver<Wanted>) {
        let mut units = self.units.lock().expect("nobody panics while holding the units");
        while units.try_join_next().is_some() {}
        units.spawn(unit.supervise(Arc::clone(&self.state), wanted));
    }

    /// The switch for the units of a node.
    pub(crate) fn node_wanted(&self, node: &str) -> watch::Sender<Wanted> {
        let nodes = self.nodes.lock().expect("nobody panics while holding the nodes");
        nodes.get(node).cloned().unwrap_or_else(wanted)
    }

    fn tell_all(&self, wish: Wanted) {
        self.wanted.send_replace(wish);
        let nodes = self.nodes.lock().expect("nobody panics while holding the nodes");
        for node in nodes.values() {
            node.send_replace(wish);
        }
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
        let node = self.node_in(name, NodeState::Running)?;
        let mark = self.paths.node(name).power_off;
        files::write(&mark, "", 0o644)?;
        self.node_wanted(name).send_replace(Wanted::Left);
        tracing::info!(node = name, "cutting its power");
        node::power_off(&self.cluster, &self.paths, &node.name).await
    }

    /// Gives a node power again.
    pub(crate) async fn start_node(self: &Arc<Self>, name: &str) -> Result<(), Error> {
        let _alone = self.changing.lock().await;
        let node = self.node_in(name, NodeState::Stopped)?.clone();
        tracing::info!(node = name, "giving it power");
        let digest = digest(self.cluster.clone()).await?;
        let mark = self.paths.node(name).power_off;
        fs::remove_file(&mark).map_err(|error| Error::file("remove", &mark, error))?;
        self.nodes
            .lock()
            .expect("nobody panics while holding the nodes")
            .insert(name.to_owned(), wanted());
        start_node(self, &node, &digest).await
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

    /// Ends server and agents in good order. Pods and containerds end with their control groups.
    pub(crate) async fn shut_down(&self) {
        self.state.set_phase(Phase::Stopping);
        self.tell_all(Wanted::Ended);
        let mut units =
            std::mem::take(&mut *self.units.lock().expect("nobody panics while holding the units"));
        let all = async { while units.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_LIMIT, all).await.is_err() {
            tracing::warn!("some processes don't end");
        }
        // Aborted tasks would only stop watching.
        units.detach_all();
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
            address: node.address.to_string(),
            state: self.node_state(&node.name),
        };
        let mut processes = vec![own];
        processes.extend(self.state.processes());
        Status {
            name: self.cluster.name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase: self.state.phase().0,
            server: self.cluster.server_url(),
            nodes: self.cluster.nodes.iter().map(node).collect(),
            processes,
            notes: self.state.notes(),
        }
    }
}
