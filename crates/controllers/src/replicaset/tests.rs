use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::ReplicaSetSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;
use serde_json::{Value, json};

use super::status::Failure;
use super::*;

const NOW: &str = "2026-11-21T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn replica_set(replicas: i32) -> ReplicaSet {
    ReplicaSet {
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            ..ReplicaSetSpec::default()
        }),
        ..ReplicaSet::default()
    }
}

/// A running, ready pod on node `a`, an hour old, with `changes` merged in.
fn pod(name: &str, changes: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": { "name": name, "uid": name, "creationTimestamp": "2026-11-21T11:00:00Z",
                      "labels": { "app": "web" } },
        "spec": { "nodeName": "a", "containers": [] },
        "status": { "phase": "Running", "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T11:00:00Z" } ] },
    });
    json_patch::merge(&mut pod, &changes);
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn run(replicas: i32, pods: &[Arc<Pod>]) -> Option<Action> {
    let replica_set = replica_set(replicas);
    sync(&Observed {
        replica_set: &replica_set,
        pods,
        related: pods,
        now: now(),
    })
}

fn victims(replicas: i32, pods: &[Arc<Pod>]) -> Vec<String> {
    match run(replicas, pods) {
        Some(Action::Delete(pods)) => pods
            .iter()
            .map(|pod| pod.metadata.name.clone().unwrap())
            .collect(),
        other => panic!("expected a deletion, got {other:?}"),
    }
}

#[test]
fn what_is_missing_is_created_and_what_is_right_is_left_alone() {
    assert_eq!(run(3, &[pod("a", json!({}))]), Some(Action::Create(2)));
    assert_eq!(run(1, &[pod("a", json!({}))]), None);
    assert_eq!(run(0, &[]), None);
}

#[test]
fn no_more_than_a_burst_at_one_go() {
    assert_eq!(run(10_000, &[]), Some(Action::Create(BURST)));
}

#[test]
fn a_replica_set_that_goes_away_does_nothing() {
    let mut replica_set = replica_set(3);
    replica_set.metadata.deletion_timestamp = Some(Time(now()));
    let observed = Observed {
        replica_set: &replica_set,
        pods: &[],
        related: &[],
        now: now(),
    };
    assert_eq!(sync(&observed), None);
}

#[rstest]
#[case::without_a_node(json!({ "spec": { "nodeName": null } }))]
#[case::pending(json!({ "status": { "phase": "Pending" } }))]
#[case::not_ready(json!({ "status": { "conditions": [] } }))]
#[case::cheap(json!({ "metadata": { "annotations":
    { "controller.kubernetes.io/pod-deletion-cost": "-10" } } }))]
#[case::ready_for_a_short_time(json!({ "status": { "conditions": [
    { "type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T11:59:00Z" } ] } }))]
#[case::often_restarted(json!({ "status": { "containerStatuses": [
    { "name": "c", "restartCount": 5, "image": "", "imageID": "", "ready": true } ] } }))]
#[case::young(json!({ "metadata": { "creationTimestamp": "2026-11-21T11:59:00Z" } }))]
fn the_pod_that_is_missed_least_goes_first(#[case] changes: Value) {
    let pods = [pod("1", json!({})), pod("2", changes), pod("3", json!({}))];
    assert_eq!(victims(2, &pods), ["2"]);
}

#[test]
fn the_fuller_node_gives_first() {
    let on = |name: &str, node: &str| pod(name, json!({ "spec": { "nodeName": node } }));
    let pods = [on("1", "a"), on("2", "b"), on("3", "b")];
    assert_eq!(victims(2, &pods), ["2"]);
}

#[test]
fn readiness_weighs_more_than_cost() {
    let costly = json!({ "metadata": { "annotations":
        { "controller.kubernetes.io/pod-deletion-cost": "100" } }, "status": { "conditions": [] } });
    assert_eq!(victims(1, &[pod("1", json!({})), pod("2", costly)]), ["2"]);
}

#[test]
fn the_status_counts_pods_by_what_they_have_reached() {
    let mut replica_set = replica_set(4);
    replica_set.metadata.generation = Some(7);
    let spec = replica_set.spec.as_mut().unwrap();
    spec.min_ready_seconds = Some(60);
    spec.template = serde_json::from_value(json!({
        "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [] } }))
    .unwrap();
    let ready_at = |time: &str| {
        json!({ "status": { "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": time } ] } })
    };
    let pods = [
        pod("available", json!({})),
        pod("just available", ready_at("2026-11-21T11:59:00Z")),
        pod("ready", ready_at("2026-11-21T11:59:30Z")),
        pod(
            "neither",
            json!({ "status": { "conditions": [] }, "metadata": { "labels": null } }),
        ),
    ];
    let status = status::status(&replica_set, &pods, 2, None, now());
    assert_eq!(status.replicas, 4);
    assert_eq!(status.fully_labeled_replicas, Some(3));
    assert_eq!(status.ready_replicas, Some(3));
    assert_eq!(status.available_replicas, Some(2));
    assert_eq!(status.terminating_replicas, Some(2));
    assert_eq!(status.observed_generation, Some(7));
    assert_eq!(status.conditions, None);
}

#[test]
fn a_failure_is_a_condition_until_it_is_over() {
    let mut replica_set = replica_set(1);
    let failure = Failure {
        reason: "FailedCreate",
        message: "quota".to_owned(),
    };
    let first = status::status(&replica_set, &[], 0, Some(&failure), now());
    replica_set.status = Some(first.clone());
    let later = now() + SignedDuration::from_secs(60);
    let again = status::status(&replica_set, &[], 0, Some(&failure), later);
    assert_eq!(first, again, "the time of the first failure stays");
    let over = status::status(&replica_set, &[], 0, None, later);
    assert_eq!(over.conditions, None);
    assert!(!status::same(Some(&first), &over));
}
