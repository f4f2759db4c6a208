//! How `kubectl get pods` shows a pod.

use serde_json::Value;

use crate::columns::{self, column, or_none, wide};
use crate::json::{at, flag, int, list, text};
use crate::kind::Column;

pub(crate) const COLUMNS: &[Column] = &[
    columns::NAME,
    column(
        "Ready",
        "string",
        "The aggregate readiness state of this pod for accepting traffic.",
    ),
    column(
        "Status",
        "string",
        "The aggregate status of the containers in this pod.",
    ),
    column(
        "Restarts",
        "string",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    columns::AGE,
    wide("IP", "string", "IP address allocated to the pod."),
    wide("Node", "string", "The node the pod is scheduled to."),
    wide(
        "Nominated Node",
        "string",
        "The node where preemption makes room for the pod.",
    ),
    wide(
        "Readiness Gates",
        "string",
        "How many of the pod's readiness gates are open.",
    ),
];

pub(crate) fn row(pod: &Value, now: i64) -> Vec<Value> {
    let summary = Summary::of(pod);
    vec![
        columns::name(pod),
        format!("{}/{}", summary.ready, summary.containers).into(),
        summary.status.into(),
        summary.restarts.text(now).into(),
        columns::age(pod, now),
        or_none(text(pod, "/status/podIPs/0/ip")),
        or_none(text(pod, "/spec/nodeName")),
        or_none(text(pod, "/status/nominatedNodeName")),
        readiness_gates(pod),
    ]
}

#[derive(Default, Clone, Copy)]
struct Restarts {
    count: i64,
    last: Option<i64>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += int(container, "/restartCount").unwrap_or_default();
        let finished = columns::seconds(text(container, "/lastState/terminated/finishedAt"));
        self.last = self.last.max(finished);
    }

    fn text(self, now: i64) -> String {
        match self.last {
            Some(last) if self.count != 0 => {
                format!("{} ({} ago)", self.count, columns::human_duration(now - last))
            }
            _ => self.count.to_string(),
        }
    }
}

/// What a pod's many container states come to.
struct Summary {
    containers: usize,
    ready: usize,
    status: String,
    restarts: Restarts,
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let sidecars = list(pod, "/spec/initContainers")
            .iter()
            .filter(|c| is_sidecar(c))
            .count();
        let mut summary = Summary {
            containers: list(pod, "/spec/containers").len() + sidecars,
            ready: 0,
            status: phase_or_reason(pod),
            restarts: Restarts::default(),
        };
        let mut sidecar_restarts = Restarts::default();
        let initializing = summary.init_containers(pod, &mut sidecar_restarts);
        if !initializing || condition(pod, "Initialized") {
            summary.restarts = sidecar_restarts;
            summary.main_containers(pod);
        }
        if at(pod, "/metadata/deletionTimestamp").is_some() {
            if text(pod, "/status/reason") == "NodeLost" {
                summary.status = "Unknown".to_owned();
            } else if !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
                summary.status = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Goes through the init containers up to the first that isn't done; true if there is one.
    fn init_containers(&mut self, pod: &Value, sidecar_restarts: &mut Restarts) -> bool {
        let specs = list(pod, "/spec/initContainers");
        for (index, container) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
            let spec = specs
                .iter()
                .find(|spec| text(spec, "/name") == text(container, "/name"));
            let sidecar = spec.is_some_and(is_sidecar);
            self.restarts.add(container);
            if sidecar {
                sidecar_restarts.add(container);
            }
            let terminated = at(container, "/state/terminated");
            let waiting = text(container, "/state/waiting/reason");
            if terminated.is_some_and(|state| int(state, "/exitCode") == Some(0)) {
                continue;
            }
            if sidecar && flag(container, "/started") {
                self.ready += usize::from(flag(container, "/ready"));
                continue;
            }
            self.status = match terminated {
                Some(state) => format!("Init:{}", termination(state)),
                None if !matches!(waiting, "" | "PodInitializing") => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", specs.len()),
            };
            return true;
        }
        false
    }

    fn main_containers(&mut self, pod: &Value) {
        let mut running = false;
        let mut error = None;
        for container in list(pod, "/status/containerStatuses").iter().rev() {
            self.restarts.add(container);
            let waiting = text(container, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.status = waiting.to_owned();
            } else if let Some(state) = at(container, "/state/terminated") {
                self.status = termination(state);
                if int(state, "/exitCode") != Some(0) {
                    error = Some(self.status.clone());
                }
            } else if flag(container, "/ready") && at(container, "/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        // One container's end isn't the pod's.
        if self.status == "Completed" {
            if running && condition(pod, "Ready") {
                self.status = "Running".to_owned();
            } else if let Some(error) = error {
                self.status = error;
            } else if running {
                self.status = "NotReady".to_owned();
            }
        }
    }
}

fn phase_or_reason(pod: &Value) -> String {
    let gated = list(pod, "/status/conditions").iter().any(|condition| {
        text(condition, "/type") == "PodScheduled" && text(condition, "/reason") == "SchedulingGated"
    });
    match (gated, text(pod, "/status/reason")) {
        (true, _) => "SchedulingGated".to_owned(),
        (false, "") => text(pod, "/status/phase").to_owned(),
        (false, reason) => reason.to_owned(),
    }
}

fn termination(state: &Value) -> String {
    match (text(state, "/reason"), int(state, "/signal")) {
        ("", Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        ("", _) => format!("ExitCode:{}", int(state, "/exitCode").unwrap_or_default()),
        (reason, _) => reason.to_owned(),
    }
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

fn condition(pod: &Value, kind: &str) -> bool {
    list(pod, "/status/conditions")
        .iter()
        .any(|condition| text(condition, "/type") == kind && text(condition, "/status") == "True")
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let open = gates
        .iter()
        .filter(|gate| condition(pod, text(gate, "/conditionType")))
        .count();
    format!("{open}/{}", gates.len()).into()
}
