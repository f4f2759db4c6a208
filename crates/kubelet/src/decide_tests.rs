use serde_json::{Value, json};

use super::*;
use crate::pod::tests::pod;
use crate::runtime::tests::{at, exited, ready_sandbox, running};

/// A pod and its surroundings, put together step by step.
struct Case {
    pod: Pod,
    observed: Observed,
    now: Timestamp,
    failed: BTreeMap<String, Check>,
    started: BTreeSet<String>,
    backoff: CrashBackoff,
    starting: BTreeSet<String>,
}

impl Case {
    fn new(spec: Value) -> Self {
        Self {
            pod: pod(json!({ "spec": spec })),
            observed: Observed::default(),
            now: at(1000),
            failed: BTreeMap::new(),
            started: BTreeSet::new(),
            backoff: CrashBackoff::default(),
            starting: BTreeSet::new(),
        }
    }

    fn sandbox(mut self, id: &str, attempt: u32) -> Self {
        self.observed.sandboxes.insert(0, ready_sandbox(id, attempt));
        self
    }

    fn dead_sandbox(mut self, id: &str, attempt: u32) -> Self {
        let mut sandbox = ready_sandbox(id, attempt);
        sandbox.ready = false;
        self.observed.sandboxes.insert(0, sandbox);
        self
    }

    fn run(mut self, run: Run) -> Self {
        self.observed.runs.insert(0, run);
        self
    }

    fn plan(&self) -> Plan {
        decide(&View {
            pod: &self.pod,
            observed: &self.observed,
            now: self.now,
            failed: &self.failed,
            started: &self.started,
            backoff: &self.backoff,
            starting: &self.starting,
        })
    }

    fn starts(&self) -> Vec<String> {
        let starts = self.plan().start;
        starts
            .iter()
            .map(|s| format!("{}#{}", s.name, s.restart_count))
            .collect()
    }
}

fn two() -> Value {
    json!({"containers": [{"name": "a"}, {"name": "b"}]})
}

#[test]
fn a_new_pod_gets_a_sandbox_first() {
    let plan = Case::new(two()).plan();
    assert_eq!(
        plan,
        Plan {
            new_sandbox: Some(0),
            ..Plan::default()
        }
    );
}

#[test]
fn in_its_sandbox_all_containers_start_at_once() {
    assert_eq!(Case::new(two()).sandbox("s0", 0).starts(), ["a#0", "b#0"]);
}

#[test]
fn what_runs_is_left_alone() {
    let case = Case::new(two())
        .sandbox("s0", 0)
        .run(running("a", "s0", 0))
        .run(running("b", "s0", 3));
    assert_eq!(case.plan(), Plan::default());
}

#[test]
fn a_sandbox_without_an_address_is_replaced() {
    let mut case = Case::new(two()).sandbox("s0", 0);
    case.observed.sandboxes[0].ips.clear();
    assert_eq!(case.plan().new_sandbox, Some(1));
}

#[test]
fn after_a_reboot_everything_starts_again_and_counts_on() {
    let mut case = Case::new(two())
        .dead_sandbox("s0", 0)
        .run(exited("a", "s0", 0, 255))
        .run(exited("b", "s0", 2, 255));
    assert_eq!(case.plan().new_sandbox, Some(1));
    case = case.sandbox("s1", 1);
    assert_eq!(case.starts(), ["a#1", "b#3"]);
}

#[test]
fn restart_policies_decide_about_what_ended() {
    for (policy, code, expected) in [
        ("Always", 0, "a#1"),
        ("Always", 1, "a#1"),
        ("OnFailure", 0, "finished"),
        ("OnFailure", 1, "a#1"),
        ("Never", 0, "finished"),
        ("Never", 1, "finished"),
    ] {
        let case = Case::new(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}))
            .sandbox("s0", 0)
            .run(exited("a", "s0", 0, code));
        let plan = case.plan();
        let got = if plan.finished {
            "finished".to_owned()
        } else {
            case.starts().join(",")
        };
        assert_eq!(got, expected, "{policy} after exit code {code}");
    }
}

