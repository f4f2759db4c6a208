//! What a pod needs next. Pure: the pod, what runs, and the time go in; what
//! to start, stop and wait for comes out.
//!
//! ```text
//!   no sandbox, or a dead one ──► a new sandbox, unless nothing is left to run
//!   init containers one by one, sidecars staying ──► containers, all at once
//!   a container that ended ──► restart policy ──► crash back-off ──► start
//! ```

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::backoff::CrashBackoff;
use crate::container_config;
use crate::pod::{self, PodKey, RestartPolicy, restart_policy};
use crate::probe::Check;
use crate::runtime::{Observed, Run, RunState};

/// What is known of a pod when a decision is due.
pub(crate) struct View<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) observed: &'a Observed,
    pub(crate) now: Timestamp,
    /// Runs, by id, whose liveness or startup probe gave up on them.
    pub(crate) failed: &'a BTreeMap<String, Check>,
    /// Runs, by id, that passed their startup probe.
    pub(crate) started: &'a BTreeSet<String>,
    pub(crate) backoff: &'a CrashBackoff,
    /// Containers whose start is under way.
    pub(crate) starting: &'a BTreeSet<String>,
}

/// Why a container is waiting, as its status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// A container to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) restart_count: u32,
    /// When the run before ended, if there was one: its wait is counted from there.
    pub(crate) after: Option<Timestamp>,
    /// The run whose processes it sees, for an ephemeral container that asks for one's.
    pub(crate) target: Option<String>,
}

/// A run to stop, and what its event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) why: String,
    /// The probe that asked for it, which may have a grace period of its own.
    pub(crate) probe: Option<Check>,
}

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Make a sandbox with that attempt's number; what is left of older ones
    /// is stopped first. Nothing is started before.
    pub(crate) new_sandbox: Option<u32>,
    pub(crate) start: Vec<Start>,
    pub(crate) kill: Vec<Kill>,
    /// Containers that wait out their back-off.
    pub(crate) held: BTreeMap<String, Waiting>,
    /// When to decide again, if nothing happens before.
    pub(crate) again_at: Option<Timestamp>,
    /// Every container has ended for good.
    pub(crate) finished: bool,
}

/// Decides. Everything that can be done at once is in the plan.
pub(crate) fn decide(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    let usable = view
        .observed
        .sandbox()
        .filter(|s| s.host_network == pod::host_network(view.pod) && (s.host_network || !s.ips.is_empty()));
    if is_finished(view, usable.map(|s| s.id.as_str())) {
        plan.finished = true;
        plan.kill = next_to_stop(view.pod, view.observed);
        return plan;
    }
    let Some(sandbox) = usable else {
        let next = view.observed.sandboxes.first().map_or(0, |s| s.attempt + 1);
        plan.new_sandbox = Some(next);
        return plan;
    };
    ephemeral(view, &mut plan);
    if init(view, &sandbox.id, &mut plan) {
        for container in &pod::spec(view.pod).containers {
            main(view, container, &sandbox.id, &mut plan);
        }
    }
    plan
}

/// What to stop first of a pod that ends: the containers, all at once; then the sidecars, the last one that
/// came up being the first to go.
pub(crate) fn next_to_stop(pod: &Pod, observed: &Observed) -> Vec<Kill> {
    let init = pod::init_containers(pod);
    let sidecar = |run: &Run| init.iter().position(|c| pod::is_sidecar(c) && c.name == run.name);
    let stop = |run: &Run| kill(run, format!("Stopping container {}", run.name), None);
    let alive: Vec<&Run> = observed.alive().collect();
    let others = alive.iter().filter(|run| sidecar(run).is_none());
    let others: Vec<Kill> = others.map(|run| stop(run)).collect();
    if !others.is_empty() {
        return others;
    }
    let last = alive.iter().max_by_key(|run| sidecar(run));
    last.map(|run| stop(run)).into_iter().collect()
}

