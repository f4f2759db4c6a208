//! Deleting.

use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, PODS, Raw, Running, config_map, pod};

async fn bound_pod(raw: &Raw, name: &str) -> String {
    raw.post(PODS, &pod(name, &["c"])).await;
    let target = json!({ "target": { "kind": "Node", "name": "n" } });
    assert_eq!(
        raw.post(&format!("{PODS}/{name}/binding"), &target).await.code,
        201
    );
    format!("{PODS}/{name}")
}

#[tokio::test]
async fn an_object_goes_at_once_and_is_described() {
    let raw = Running::start().await.raw();
    let created = raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await.body;
    let gone = raw.delete(&format!("{CONFIG_MAPS}/a"), &Value::Null).await;
    assert_eq!((gone.code, &gone.body["status"]), (200, &json!("Success")));
    assert_eq!(gone.body["details"]["uid"], created["metadata"]["uid"]);
    assert_eq!(
        raw.delete(&format!("{CONFIG_MAPS}/a"), &Value::Null).await.code,
        404
    );
}

#[tokio::test]
async fn a_running_pod_stays_until_its_kubelet_is_done() {
    let raw = Running::start().await.raw();
    let path = bound_pod(&raw, "p").await;
    let marked = raw.delete(&path, &Value::Null).await.body;
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(raw.get(&path).await.code, 200);
    let sooner = raw.delete(&path, &json!({ "gracePeriodSeconds": 2 })).await.body;
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 2);
    let uid = marked["metadata"]["uid"].clone();
    let wrong = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": "other" } });
    assert_eq!(raw.delete(&path, &wrong).await.code, 409);
    let right = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } });
    assert_eq!(raw.delete(&path, &right).await.code, 200);
    assert_eq!(raw.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_pod_without_a_node_goes_at_once() {
    let raw = Running::start().await.raw();
    raw.post(PODS, &pod("p", &["c"])).await;
    assert_eq!(
        raw.delete(&format!("{PODS}/p"), &Value::Null).await.body["kind"],
        "Pod"
    );
    assert_eq!(raw.get(&format!("{PODS}/p")).await.code, 404);
}

#[tokio::test]
async fn an_eviction_deletes() {
    let raw = Running::start().await.raw();
    let path = bound_pod(&raw, "p").await;
    let eviction = json!({ "metadata": { "name": "p" }, "deleteOptions": { "gracePeriodSeconds": 1 } });
    let evict = async |dry: &str| raw.post(&format!("{path}/eviction{dry}"), &eviction).await.code;
    let before = raw.get(&path).await.body;
    assert_eq!(evict("?dryRun=All").await, 201);
    assert_eq!(raw.get(&path).await.body, before);
    assert_eq!((evict("").await, evict("").await), (201, 201));
    let pod = raw.get(&path).await.body;
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 1);
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let is_disrupted = |condition: &&Value| condition["type"] == "DisruptionTarget";
    let disrupted: Vec<_> = conditions.iter().filter(is_disrupted).collect();
    assert_eq!(disrupted.len(), 1, "{conditions:?}");
    assert_eq!(
        (&disrupted[0]["status"], &disrupted[0]["reason"]),
        (&json!("True"), &json!("EvictionByEvictionAPI"))
    );
    assert!(
        conditions
            .iter()
            .any(|condition| condition["type"] == "PodScheduled")
    );
}

#[tokio::test]
async fn an_eviction_of_another_pod_than_was_meant_changes_nothing() {
    let raw = Running::start().await.raw();
    let path = bound_pod(&raw, "p").await;
    let before = raw.get(&path).await.body;
    for preconditions in [json!({ "uid": "another" }), json!({ "resourceVersion": "1" })] {
        let options = json!({ "preconditions": preconditions });
        let eviction = json!({ "metadata": { "name": "p" }, "deleteOptions": options });
        assert_eq!(raw.post(&format!("{path}/eviction"), &eviction).await.code, 409);
    }
    assert_eq!(raw.get(&path).await.body, before);
    let version = &before["metadata"]["resourceVersion"];
    let options = json!({ "preconditions": { "resourceVersion": version } });
    let eviction = json!({ "metadata": { "name": "p" }, "deleteOptions": options });
    assert_eq!(raw.post(&format!("{path}/eviction"), &eviction).await.code, 201);
}

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