#[test]
fn a_pod_that_never_restarts_ends_with_its_sandbox() {
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b"}]});
    let case = Case::new(spec).dead_sandbox("s0", 0).run(exited("a", "s0", 0, 0));
    assert!(case.plan().finished);
}

#[test]
fn a_crash_loop_waits_and_says_so() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}]}))
        .sandbox("s0", 0)
        .run(exited("a", "s0", 1, 1));
    case.backoff.restarted("a", at(5), at(100));
    case.now = at(112);
    let plan = case.plan();
    assert!(plan.start.is_empty());
    assert_eq!(plan.again_at, Some(at(120)));
    assert_eq!(
        plan.held["a"].message,
        "back-off 10s restarting failed container=a pod=web_default(u-1)"
    );
    case.now = at(120);
    assert_eq!(case.starts(), ["a#2"]);
}

#[test]
fn init_containers_go_one_by_one() {
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    let case = Case::new(spec).sandbox("s0", 0);
    assert_eq!(case.starts(), ["i#0"]);
    let case = case.run(running("i", "s0", 0));
    assert!(case.starts().is_empty());
    let mut case = case;
    case.observed.runs[0] = exited("i", "s0", 0, 1);
    assert_eq!(case.starts(), ["i#1"]);
    case.observed.runs[0] = exited("i", "s0", 0, 0);
    assert_eq!(case.starts(), ["j#0"]);
    let case = case.run(exited("j", "s0", 0, 0));
    assert_eq!(case.starts(), ["a#0"]);
}

#[test]
fn init_containers_run_again_in_a_new_sandbox() {
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let case = Case::new(spec)
        .dead_sandbox("s0", 0)
        .run(exited("i", "s0", 0, 0))
        .run(exited("a", "s0", 0, 255))
        .sandbox("s1", 1);
    assert_eq!(case.starts(), ["i#1"]);
}

#[test]
fn a_forgotten_init_container_is_not_run_again() {
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let case = Case::new(spec).sandbox("s0", 0).run(exited("a", "s0", 0, 1));
    assert_eq!(case.starts(), ["a#1"]);
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let spec =
        json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let case = Case::new(spec).sandbox("s0", 0).run(exited("i", "s0", 0, 1));
    assert!(case.plan().finished);
}

#[test]
fn a_sidecar_is_up_before_what_follows_and_stays() {
    let spec = json!({"restartPolicy": "Never",
        "initContainers": [{"name": "proxy", "restartPolicy": "Always"}, {"name": "i"}],
        "containers": [{"name": "a"}]});
    let case = Case::new(spec).sandbox("s0", 0);
    assert_eq!(case.starts(), ["proxy#0"]);
    let mut case = case.run(running("proxy", "s0", 0));
    assert!(case.starts().is_empty());
    case.started.insert("proxy-0".into());
    assert_eq!(case.starts(), ["i#0"]);
    let mut case = case.run(exited("i", "s0", 0, 0)).run(running("a", "s0", 0));
    assert!(case.starts().is_empty());
    case.observed.runs[2] = exited("proxy", "s0", 0, 0);
    assert_eq!(case.starts(), ["proxy#1"]);
    case.observed.runs[2] = running("proxy", "s0", 1);
    case.observed.runs[0] = exited("a", "s0", 0, 0);
    let plan = case.plan();
    assert!(plan.finished);
    assert_eq!(plan.kill[0].name, "proxy");
}

#[test]
fn a_failed_liveness_probe_kills() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}]}))
        .sandbox("s0", 0)
        .run(running("a", "s0", 0));
    case.failed.insert("a-0".into(), Check::Liveness);
    let plan = case.plan();
    assert_eq!(
        plan.kill[0].why,
        "Container a failed liveness probe, will be restarted"
    );
    assert!(plan.start.is_empty());
}

#[test]
fn a_new_image_replaces_the_container() {
    let mut old = running("a", "s0", 0);
    old.hash = "0123456789abcdef".into();
    let case = Case::new(json!({"containers": [{"name": "a", "image": "x:2"}]}))
        .sandbox("s0", 0)
        .run(old);
    assert_eq!(
        case.plan().kill[0].why,
        "Container a definition changed, will be restarted"
    );
}

