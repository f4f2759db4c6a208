//! A process that is kept running.
//!
//! ```text
//!            ┌── found running, as wanted ──┐
//! look ──────┤                              ├─► running ──ended──► pause ──► look
//!            └── start ─────────────────────┘      │                 │
//!                                               told to stop ◄───────┘
//! ```
//!
//! A supervisor that comes after another one finds what that one started by its control group and
//! command line, and takes it over when program and namespaces are what they should be; else the
//! process is replaced. So a supervisor can die at any time without anyone noticing.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::NetNs;
use kernel::process::{Inode, Place, Process, ProcessId, log_to, prepare};
use kernel::sockets;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::Error;
use crate::state::State;

/// A process that ran for this long didn't fail at start.
const STEADY: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Shorter than what others wait for: an announcer's Lease counts for 2 seconds, and may be 0.6 old when its agent
/// ends.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Debug)]
pub(crate) struct Unit {
    /// `server`, `agent NODE` …
    pub(crate) name: String,
    /// Absolute path of the program.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) place: Place,
    pub(crate) log: PathBuf,
    /// Its configuration has changed: one that is found running is replaced.
    pub(crate) replace: bool,
    /// How long it may take to end when asked to.
    pub(crate) grace: Duration,
    /// Where it listens on sockets that are kept for it here: what comes in while it is restarted
    /// waits.
    pub(crate) listen: Vec<SocketAddr>,
}

/// What is to become of the units of a node, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// They run.
    Running,
    /// They are asked to end.
    Ended,
    /// Nobody looks after them; what runs goes on.
    Left,
}

impl Unit {
    /// Keeps the process running until told otherwise.
    pub(crate) async fn supervise(mut self, state: Arc<State>, mut wanted: watch::Receiver<Wanted>) {
        let mut sockets = Vec::new();
        let mut pauses = Pauses::default();
        while *wanted.borrow() == Wanted::Running {
            let started = Instant::now();
            let end = match self.take_over_or_start(&mut sockets).await {
                Ok(mut running) => {
                    let id = running.process.id();
                    tracing::info!(process = self.name, pid = id.pid, "running");
                    state.process_runs(&self.name, id, &self.log);
                    tokio::select! {
                        end = running.ended() => end,
                        wish = change(&mut wanted) => {
                            self.stop(running, wish).await;
                            break;
                        }
                    }
                }
                Err(error) => error.to_string(),
            };
            self.replace = false;
            let pause = pauses.after(started.elapsed());
            tracing::warn!(process = self.name, end, ?pause, "ended; starting it again");
            state.process_ended(&self.name, end, &self.log);
            tokio::select! {
                () = sleep(pause) => {}
                _ = change(&mut wanted) => break,
            }
        }
        state.process_left(&self.name, &self.log);
    }

    async fn stop(&self, mut running: Running, wish: Wanted) {
        if wish == Wanted::Ended
            && let Err(error) = running.process.terminate(self.grace).await
        {
            tracing::warn!(process = self.name, %error, "can't be ended");
        }
        // Whenever it ends, a child has to be reaped.
        tokio::spawn(async move { running.ended().await });
    }

    /// `sockets` are those that are kept for it.
    async fn take_over_or_start(&self, sockets: &mut Vec<OwnedFd>) -> Result<Running, Error> {
        let failed = |source| Error::System {
            action: format!("can't start {}", self.name),
            source,
        };
        let mut fit = None;
        for (process, is_same) in self.find().map_err(failed)? {
            self.take_sockets(&process, sockets);
            if fit.is_none() && is_same && !self.replace && self.fits(process.id()) {
                fit = Some(process);
            } else {
                tracing::info!(process = self.name, pid = process.id().pid, "replacing");
                process.terminate(self.grace).await.map_err(failed)?;
            }
        }
        match fit {
            Some(process) => Ok(Running { process, child: None }),
            None => self.start(sockets).map_err(failed),
        }
    }