/// Whether there is nothing left to run, now or later.
fn is_finished(view: &View<'_>, sandbox: Option<&str>) -> bool {
    let policy = restart_policy(view.pod);
    let containers = &pod::spec(view.pod).containers;
    let over = |container: &Container| {
        let run = view.observed.latest(&container.name);
        run.is_some_and(|run| run.has_exited() && !pod::restarts(view.pod, container, run.exit_code))
    };
    if containers.iter().all(over) {
        return true;
    }
    // Containers that ran, in a sandbox that died, are not run twice.
    let ran = containers.iter().any(|c| view.observed.latest(&c.name).is_some());
    if sandbox.is_none() && ran && policy == RestartPolicy::Never {
        return view.observed.alive().next().is_none();
    }
    // A failed init container ends a pod that doesn't retry.
    let plain = pod::init_containers(view.pod)
        .iter()
        .filter(|c| !pod::is_sidecar(c));
    plain.into_iter().any(|container| {
        let latest = view.observed.latest(&container.name);
        latest.is_some_and(|run| {
            run.has_exited() && run.exit_code != 0 && !pod::restarts(view.pod, container, run.exit_code)
        })
    })
}

/// Brings the init containers on. True once the others may start.
fn init(view: &View<'_>, sandbox: &str, plan: &mut Plan) -> bool {
    let observed = view.observed;
    // Init containers are done once any container got going in this sandbox;
    // their own records may be gone by then.
    let passed = pod::spec(view.pod)
        .containers
        .iter()
        .any(|c| observed.runs_of(&c.name).any(|r| r.sandbox == sandbox));
    let mut all_done = true;
    for container in pod::init_containers(view.pod) {
        let latest = observed.latest(&container.name);
        let here = latest.filter(|r| r.sandbox == sandbox);
        if pod::is_sidecar(container) {
            keep_running(view, container, here, latest, plan);
            let up = here.is_some_and(|r| r.is_running() && view.started.contains(&r.id));
            all_done &= passed || up;
        } else if !passed {
            all_done &= run_once(view, container, here, latest, plan);
        }
        if !all_done {
            return false;
        }
    }
    true
}

/// A plain init container: true once it has succeeded in this sandbox.
fn run_once(
    view: &View<'_>,
    container: &Container,
    here: Option<&Run>,
    latest: Option<&Run>,
    plan: &mut Plan,
) -> bool {
    match here.map(|r| (r.state, r.exit_code)) {
        Some((RunState::Exited, 0)) => true,
        Some((RunState::Running, _)) => false,
        Some((RunState::Unknown, _)) => {
            plan.kill.extend(here.map(unknown));
            false
        }
        None | Some((RunState::Exited | RunState::Created, _)) => {
            start(view, container, latest, plan);
            false
        }
    }
}

/// A sidecar, which is restarted whatever the pod's policy is.
fn keep_running(
    view: &View<'_>,
    container: &Container,
    here: Option<&Run>,
    latest: Option<&Run>,
    plan: &mut Plan,
) {
    match here {
        Some(run) if run.is_running() => plan.kill.extend(unfit(view, container, run)),
        Some(run) if run.state == RunState::Unknown => plan.kill.push(unknown(run)),
        _ => start(view, container, latest, plan),
    }
}

/// One of the pod's containers proper.
fn main(view: &View<'_>, container: &Container, sandbox: &str, plan: &mut Plan) {
    let Some(run) = view.observed.latest(&container.name) else {
        return start(view, container, None, plan);
    };
    match run.state {
        RunState::Running if run.sandbox == sandbox => {
            plan.kill.extend(unfit(view, container, run));
        }
        // It clings to a sandbox that is gone.
        RunState::Running | RunState::Unknown => plan.kill.push(unknown(run)),
        RunState::Created => start(view, container, Some(run), plan),
        RunState::Exited => {
            if pod::restarts(view.pod, container, run.exit_code) {
                start(view, container, Some(run), plan);
            }
        }
    }
}

