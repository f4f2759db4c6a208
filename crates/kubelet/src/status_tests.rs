use serde_json::{Value, json};

use super::*;
use crate::pod::tests::pod;
use crate::runtime::tests::{at, exited, ready_sandbox, running};

struct Case {
    pod: Pod,
    observed: Observed,
    waiting: BTreeMap<String, Waiting>,
    ready: BTreeSet<String>,
    words: HashMap<String, String>,
    failure: Option<Failure>,
    over: bool,
}

impl Case {
    fn new(spec: Value) -> Self {
        Self {
            pod: pod(json!({ "spec": spec })),
            observed: Observed {
                sandboxes: vec![ready_sandbox("s0", 0)],
                runs: Vec::new(),
            },
            waiting: BTreeMap::new(),
            ready: BTreeSet::new(),
            words: HashMap::new(),
            failure: None,
            over: false,
        }
    }

    fn run(mut self, run: Run) -> Self {
        if run.is_running() {
            self.ready.insert(run.id.clone());
        }
        self.observed.runs.insert(0, run);
        self
    }

    fn status(&self) -> PodStatus {
        pod_status(&Facts {
            pod: &self.pod,
            observed: &self.observed,
            now: at(1000),
            node_ips: &["172.30.0.11".parse().unwrap()],
            waiting: &self.waiting,
            ready: &self.ready,
            started: &self.ready,
            last_words: &self.words,
            failure: self.failure.as_ref(),
            over: self.over,
        })
    }

    /// The status in a line: phase, containers, conditions.
    fn line(&self) -> String {
        let status = self.status();
        let state = |s: &ContainerStatus| {
            let state = s.state.clone().unwrap_or_default();
            let text = if let Some(w) = state.waiting {
                w.reason.unwrap_or_default()
            } else if let Some(t) = state.terminated {
                format!("{}({})", t.reason.unwrap_or_default(), t.exit_code)
            } else {
                "Running".to_owned()
            };
            format!(
                "{}={text}{}x{}",
                s.name,
                if s.ready { "+" } else { "-" },
                s.restart_count
            )
        };
        let all = status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten();
        let containers: Vec<_> = all.map(state).collect();
        let good: Vec<_> = status
            .conditions
            .iter()
            .flatten()
            .filter(|c| c.status == "True")
            .map(|c| c.type_.clone())
            .collect();
        format!(
            "{} {} {}",
            status.phase.unwrap(),
            containers.join(" "),
            good.join(",")
        )
    }
}

#[test]
fn a_pod_on_its_way_up() {
    let case = Case::new(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    assert_eq!(
        case.line(),
        "Pending i=PodInitializing-x0 a=PodInitializing-x0 PodReadyToStartContainers,PodScheduled"
    );
    let case = case.run(exited("i", "s0", 0, 0));
    assert_eq!(
        case.line(),
        "Pending i=Completed(0)+x0 a=PodInitializing-x0 PodReadyToStartContainers,Initialized,PodScheduled"
    );
    let case = case.run(running("a", "s0", 0));
    assert_eq!(
        case.line(),
        "Running i=Completed(0)+x0 a=Running+x0 PodReadyToStartContainers,Initialized,Ready,ContainersReady,PodScheduled"
    );
}

#[test]
fn phases_follow_the_restart_policy() {
    for (policy, code, expected) in [
        ("Always", 0, "Running"),
        ("Always", 1, "Running"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
    ] {
        let case = Case::new(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}))
            .run(exited("a", "s0", 0, code));
        assert_eq!(case.status().phase.unwrap(), expected, "{policy} after {code}");
    }
}