/// A budget for all pods as its controller would have counted it.
async fn budget(raw: &Raw, name: &str, spec: Value, status: Value) {
    let mut wanted = json!({ "metadata": { "name": name }, "spec": { "selector": {}, "minAvailable": 1 } });
    let spec = spec.as_object().unwrap().clone();
    wanted["spec"].as_object_mut().unwrap().extend(spec);
    assert_eq!(raw.post(BUDGETS, &wanted).await.code, 201);
    count_budget(raw, name, status).await;
}

async fn count_budget(raw: &Raw, name: &str, status: Value) {
    let path = format!("{BUDGETS}/{name}/status");
    let counted = raw.patch(&path, "merge", &json!({ "status": status })).await;
    assert_eq!(counted.code, 200, "{}", counted.body);
}

async fn running(raw: &Raw, name: &str, ready: bool) -> String {
    let path = bound_pod(raw, name).await;
    let ready = if ready { "True" } else { "False" };
    let status =
        json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] } });
    assert_eq!(
        raw.patch(&format!("{path}/status"), "merge", &status).await.code,
        200
    );
    path
}

#[tokio::test]
async fn an_eviction_takes_one_of_the_budgets_disruptions_or_is_refused() {
    let raw = Running::start().await.raw();
    let (first, second) = (running(&raw, "a", true).await, running(&raw, "b", true).await);
    let evict = async |path: &str, dry: &str| {
        let name = path.rsplit('/').next().unwrap();
        let eviction = json!({ "metadata": { "name": name } });
        raw.post(&format!("{path}/eviction{dry}"), &eviction).await
    };
    budget(&raw, "all", json!({}), json!({ "observedGeneration": 0 })).await;
    let uncounted = evict(&first, "").await;
    assert_eq!(
        (uncounted.code, &uncounted.body["details"]["retryAfterSeconds"]),
        (429, &json!(10))
    );
    let counted = json!({ "observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2 });
    count_budget(&raw, "all", counted).await;
    assert_eq!(evict(&first, "?dryRun=All").await.code, 201);
    assert_eq!(evict(&first, "").await.code, 201);
    let taken = raw.get(&format!("{BUDGETS}/all")).await.body;
    assert_eq!(taken["status"]["disruptionsAllowed"], 0);
    assert!(taken["status"]["disruptedPods"]["a"].is_string(), "{taken}");
    assert_eq!(taken["status"]["conditions"][0]["reason"], "InsufficientPods");
    let refused = evict(&second, "").await;
    assert_eq!(
        (refused.code, &refused.body["reason"]),
        (429, &json!("TooManyRequests"))
    );
    assert_eq!(
        refused.body["message"],
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    let cause = &refused.body["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget");
    assert_eq!(
        cause["message"],
        "The disruption budget all needs 1 healthy pods and has 2 currently"
    );
    // One that is going already costs nothing more.
    assert_eq!(evict(&first, "").await.code, 201);
    budget(&raw, "more", json!({}), json!({})).await;
    let two = evict(&second, "").await;
    assert_eq!(two.code, 500);
    assert!(
        two.body["message"]
            .as_str()
            .unwrap()
            .contains("more than one PodDisruptionBudget")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_at_the_same_time_take_no_more_than_there_is() {
    let raw = Running::start().await.raw();
    let names: Vec<String> = (0..12).map(|number| format!("p-{number}")).collect();
    for name in &names {
        running(&raw, name, true).await;
    }
    let counted = json!({ "observedGeneration": 1, "disruptionsAllowed": 5, "currentHealthy": 12, "desiredHealthy": 7 });
    budget(&raw, "all", json!({}), counted).await;
    let raw = &raw;
    let evictions = names.iter().map(|name| async move {
        let eviction = json!({ "metadata": { "name": name } });
        raw.post(&format!("{PODS}/{name}/eviction"), &eviction).await.code
    });
    let mut codes = futures::future::join_all(evictions).await;
    codes.sort_unstable();
    assert_eq!(codes, [[201; 5].as_slice(), &[429; 7]].concat());
}

#[tokio::test]
async fn pods_that_are_not_ready_may_be_spared_the_budget() {
    let raw = Running::start().await.raw();
    let evict = async |path: &str| {
        let name = path.rsplit('/').next().unwrap();
        let eviction = json!({ "metadata": { "name": name } });
        raw.post(&format!("{path}/eviction"), &eviction).await.code
    };
    let none = json!({ "observedGeneration": 1, "currentHealthy": 0, "desiredHealthy": 1 });
    budget(&raw, "all", json!({}), none).await;
    let pending = bound_pod(&raw, "pending").await;
    assert_eq!(evict(&pending).await, 201);
    let ill = running(&raw, "ill", false).await;
    assert_eq!(evict(&ill).await, 429);
    count_budget(&raw, "all", json!({ "currentHealthy": 1 })).await;
    assert_eq!(evict(&ill).await, 201);
    count_budget(&raw, "all", json!({ "currentHealthy": 0 })).await;
    let other = running(&raw, "other", false).await;
    assert_eq!(evict(&other).await, 429);
    let always = json!({ "spec": { "unhealthyPodEvictionPolicy": "AlwaysAllow" } });
    assert_eq!(
        raw.patch(&format!("{BUDGETS}/all"), "merge", &always).await.code,
        200
    );
    assert_eq!(evict(&other).await, 201);
}

#[tokio::test]
async fn finalizers_are_waited_for() {
    let raw = Running::start().await.raw();
    let mut wanted = config_map("a", json!({}));
    wanted["metadata"]["finalizers"] = json!(["example.com/hold"]);
    raw.post(CONFIG_MAPS, &wanted).await;
    let path = format!("{CONFIG_MAPS}/a");
    let held = raw
        .delete(&path, &json!({ "propagationPolicy": "Foreground" }))
        .await
        .body;
    assert_eq!(
        held["metadata"]["finalizers"],
        json!(["example.com/hold", "foregroundDeletion"])
    );
    assert_eq!(raw.get(&path).await.code, 200);
    let released = raw
        .patch(&path, "merge", &json!({ "metadata": { "finalizers": null } }))
        .await;
    assert_eq!(released.code, 200);
    assert_eq!(raw.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_namespace_goes_when_its_controller_says_so() {
    let raw = Running::start().await.raw();
    let created = raw
        .post("/api/v1/namespaces", &json!({ "metadata": { "name": "x" } }))
        .await
        .body;
    assert_eq!(created["metadata"]["labels"]["kubernetes.io/metadata.name"], "x");
    assert_eq!(created["spec"]["finalizers"], json!(["kubernetes"]));
    let path = "/api/v1/namespaces/x";
    let mut marked = raw.delete(path, &Value::Null).await.body;
    assert_eq!(marked["status"]["phase"], "Terminating");
    let refused = raw
        .post("/api/v1/namespaces/x/configmaps", &config_map("a", json!({})))
        .await;
    assert_eq!(refused.code, 403);
    assert!(refused.message().contains("because it is being terminated"));
    marked["spec"]["finalizers"] = json!([]);
    assert_eq!(raw.put(&format!("{path}/finalize"), &marked).await.code, 200);
    assert_eq!(raw.get(path).await.code, 404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selection() {
    let raw = Running::start().await.raw();
    for (name, colour) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        raw.post(CONFIG_MAPS, &config_map(name, json!({ "colour": colour })))
            .await;
    }
    let deleted = raw
        .delete(&format!("{CONFIG_MAPS}?labelSelector=colour%3Dred"), &Value::Null)
        .await;
    assert_eq!(deleted.body["items"].as_array().unwrap().len(), 2);
    let left = raw.get(CONFIG_MAPS).await.body;
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
    assert_eq!(raw.delete("/api/v1/configmaps", &Value::Null).await.code, 405);
}

#[tokio::test]
async fn a_dry_run_deletes_nothing() {
    let raw = Running::start().await.raw();
    raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await;
    let path = format!("{CONFIG_MAPS}/a");
    assert_eq!(raw.delete(&path, &json!({ "dryRun": ["All"] })).await.code, 200);
    assert_eq!(raw.get(&path).await.code, 200);
}

#[tokio::test]
async fn preconditions_are_held_to() {
    let raw = Running::start().await.raw();
    let created = raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await.body;
    let path = format!("{CONFIG_MAPS}/a");
    let uid = created["metadata"]["uid"].as_str().unwrap();
    let version = created["metadata"]["resourceVersion"].as_str().unwrap();
    let refused = raw
        .delete(&path, &json!({ "preconditions": { "uid": "x" } }))
        .await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            409,
            format!(
                "Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: x, UID in object meta: {uid}"
            )
            .as_str()
        )
    );
    let refused = raw
        .delete(&path, &json!({ "preconditions": { "resourceVersion": "1" } }))
        .await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            409,
            format!(
                "Operation cannot be fulfilled on configmaps \"a\": Precondition failed: ResourceVersion in precondition: 1, ResourceVersion in object meta: {version}"
            )
            .as_str()
        )
    );
    let all = json!({ "preconditions": { "uid": uid, "resourceVersion": version } });
    assert_eq!(raw.delete(&path, &all).await.code, 200);
}

#[tokio::test]
async fn propagation_is_left_to_the_garbage_collector() {
    let raw = Running::start().await.raw();
    for (policy, finalizer) in [("Orphan", "orphan"), ("Foreground", "foregroundDeletion")] {
        let name = policy.to_lowercase();
        raw.post(CONFIG_MAPS, &config_map(&name, json!({}))).await;
        let path = format!("{CONFIG_MAPS}/{name}");
        let marked = raw
            .delete(&path, &json!({ "propagationPolicy": policy }))
            .await
            .body;
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        assert!(marked["metadata"]["deletionTimestamp"].is_string());
        let done = json!({ "metadata": { "finalizers": null } });
        raw.patch(&path, "merge", &done).await;
        assert_eq!(raw.get(&path).await.code, 404);
    }
    raw.post(CONFIG_MAPS, &config_map("b", json!({}))).await;
    let path = format!("{CONFIG_MAPS}/b");
    let unknown = raw
        .delete(&path, &json!({ "propagationPolicy": "Sideways" }))
        .await;
    assert_eq!(unknown.code, 422);
    let both = json!({ "propagationPolicy": "Orphan", "orphanDependents": true });
    assert_eq!(raw.delete(&path, &both).await.code, 422);
    assert_eq!(
        raw.delete(&format!("{path}?propagationPolicy=Background"), &Value::Null)
            .await
            .code,
        200
    );
    assert_eq!(raw.get(&path).await.code, 404);
}

#[tokio::test]
async fn owners_are_named_whole_and_one_controls() {
    let raw = Running::start().await.raw();
    let owner = |uid: &str, controller: bool| json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": controller });
    let owned = |owners: Value| json!({ "metadata": { "name": "o", "ownerReferences": owners } });
    let nameless = raw
        .post(
            CONFIG_MAPS,
            &owned(json!([{ "apiVersion": "v1", "kind": "Pod" }])),
        )
        .await;
    assert!(
        nameless.code == 422
            && nameless
                .message()
                .contains("metadata.ownerReferences.uid: Invalid value"),
        "{}",
        nameless.message()
    );
    let two = raw
        .post(CONFIG_MAPS, &owned(json!([owner("1", true), owner("2", true)])))
        .await;
    assert!(
        two.code == 422
            && two
                .message()
                .contains("Only one reference can have Controller set to true"),
        "{}",
        two.message()
    );
    let fine = raw
        .post(CONFIG_MAPS, &owned(json!([owner("1", true), owner("2", false)])))
        .await;
    assert_eq!(fine.code, 201, "{}", fine.body);
}
