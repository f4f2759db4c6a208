//! A pod's conditions.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod;
use crate::status::Facts;

/// The conditions that the kubelet writes; others in the status belong to others.
pub(crate) const OWNED: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// A condition's state, with a reason and a message unless it is simply true.
struct State {
    good: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl State {
    fn good() -> Self {
        Self {
            good: true,
            reason: None,
            message: None,
        }
    }

    fn bad(reason: &'static str, message: impl Into<Option<String>>) -> Self {
        Self {
            good: false,
            reason: Some(reason),
            message: message.into(),
        }
    }
}

/// The pod's conditions, in Kubernetes' order. A condition that didn't change
/// keeps its time.
pub(crate) fn conditions(
    facts: &Facts<'_>,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Vec<PodCondition> {
    let containers = containers_ready(facts, phase, init, main);
    let ready = ready(facts, &containers);
    let sandbox = facts.observed.sandbox();
    let has_sandbox = sandbox.is_some_and(|s| s.host_network || !s.ips.is_empty());
    let to_start = State {
        good: has_sandbox,
        reason: None,
        message: None,
    };
    let states = [
        ("PodReadyToStartContainers", to_start),
        ("Initialized", initialized(facts, phase, init, main)),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", State::good()),
    ];
    states
        .into_iter()
        .map(|(kind, state)| condition(facts, kind, state))
        .collect()
}

fn condition(facts: &Facts<'_>, kind: &str, state: State) -> PodCondition {
    let status = if state.good { "True" } else { "False" };
    let before = facts.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let before = before.into_iter().flatten().find(|c| c.type_ == kind);
    let since = before
        .filter(|c| c.status == status)
        .and_then(|c| c.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: state.reason.map(str::to_owned),
        message: state.message,
        last_transition_time: since.or(Some(Time(facts.now))),
        last_probe_time: None,
        observed_generation: facts.pod.metadata.generation,
    }
}

fn initialized(facts: &Facts<'_>, phase: &str, init: &[ContainerStatus], main: &[ContainerStatus]) -> State {
    if phase == "Succeeded" {
        return State {
            good: true,
            reason: Some("PodCompleted"),
            message: None,
        };
    }
    // Once a container runs the pod is initialized, whatever becomes of the
    // records of its init containers.
    let begun = main
        .iter()
        .any(|s| s.started == Some(true) || s.container_id.is_some());
    let specs = pod::init_containers(facts.pod);
    let open: Vec<&str> = specs
        .iter()
        .zip(init)
        .filter(|(spec, status)| {
            if pod::is_sidecar(spec) {
                status.started != Some(true)
            } else {
                !status.ready
            }
        })
        .map(|(spec, _)| spec.name.as_str())
        .collect();
    if begun || open.is_empty() {
        return State::good();
    }
    let message = format!("containers with incomplete status: [{}]", open.join(" "));
    State::bad("ContainersNotInitialized", message)
}

fn containers_ready(
    facts: &Facts<'_>,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> State {
    match phase {
        "Succeeded" => return State::bad("PodCompleted", None),
        "Failed" => return State::bad("PodFailed", None),
        _ => {}
    }
    let sidecars = pod::init_containers(facts.pod)
        .iter()
        .zip(init)
        .filter(|(spec, _)| pod::is_sidecar(spec))
        .map(|(_, status)| status);
    let unready: Vec<&str> = sidecars
        .chain(main)
        .filter(|status| !status.ready)
        .map(|status| status.name.as_str())
        .collect();
    if unready.is_empty() {
        return State::good();
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    State::bad("ContainersNotReady", message)
}

/// Containers ready, and every gate that the pod names open.
fn ready(facts: &Facts<'_>, containers: &State) -> State {
    if !containers.good {
        return State::bad(containers.reason.unwrap_or_default(), containers.message.clone());
    }
    let have = facts.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let gates = pod::spec(facts.pod).readiness_gates.iter().flatten();
    let closed: Vec<String> = gates
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match have.into_iter().flatten().find(|c| c.type_ == *kind) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {kind:?} does not exist."
                )),
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                    c.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if closed.is_empty() {
        State::good()
    } else {
        State::bad("ReadinessGatesNotReady", closed.join(", "))
    }
}
