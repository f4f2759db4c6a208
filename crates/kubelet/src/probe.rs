//! Liveness, readiness and startup probes of running containers.
//!
//! Each probe of each run is a task. It reports when its verdict changes, and
//! ends with its run. Liveness and readiness wait for a startup probe to pass.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio_util::task::AbortOnDropHandle;

use crate::events::{About, Recorder};
use crate::handler::{Outcome, Target};
use crate::pod;
use crate::runtime::{Observed, Run};

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Check {
    Liveness,
    Readiness,
    Startup,
}

impl Check {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
        }
    }

    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Startup => container.startup_probe.as_ref(),
        }
    }
}

/// A probe's new verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) run_id: String,
    pub(crate) check: Check,
    pub(crate) good: bool,
}

/// Who gets the verdicts.
pub(crate) type Report = std::sync::Arc<dyn Fn(Verdict) + Send + Sync>;

/// The health of a pod's runs.
pub(crate) struct Prober {
    cri: cri::Client,
    events: Recorder,
    report: Report,
    runs: HashMap<String, Watched>,
    /// Runs whose startup probe passed, or that have none.
    started: BTreeSet<String>,
    /// Runs whose readiness probe passes, or that have none.
    ready: BTreeSet<String>,
    /// Runs that a probe gave up on.
    failed: BTreeMap<String, Check>,
    stopping: bool,
}

struct Watched {
    name: String,
    tasks: BTreeMap<Check, AbortOnDropHandle<()>>,
}

impl Prober {
    pub(crate) fn new(cri: cri::Client, events: Recorder, report: Report) -> Self {
        Self {
            cri,
            events,
            report,
            runs: HashMap::new(),
            started: BTreeSet::new(),
            ready: BTreeSet::new(),
            failed: BTreeMap::new(),
            stopping: false,
        }
    }

    pub(crate) fn started(&self) -> &BTreeSet<String> {
        &self.started
    }

    pub(crate) fn ready(&self) -> &BTreeSet<String> {
        &self.ready
    }

    pub(crate) fn failed(&self) -> &BTreeMap<String, Check> {
        &self.failed
    }

    /// Starts the probes of what runs and ends those of what doesn't any more.
    pub(crate) fn sync(&mut self, pod: &Pod, observed: &Observed, pod_ip: Option<IpAddr>) {
        let running: BTreeSet<&str> = observed
            .runs
            .iter()
            .filter(|r| r.is_running())
            .map(|r| r.id.as_str())
            .collect();
        self.runs.retain(|id, _| running.contains(id.as_str()));
        self.started.retain(|id| running.contains(id.as_str()));
        self.ready.retain(|id| running.contains(id.as_str()));
        self.failed.retain(|id, _| running.contains(id.as_str()));
        for run in observed.runs.iter().filter(|r| r.is_running()) {
            let Some(container) = pod::container(pod, &run.name) else {
                continue;
            };
            if !self.runs.contains_key(&run.id) {
                self.take_up(pod, &container, run);
            }
            self.spawn_due(pod, &container, run, pod_ip);
        }
    }

    /// A run seen for the first time. What the API says of this very run holds:
    /// the agent may have been restarted under a pod that serves.
    fn take_up(&mut self, pod: &Pod, container: &Container, run: &Run) {
        let watched = Watched {
            name: run.name.clone(),
            tasks: BTreeMap::new(),
        };
        self.runs.insert(run.id.clone(), watched);
        let (was_started, was_ready) = known_health(pod, &run.name, &run.id);
        if container.startup_probe.is_none() || was_started {
            self.started.insert(run.id.clone());
        }
        let starts_ready = container.readiness_probe.is_none() && container.startup_probe.is_none();
        if starts_ready || was_ready {
            self.ready.insert(run.id.clone());
        }
    }

    fn spawn_due(&mut self, pod: &Pod, container: &Container, run: &Run, pod_ip: Option<IpAddr>) {
        let started = self.started.contains(&run.id);
        let due: &[Check] = match (started, self.stopping) {
            (true, false) => &[Check::Liveness, Check::Readiness],
            (false, false) => &[Check::Startup],
            (_, true) => &[Check::Readiness],
        };
        let Some(watched) = self.runs.get_mut(&run.id) else {
            return;
        };
        if self.failed.contains_key(&run.id) {
            // It is being stopped: what its probes find now is no news.
            return;
        }
        for &check in due {
            let Some(probe) = check.of(container) else {
                continue;
            };
            if watched.tasks.contains_key(&check) {
                continue;
            }
            let task = Task {
                target: Target {
                    cri: self.cri.clone(),
                    run_id: run.id.clone(),
                    container: container.clone(),
                    pod_ip,
                },
                check,
                probe: probe.clone(),
                good: check == Check::Liveness || (check == Check::Readiness && self.ready.contains(&run.id)),
                started_at: run.started_at.unwrap_or(run.created_at),
                about: About::container(pod, &run.name),
                events: self.events.clone(),
                report: self.report.clone(),
            };
            let handle = AbortOnDropHandle::new(tokio::spawn(task.run()));
            watched.tasks.insert(check, handle);
        }
    }