#[test]
fn a_container_that_was_created_only_starts_under_the_same_count() {
    let mut created = running("a", "s0", 4);
    created.state = RunState::Created;
    let case = Case::new(json!({"containers": [{"name": "a"}]}))
        .sandbox("s0", 0)
        .run(created);
    assert_eq!(case.starts(), ["a#4"]);
}

#[test]
fn a_start_under_way_is_neither_repeated_nor_held_back() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}]}))
        .sandbox("s0", 0)
        .run(exited("a", "s0", 0, 1));
    case.now = at(11);
    case.backoff.restarted("a", at(10), at(11));
    case.starting.insert("a".into());
    assert_eq!(case.plan(), Plan::default());
}

#[test]
fn ephemeral_containers_run_once_and_beside_anything() {
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}],
        "ephemeralContainers": [{"name": "debug"}, {"name": "near", "targetContainerName": "a"}]});
    let case = Case::new(spec).sandbox("s0", 0).run(running("i", "s0", 0));
    assert_eq!(case.starts(), ["debug#0"]);
    let why = &case.plan().held["near"];
    assert_eq!(why.reason, "CreateContainerConfigError");
    let case = case
        .run(exited("i", "s0", 0, 0))
        .run(running("a", "s0", 0))
        .run(exited("debug", "s0", 0, 1));
    let plan = case.plan();
    assert_eq!(plan.start[0].target.as_deref(), Some("a-0"));
    assert_eq!(case.starts(), ["near#0"]);
    // Nor does another sandbox run them again.
    let case = case.dead_sandbox("s0", 0).run(exited("near", "s0", 0, 0));
    let case = case.sandbox("s1", 1);
    assert!(case.starts().iter().all(|start| !start.contains("debug")));
}

#[test]
fn an_ephemeral_container_does_not_keep_a_pod_from_ending() {
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a"}],
        "ephemeralContainers": [{"name": "debug"}]});
    let case = Case::new(spec)
        .sandbox("s0", 0)
        .run(exited("a", "s0", 0, 0))
        .run(running("debug", "s0", 0));
    let plan = case.plan();
    assert!(plan.finished);
    assert_eq!(plan.kill[0].name, "debug");
}

#[test]
fn a_containers_own_policy_and_rules_come_before_the_pods() {
    let spec = json!({"restartPolicy": "Never", "containers": [
        {"name": "own", "restartPolicy": "OnFailure"},
        {"name": "ruled", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]},
        {"name": "plain"}]});
    let with = |codes: [i32; 3]| {
        let case = Case::new(spec.clone()).sandbox("s0", 0);
        let runs = ["own", "ruled", "plain"].into_iter().zip(codes);
        runs.fold(case, |case, (name, code)| case.run(exited(name, "s0", 0, code)))
    };
    assert_eq!(with([1, 42, 1]).starts(), ["own#1", "ruled#1"]);
    assert!(with([0, 1, 1]).plan().finished);
}

#[test]
fn sidecars_end_after_the_others_and_in_reverse_order() {
    let spec = json!({"initContainers": [
        {"name": "first", "restartPolicy": "Always"}, {"name": "second", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}]});
    let case = Case::new(spec)
        .sandbox("s0", 0)
        .run(running("first", "s0", 0))
        .run(running("second", "s0", 0))
        .run(running("a", "s0", 0));
    let next = |case: &Case| -> Vec<String> {
        let kills = next_to_stop(&case.pod, &case.observed);
        kills.into_iter().map(|kill| kill.name).collect()
    };
    assert_eq!(next(&case), ["a"]);
    let case = case.run(exited("a", "s0", 0, 0));
    let mut case = case;
    case.observed
        .runs
        .retain(|run| run.name != "a" || run.has_exited());
    assert_eq!(next(&case), ["second"]);
    case.observed.runs.retain(|run| run.name != "second");
    assert_eq!(next(&case), ["first"]);
}