/// Containers that were added to the running pod. Each runs once, whatever the pod's policy is, and beside
/// init containers too, which it may have come to look at.
fn ephemeral(view: &View<'_>, plan: &mut Plan) {
    for added in pod::ephemeral_containers(view.pod) {
        let latest = view.observed.latest(&added.name);
        if latest.is_some_and(|run| run.state != RunState::Created) {
            continue;
        }
        let target = added
            .target_container_name
            .as_deref()
            .filter(|name| !name.is_empty());
        let run = target.and_then(|name| view.observed.latest(name).filter(|run| run.is_running()));
        if let (Some(target), None) = (target, run) {
            let waiting = Waiting {
                reason: "CreateContainerConfigError".to_owned(),
                message: format!("unable to find target container {target:?}: it is not running"),
            };
            plan.held.insert(added.name.clone(), waiting);
            continue;
        }
        if !view.starting.contains(&added.name) {
            plan.start.push(Start {
                name: added.name.clone(),
                restart_count: 0,
                after: None,
                target: run.map(|run| run.id.clone()),
            });
        }
    }
}

/// Why a running container must be replaced, if it must.
fn unfit(view: &View<'_>, container: &Container, run: &Run) -> Option<Kill> {
    let name = &container.name;
    if !run.hash.is_empty() && run.hash != container_config::hash(container) {
        let why = format!("Container {name} definition changed, will be restarted");
        return Some(kill(run, why, None));
    }
    let check = *view.failed.get(&run.id)?;
    // What a killed process ends with.
    const KILLED: i32 = 137;
    let restarts = pod::is_sidecar(container) || pod::restarts(view.pod, container, KILLED);
    let outcome = if restarts {
        "will be restarted"
    } else {
        "will be stopped"
    };
    let why = format!("Container {name} failed {} probe, {outcome}", check.name());
    Some(kill(run, why, Some(check)))
}

fn unknown(run: &Run) -> Kill {
    let why = format!(
        "Container {} is in unknown state, try killing it before restart",
        run.name
    );
    kill(run, why, None)
}

fn kill(run: &Run, why: String, probe: Option<Check>) -> Kill {
    Kill {
        id: run.id.clone(),
        name: run.name.clone(),
        why,
        probe,
    }
}

/// Starts a container, or notes how long it has to wait.
fn start(view: &View<'_>, container: &Container, latest: Option<&Run>, plan: &mut Plan) {
    let name = &container.name;
    if view.starting.contains(name) {
        return;
    }
    let ended = latest.filter(|r| r.has_exited());
    let finished = ended.map(|r| r.finished_at.unwrap_or(r.created_at));
    if let Some(hold) = finished.and_then(|at| view.backoff.hold(name, at, view.now)) {
        let message = format!(
            "back-off {} restarting failed container={name} pod={}",
            short(hold.delay.as_secs()),
            PodKey::of(view.pod)
        );
        let waiting = Waiting {
            reason: "CrashLoopBackOff".to_owned(),
            message,
        };
        plan.held.insert(name.clone(), waiting);
        plan.again_at = Some(plan.again_at.map_or(hold.until, |at| at.min(hold.until)));
        return;
    }
    let restart_count = match latest {
        // What was created and never ran doesn't count as a run.
        Some(run) if run.state == RunState::Created => run.restart_count,
        Some(run) => run.restart_count + 1,
        None => 0,
    };
    plan.start.push(Start {
        name: name.clone(),
        restart_count,
        after: finished,
        target: None,
    });
}

/// Seconds as Kubernetes prints them: `1m20s`, `5m0s`, `10s`.
fn short(seconds: i64) -> String {
    match seconds / 60 {
        0 => format!("{seconds}s"),
        minutes => format!("{minutes}m{}s", seconds % 60),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