    /// Takes in a verdict. True if it is about a run that is still watched.
    pub(crate) fn note(&mut self, pod: &Pod, verdict: &Verdict) -> bool {
        let id = &verdict.run_id;
        let Some(watched) = self.runs.get_mut(id) else {
            return false;
        };
        match (verdict.check, verdict.good) {
            (Check::Startup, true) => {
                self.started.insert(id.clone());
                watched.tasks.remove(&Check::Startup);
                let container = pod::container(pod, &watched.name);
                if container.is_some_and(|c| c.readiness_probe.is_none()) {
                    self.ready.insert(id.clone());
                }
            }
            (Check::Readiness, true) => {
                self.ready.insert(id.clone());
            }
            (Check::Readiness, false) => {
                self.ready.remove(id);
            }
            (Check::Liveness | Check::Startup, false) => {
                self.failed.insert(id.clone(), verdict.check);
                // One verdict is enough; the next run gets its own probes.
                watched.tasks.clear();
                self.ready.remove(id);
            }
            (Check::Liveness, true) => {}
        }
        true
    }

    /// The pod is going: nobody is restarted for failing now, but whether it
    /// still serves is told to the end.
    pub(crate) fn stopping(&mut self) {
        self.stopping = true;
        self.failed.clear();
        for watched in self.runs.values_mut() {
            watched.tasks.remove(&Check::Liveness);
            watched.tasks.remove(&Check::Startup);
        }
    }
}

/// What the API has about this run: (started, ready).
fn known_health(pod: &Pod, name: &str, run_id: &str) -> (bool, bool) {
    let Some(status) = &pod.status else {
        return (false, false);
    };
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let mut all = lists.into_iter().flatten().flatten();
    let known = all.find(|c| {
        let id = c.container_id.as_deref().and_then(|id| id.rsplit_once("//"));
        c.name == name && id.is_some_and(|(_, id)| id == run_id)
    });
    known.map_or((false, false), |c| (c.started.unwrap_or(false), c.ready))
}

/// One probe of one run.
struct Task {
    target: Target,
    check: Check,
    probe: Probe,
    /// The verdict so far.
    good: bool,
    started_at: Timestamp,
    about: About,
    events: Recorder,
    report: Report,
}

impl Task {
    async fn run(self) {
        let seconds =
            |value: Option<i32>, default: u64| value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default);
        let threshold = |value: Option<i32>, default: u32| {
            value
                .and_then(|v| u32::try_from(v).ok())
                .unwrap_or(default)
                .max(1)
        };
        let period = Duration::from_secs(seconds(self.probe.period_seconds, 10).max(1));
        let delay = Duration::from_secs(seconds(self.probe.initial_delay_seconds, 0));
        let age = Timestamp::now().duration_since(self.started_at);
        let age = Duration::try_from(age).unwrap_or_default();
        tokio::time::sleep(delay.saturating_sub(age)).await;

        let needs_good = threshold(self.probe.success_threshold, 1);
        let needs_bad = threshold(self.probe.failure_threshold, 3);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut good = self.good;
        let mut streak = Streak::default();
        loop {
            ticks.tick().await;
            let passed = match self.target.probe(&self.probe).await {
                Outcome::Success => true,
                Outcome::Warning(what) => {
                    self.warn("ProbeWarning", &format!("warning: {what}"));
                    true
                }
                Outcome::Failure(output) => {
                    self.warn("Unhealthy", &format!("failed: {output}"));
                    false
                }
                Outcome::Broken(why) => {
                    // Nothing was learned about the container.
                    self.warn("Unhealthy", &format!("errored: {why}"));
                    continue;
                }
            };
            let length = streak.next(passed);
            let needed = if passed { needs_good } else { needs_bad };
            // A startup probe has no verdict to begin with: both ends are news.
            let news = good != passed || self.check == Check::Startup;
            if length >= needed && news {
                good = passed;
                (self.report)(Verdict {
                    run_id: self.target.run_id.clone(),
                    check: self.check,
                    good,
                });
            }
        }
    }

    fn warn(&self, reason: &'static str, what: &str) {
        let mut name = self.check.name().to_owned();
        name[..1].make_ascii_uppercase();
        self.events
            .warning(&self.about, reason, format!("{name} probe {what}"));
    }
}

/// How many times in a row the same thing happened.
#[derive(Default)]
struct Streak {
    last: Option<bool>,
    length: u32,
}

impl Streak {
    fn next(&mut self, passed: bool) -> u32 {
        self.length = if self.last == Some(passed) {
            self.length.saturating_add(1)
        } else {
            1
        };
        self.last = Some(passed);
        self.length
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
