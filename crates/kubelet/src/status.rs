//! A pod's status. Pure: the pod, what runs, and what is known beside it go
//! in; the status that the API shall show comes out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodIP, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::conditions;
use crate::decide::Waiting;
use crate::pod;
use crate::resources;
use crate::runtime::{Observed, Run, RunState};

/// Why a pod failed as a whole, rather than through its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// What a status is made from.
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) observed: &'a Observed,
    pub(crate) now: Timestamp,
    pub(crate) node_ips: &'a [IpAddr],
    /// Containers that wait, by name.
    pub(crate) waiting: &'a BTreeMap<String, Waiting>,
    /// Runs, by id, that serve.
    pub(crate) ready: &'a BTreeSet<String>,
    /// Runs, by id, that are past their start.
    pub(crate) started: &'a BTreeSet<String>,
    /// What runs, by id, said when they ended.
    pub(crate) last_words: &'a HashMap<String, String>,
    pub(crate) failure: Option<&'a Failure>,
    /// Nothing of the pod will be started any more.
    pub(crate) over: bool,
}

/// The status.
pub(crate) fn pod_status(facts: &Facts<'_>) -> PodStatus {
    let before = facts.pod.status.clone().unwrap_or_default();
    let init: Vec<_> = pod::init_containers(facts.pod)
        .iter()
        .map(|c| container_status(facts, c, before.init_container_statuses.as_deref(), true))
        .collect();
    let main: Vec<_> = pod::spec(facts.pod)
        .containers
        .iter()
        .map(|c| container_status(facts, c, before.container_statuses.as_deref(), false))
        .collect();
    let ephemeral: Vec<_> = pod::ephemeral_containers(facts.pod)
        .iter()
        .map(|c| {
            let before = before.ephemeral_container_statuses.as_deref();
            let status = container_status(facts, &pod::as_container(c), before, false);
            // Nobody is served by one.
            ContainerStatus {
                ready: false,
                started: None,
                ..status
            }
        })
        .collect();
    // What is over stays what it was.
    let settled = before
        .phase
        .clone()
        .filter(|_| facts.over && pod::is_over(facts.pod));
    let phase = settled.unwrap_or_else(|| phase(facts, &init, &main));
    let conditions = conditions::conditions(facts, &phase, &init, &main);
    let ips = pod_ips(facts, &before);
    // A pod that failed before anything of it ran has no containers to tell of.
    let has_run = |s: &ContainerStatus| s.container_id.is_some();
    let nothing_ran = facts.over && facts.failure.is_some() && !init.iter().chain(&main).any(has_run);
    let listed = |list: Vec<ContainerStatus>| Some(list).filter(|list| !list.is_empty() && !nothing_ran);
    PodStatus {
        conditions: Some(conditions),
        reason: facts.failure.map(|f| f.reason.clone()),
        message: facts.failure.map(|f| f.message.clone()),
        host_ip: facts.node_ips.first().map(ToString::to_string),
        host_ips: Some(
            facts
                .node_ips
                .iter()
                .map(|ip| HostIP { ip: ip.to_string() })
                .collect(),
        ),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: before.start_time.or(Some(Time(facts.now))),
        init_container_statuses: listed(init),
        container_statuses: listed(main),
        ephemeral_container_statuses: listed(ephemeral),
        qos_class: before
            .qos_class
            .or_else(|| Some(resources::qos_class(facts.pod).name().to_owned())),
        observed_generation: facts.pod.metadata.generation,
        phase: Some(phase),
        ..PodStatus::default()
    }
}

/// The pod's addresses now or, for a pod that is over, those it had.
pub(crate) fn addresses(pod: &Pod, observed: &Observed, node_ips: &[IpAddr]) -> Vec<IpAddr> {
    match observed.sandbox() {
        Some(_) if pod::host_network(pod) => node_ips.to_vec(),
        Some(sandbox) => sandbox.ips.clone(),
        None => Vec::new(),
    }
}

fn pod_ips(facts: &Facts<'_>, before: &PodStatus) -> Vec<String> {
    let now = addresses(facts.pod, facts.observed, facts.node_ips);
    if now.is_empty() && (facts.over || pod::is_deleted(facts.pod)) {
        let had = before.pod_ips.iter().flatten();
        return had.map(|ip| ip.ip.clone()).collect();
    }
    now.iter().map(ToString::to_string).collect()
}

fn container_status(
    facts: &Facts<'_>,
    container: &Container,
    before: Option<&[ContainerStatus]>,
    is_init: bool,
) -> ContainerStatus {
    let name = &container.name;
    let before = before.and_then(|list| list.iter().find(|s| s.name == *name));
    let mut runs = facts.observed.runs_of(name);
    let latest = runs.next();
    let previous = runs.find(|r| r.has_exited());
    let Some(run) = latest else {
        return without_runs(facts, container, before);
    };
    let held = facts.waiting.get(name).filter(|_| !facts.over);
    let terminated = |run: &Run| ContainerState {
        terminated: Some(terminated(run, facts)),
        ..ContainerState::default()
    };
    let (state, last_state) = match (run.state, held) {
        (RunState::Running, _) => (running(run), previous.map(terminated)),
        (RunState::Exited, Some(held)) => (waiting(held), Some(terminated(run))),
        (RunState::Exited, None) => (terminated(run), previous.map(terminated)),
        (RunState::Created | RunState::Unknown, held) => {
            let creating = creating(facts);
            (waiting(held.unwrap_or(&creating)), previous.map(terminated))
        }
    };
    let is_running = run.is_running();
    let ready = if is_init && !pod::is_sidecar(container) {
        run.has_exited() && run.exit_code == 0
    } else {
        is_running && facts.ready.contains(&run.id)
    };
    ContainerStatus {
        name: name.clone(),
        image: if run.image.is_empty() {
            container.image.clone().unwrap_or_default()
        } else {
            run.image.clone()
        },
        image_id: run.image_id.clone(),
        container_id: Some(container_id(run)),
        restart_count: i32::try_from(run.restart_count).unwrap_or(i32::MAX),
        ready,
        started: Some(is_running && facts.started.contains(&run.id)),
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        ..given(container, is_running)
    }
}

