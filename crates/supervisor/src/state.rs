//! What the supervisor knows, for whoever asks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kernel::process::ProcessId;
use tokio::sync::watch;

use crate::protocol::{Failure, Phase, ProcessState, ProcessStatus, Step};

/// Shared by all tasks of the supervisor.
#[derive(Debug)]
pub(crate) struct State {
    inner: Mutex<Inner>,
    /// Counts changes, so that followers look again.
    version: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    failure: Option<Failure>,
    steps: Vec<Step>,
    processes: BTreeMap<String, ProcessStatus>,
    notes: Vec<String>,
    /// What firewalls of the machine may do to the nodes.
    firewalls: Vec<String>,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                phase: Phase::Starting,
                failure: None,
                steps: Vec::new(),
                processes: BTreeMap::new(),
                notes: Vec::new(),
                firewalls: Vec::new(),
            }),
            version: watch::Sender::new(0),
        }
    }

    /// Tells of changes, from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(crate) fn phase(&self) -> (Phase, Option<Failure>) {
        let inner = self.lock();
        (inner.phase, inner.failure.clone())
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.change(|inner| inner.phase = phase);
    }

    pub(crate) fn fail(&self, failure: Failure) {
        self.change(|inner| {
            inner.phase = Phase::Failed;
            inner.failure.get_or_insert(failure);
        });
    }

    pub(crate) fn note(&self, text: String) {
        self.change(|inner| inner.notes.push(text));
    }

    /// What a note says is so no longer.
    pub(crate) fn withdraw(&self, note: &str) {
        self.change(|inner| inner.notes.retain(|text| text != note));
    }

    pub(crate) fn set_firewalls(&self, problems: Vec<String>) {
        if self.lock().firewalls != problems {
            self.change(|inner| inner.firewalls = problems);
        }
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        let inner = self.lock();
        [inner.notes.as_slice(), inner.firewalls.as_slice()].concat()
    }

    /// The steps from the given one on.
    pub(crate) fn steps_from(&self, seen: usize) -> Vec<Step> {
        self.lock().steps[seen..].to_vec()
    }

    /// Does a step of the start, and tells followers of it.
    pub(crate) async fn step<T, E>(
        &self,
        name: impl Into<String>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let name = name.into();
        let start = Instant::now();
        self.push(&name, None);
        let result = work.await?;
        let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(step = name, millis, "done");
        self.push(&name, Some(millis));
        Ok(result)
    }

    fn push(&self, name: &str, millis: Option<u64>) {
        let name = name.to_owned();
        self.change(|inner| inner.steps.push(Step { name, millis }));
    }

    /// The supervisor's processes, by name.
    pub(crate) fn processes(&self) -> Vec<ProcessStatus> {
        self.lock().processes.values().cloned().collect()
    }

    pub(crate) fn restarts(&self, name: &str) -> u32 {
        self.lock()
            .processes
            .get(name)
            .map_or(0, |process| process.restarts)
    }

    pub(crate) fn process_runs(&self, name: &str, id: ProcessId, log: &Path) {
        self.process(name, log, |process| {
            process.pid = Some(id.pid);
            process.state = ProcessState::Running;
            // One that was taken over has run for longer than it is known.
            process.since = id.started().map_or_else(now, seconds);
        });
    }

    /// The process ended; it will be started again.
    pub(crate) fn process_ended(&self, name: &str, how: String, log: &Path) {
        self.process(name, log, |process| {
            process.pid = None;
            process.state = ProcessState::Waiting;
            process.since = now();
            process.last_end = Some(how);
            process.restarts += 1;
        });
    }

    /// Nobody looks after the process any more.
    pub(crate) fn process_left(&self, name: &str, log: &Path) {
        self.process(name, log, |process| {
            process.pid = None;
            process.state = ProcessState::Stopped;
            process.since = now();
        });
    }

    fn process(&self, name: &str, log: &Path, set: impl FnOnce(&mut ProcessStatus)) {
        self.change(|inner| {
            let process = inner
                .processes
                .entry(name.to_owned())
                .or_insert_with(|| ProcessStatus {
                    name: name.to_owned(),
                    pid: None,
                    state: ProcessState::Stopped,
                    restarts: 0,
                    since: 0,
                    last_end: None,
                    log: log.to_owned(),
                });
            set(process);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.version.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while holding the state")
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