#[test]
fn a_crash_loop_shows_why_it_waits_and_how_it_ended() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}]}))
        .run(exited("a", "s0", 0, 2))
        .run(exited("a", "s0", 1, 1));
    case.waiting.insert(
        "a".into(),
        Waiting {
            reason: "CrashLoopBackOff".into(),
            message: "back-off 10s".into(),
        },
    );
    case.words.insert("a-1".into(), "no config".into());
    assert_eq!(
        case.line(),
        "Running a=CrashLoopBackOff-x1 PodReadyToStartContainers,Initialized,PodScheduled"
    );
    let status = case.status().container_statuses.unwrap().remove(0);
    let last = status.last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.message.as_deref()), (1, Some("no config")));
}

#[test]
fn a_deadline_fails_the_pod() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}]})).run(exited("a", "s0", 0, 137));
    case.over = true;
    case.failure = Some(Failure {
        reason: "DeadlineExceeded".into(),
        message: "too long".into(),
    });
    let status = case.status();
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
}

#[test]
fn gates_of_others_hold_readiness_back() {
    let mut case = Case::new(
        json!({"readinessGates": [{"conditionType": "example.com/lb"}], "containers": [{"name": "a"}]}),
    )
    .run(running("a", "s0", 0));
    let ready = |case: &Case| {
        case.status()
            .conditions
            .unwrap()
            .into_iter()
            .find(|c| c.type_ == "Ready")
            .unwrap()
    };
    assert_eq!(ready(&case).reason.as_deref(), Some("ReadinessGatesNotReady"));
    case.pod.status = Some(
        serde_json::from_value(json!({"conditions": [{"type": "example.com/lb", "status": "True"}]}))
            .unwrap(),
    );
    assert_eq!(ready(&case).status, "True");
}

#[test]
fn a_finished_pod_remembers_what_the_runtime_forgot() {
    let mut case = Case::new(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    case.observed = Observed::default();
    case.over = true;
    case.pod.status = Some(
        serde_json::from_value(json!({
        "podIP": "10.244.1.2", "podIPs": [{"ip": "10.244.1.2"}],
        "containerStatuses": [{"name": "a", "ready": false, "restartCount": 0, "image": "x", "imageID": "y",
            "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}))
        .unwrap(),
    );
    assert_eq!(
        case.line(),
        "Succeeded a=Completed(0)-x0 Initialized,PodScheduled"
    );
    assert_eq!(case.status().pod_ip.as_deref(), Some("10.244.1.2"));
}

#[test]
fn a_condition_that_stays_keeps_its_time() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}]})).run(running("a", "s0", 0));
    let mut first = case.status();
    for condition in first.conditions.iter_mut().flatten() {
        condition.last_transition_time = Some(Time(at(5)));
    }
    case.pod.status = Some(first.clone());
    case.observed.runs[0].restart_count = 1;
    assert_eq!(case.status().conditions, first.conditions);
    case.ready.clear();
    let ready = case
        .status()
        .conditions
        .unwrap()
        .into_iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert_eq!(ready.last_transition_time, Some(Time(at(1000))));
}

#[test]
fn a_whole_status() {
    let case = Case::new(json!({"containers": [{"name": "a", "image": "x:1",
        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}, {"name": "w", "mountPath": "/w"}]}]}))
    .run(running("a", "s0", 0));
    insta::assert_snapshot!(serde_json::to_string_pretty(&case.status()).unwrap());
}

#[test]
fn an_ephemeral_container_is_shown_and_counts_for_nothing() {
    let case = Case::new(json!({"containers": [{"name": "a"}],
        "ephemeralContainers": [{"name": "debug"}, {"name": "next"}]}))
    .run(running("a", "s0", 0))
    .run(exited("debug", "s0", 0, 3));
    let status = case.status();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let statuses = status.ephemeral_container_statuses.unwrap();
    let ended = statuses[0]
        .state
        .as_ref()
        .and_then(|s| s.terminated.as_ref())
        .unwrap();
    assert_eq!((ended.exit_code, statuses[0].ready), (3, false));
    assert!(statuses[1].state.as_ref().is_some_and(|s| s.waiting.is_some()));
}