    /// The processes in the unit's control group that do its work, and whether each was started with its
    /// command line: what the cluster is to be may have changed.
    fn find(&self) -> std::io::Result<Vec<(Process, bool)>> {
        let Some(group) = &self.place.cgroup else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for id in group.pids().into_iter().filter_map(ProcessId::of) {
            let line = id.command_line();
            let mut words = line.iter();
            if words.next().map(Path::new) == Some(&self.program) && words.clone().next() == self.args.first()
            {
                let is_same = words.eq(&self.args);
                found.extend(id.open()?.map(|process| (process, is_same)));
            }
        }
        Ok(found)
    }

    /// Whether the process is what would be started now.
    fn fits(&self, id: ProcessId) -> bool {
        let here = ProcessId::current();
        let namespace = |kind, path: &Option<PathBuf>| {
            let wanted = match path {
                Some(path) => Inode::of(path),
                None => here.namespace(kind),
            };
            wanted.is_some() && id.namespace(kind) == wanted
        };
        let program = Inode::of(&self.program);
        program.is_some()
            && id.executable() == program
            && namespace("net", &self.place.netns)
            && namespace("mnt", &self.place.mountns)
    }

    /// Those that an earlier supervisor kept for the process are kept on.
    fn take_sockets(&self, process: &Process, sockets: &mut Vec<OwnedFd>) {
        if self.listen.is_empty() || !sockets.is_empty() {
            return;
        }
        match process.sockets(2 * self.listen.len()) {
            Ok(found) if sockets::are_at(&found, &self.listen) => *sockets = found,
            Ok(_) => tracing::info!(process = self.name, "listens elsewhere from now on"),
            Err(error) => tracing::debug!(process = self.name, %error, "its sockets can't be had"),
        }
    }

    fn open_sockets(&self) -> std::io::Result<Vec<OwnedFd>> {
        let open = || sockets::open(&self.listen);
        match &self.place.netns {
            Some(path) => NetNs::open(path)
                .and_then(|netns| netns.run(open))
                .map_err(std::io::Error::other)?,
            None => open(),
        }
    }

    fn start(&self, sockets: &mut Vec<OwnedFd>) -> std::io::Result<Running> {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        prepare(&mut command, &self.place)?;
        if !self.listen.is_empty() {
            if sockets.is_empty() {
                *sockets = self.open_sockets()?;
            }
            sockets::hand_over(&mut command, sockets)?;
        }
        log_to(&mut command, &self.log)?;
        let mut child = command.spawn()?;
        match ProcessId::of(child.id())
            .map(ProcessId::open)
            .transpose()?
            .flatten()
        {
            Some(process) => Ok(Running {
                process,
                child: Some(child),
            }),
            None => {
                let status = child.wait()?;
                Err(std::io::Error::other(format!(
                    "it ended at once: {}",
                    describe(status)
                )))
            }
        }
    }
}

/// A process and, when it is ours, what the kernel needs to let go of it.
#[derive(Debug)]
struct Running {
    process: Process,
    child: Option<Child>,
}

impl Running {
    /// Waits for its end and tells how it ended.
    async fn ended(&mut self) -> String {
        if let Err(error) = self.process.ended().await {
            return format!("can't be watched: {error}");
        }
        match self.child.as_mut().map(Child::wait) {
            Some(Ok(status)) => describe(status),
            Some(Err(error)) => format!("can't be reaped: {error}"),
            // Started by an earlier supervisor: its status went to init.
            None => "ended".to_owned(),
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Waits until something else than running is wanted.
async fn change(wanted: &mut watch::Receiver<Wanted>) -> Wanted {
    match wanted.wait_for(|wish| *wish != Wanted::Running).await {
        Ok(wish) => *wish,
        // Whoever could have said so is gone.
        Err(_) => Wanted::Left,
    }
}

/// How long to wait before the next start.
#[derive(Debug, Default)]
struct Pauses {
    last: Option<Duration>,
}

impl Pauses {
    /// Twice as long each time, and short again after a steady run.
    fn after(&mut self, ran: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if ran < STEADY => (last * 2).min(LONGEST_PAUSE),
            _ => SHORTEST_PAUSE,
        };
        self.last = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests;