/// What a container has got: its mounts, and while it runs its resources, which don't change as long as it
/// does.
fn given(container: &Container, is_running: bool) -> ContainerStatus {
    let resources = container.resources.clone().unwrap_or_default();
    let mounts = container.volume_mounts.iter().flatten();
    let mounts: Vec<_> = mounts
        .map(|mount| VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only.filter(|is_so| *is_so),
            // Mounts below a read-only one stay as they are (KEP-3857); who insists is refused.
            recursive_read_only: (mount.read_only == Some(true)).then(|| "Disabled".to_owned()),
            ..VolumeMountStatus::default()
        })
        .collect();
    ContainerStatus {
        allocated_resources: resources.requests.clone().filter(|requests| !requests.is_empty()),
        resources: is_running.then_some(resources),
        volume_mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
        ..ContainerStatus::default()
    }
}

/// A container that the runtime knows nothing of: not begun, or its records
/// are gone, in which case the API's are the better memory.
fn without_runs(
    facts: &Facts<'_>,
    container: &Container,
    before: Option<&ContainerStatus>,
) -> ContainerStatus {
    let ended = before.filter(|s| s.state.as_ref().is_some_and(|s| s.terminated.is_some()));
    if let Some(ended) = ended.filter(|_| facts.over || pod::is_deleted(facts.pod)) {
        return ContainerStatus {
            ready: ended.ready && ended.started != Some(true),
            ..ended.clone()
        };
    }
    let creating = creating(facts);
    let why = facts.waiting.get(&container.name).unwrap_or(&creating);
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        restart_count: before.map_or(0, |s| s.restart_count),
        started: Some(false),
        state: Some(waiting(why)),
        last_state: Some(before.and_then(|s| s.last_state.clone()).unwrap_or_default()),
        ..given(container, false)
    }
}

fn creating(facts: &Facts<'_>) -> Waiting {
    let reason = if pod::init_containers(facts.pod).is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    };
    Waiting {
        reason: reason.to_owned(),
        message: String::new(),
    }
}

fn waiting(why: &Waiting) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(why.reason.clone()),
            message: Some(why.message.clone()).filter(|m| !m.is_empty()),
        }),
        ..ContainerState::default()
    }
}

fn running(run: &Run) -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning {
            started_at: run.started_at.map(Time),
        }),
        ..ContainerState::default()
    }
}

fn terminated(run: &Run, facts: &Facts<'_>) -> ContainerStateTerminated {
    let reason = match (run.reason.as_str(), run.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    let words = facts.last_words.get(&run.id).cloned();
    let message = words.filter(|m| !m.is_empty());
    let message = message.or_else(|| Some(run.message.clone()).filter(|m| !m.is_empty()));
    ContainerStateTerminated {
        container_id: Some(container_id(run)),
        exit_code: run.exit_code,
        reason: Some(reason.to_owned()),
        message,
        // One that never ran began when time did, as in Kubernetes.
        started_at: Some(Time(run.started_at.unwrap_or(Timestamp::UNIX_EPOCH))),
        finished_at: run.finished_at.map(Time),
        signal: None,
    }
}

/// A run's name across runtimes.
pub(crate) fn container_id(run: &Run) -> String {
    format!("containerd://{}", run.id)
}

/// The pod's phase, from the states of its containers.
fn phase(facts: &Facts<'_>, init: &[ContainerStatus], main: &[ContainerStatus]) -> String {
    if facts.failure.is_some() {
        return "Failed".to_owned();
    }
    let ended = |s: &ContainerStatus| {
        s.state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .map(|t| t.exit_code)
    };
    let is_running = |s: &ContainerStatus| s.state.as_ref().is_some_and(|s| s.running.is_some());
    let will_restart =
        |container: &Container, code: i32| !facts.over && pod::restarts(facts.pod, container, code);
    let specs = pod::init_containers(facts.pod);
    let mut plain = specs.iter().zip(init).filter(|(c, _)| !pod::is_sidecar(c));
    let failed_init =
        plain.any(|(c, status)| ended(status).is_some_and(|code| code != 0 && !will_restart(c, code)));
    if failed_init && main.iter().all(|s| !is_running(s)) {
        return "Failed".to_owned();
    }
    let begun = |s: &ContainerStatus| is_running(s) || ended(s).is_some() || has_ended_before(s);
    if !main.iter().all(begun) {
        return "Pending".to_owned();
    }
    let codes: Option<Vec<i32>> = main.iter().map(ended).collect();
    let containers = &pod::spec(facts.pod).containers;
    match codes {
        Some(codes)
            if containers
                .iter()
                .zip(&codes)
                .all(|(c, &code)| !will_restart(c, code)) =>
        {
            let good = codes.iter().all(|&code| code == 0);
            if good { "Succeeded" } else { "Failed" }.to_owned()
        }
        _ => "Running".to_owned(),
    }
}

fn has_ended_before(status: &ContainerStatus) -> bool {
    status.last_state.as_ref().is_some_and(|s| s.terminated.is_some())
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
