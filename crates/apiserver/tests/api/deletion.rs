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
    assert_eq!(raw.post(&format!("{path}/eviction"), &eviction).await.code, 201);
    let pod = raw.get(&path).await.body;
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 1);
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
