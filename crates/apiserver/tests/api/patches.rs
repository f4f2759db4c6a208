//! Patches of three types.

use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, DEPLOYMENTS, Raw, Running, config_map, deployment};

async fn web(raw: &Raw) -> String {
    assert_eq!(raw.post(DEPLOYMENTS, &deployment("web")).await.code, 201);
    format!("{DEPLOYMENTS}/web")
}

fn container(object: &Value) -> &Value {
    &object["spec"]["template"]["spec"]["containers"]
}

#[tokio::test]
async fn a_strategic_patch_merges_lists_by_key() {
    let raw = Running::start().await.raw();
    let path = web(&raw).await;
    let patch =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "d", "image": "j" }] } } } });
    let patched = raw.patch(&path, "strategic-merge", &patch).await;
    assert_eq!(patched.code, 200, "{}", patched.body);
    assert_eq!(container(&patched.body).as_array().unwrap().len(), 2);
    assert_eq!(patched.body["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_merge_patch_replaces_lists_and_removes_nulls() {
    let raw = Running::start().await.raw();
    let path = web(&raw).await;
    let patch = json!({
        "metadata": { "labels": { "a": "b", "c": null } },
        "spec": { "template": { "spec": { "containers": [{ "name": "d", "image": "j" }] } } },
    });
    let patched = raw.patch(&path, "merge", &patch).await.body;
    assert_eq!(container(&patched).as_array().unwrap().len(), 1);
    assert_eq!(patched["metadata"]["labels"], json!({ "a": "b" }));
}

#[tokio::test]
async fn a_json_patch_tests_and_replaces() {
    let raw = Running::start().await.raw();
    let path = web(&raw).await;
    let test = |value: i64| {
        json!([
            { "op": "test", "path": "/spec/replicas", "value": value },
            { "op": "replace", "path": "/spec/replicas", "value": 9 },
        ])
    };
    let patched = raw.patch(&path, "json", &test(2)).await;
    assert_eq!(
        (patched.code, &patched.body["spec"]["replicas"]),
        (200, &json!(9))
    );
    assert_eq!(raw.patch(&path, "json", &test(2)).await.code, 422);
    assert_eq!(raw.patch(&path, "json", &json!({})).await.code, 400);
}

#[tokio::test]
async fn a_patch_is_checked_like_an_update() {
    let raw = Running::start().await.raw();
    let path = web(&raw).await;
    let negative = raw
        .patch(&path, "merge", &json!({ "spec": { "replicas": -3 } }))
        .await;
    assert_eq!(negative.code, 422);
    let unknown = json!({ "spec": { "foo": 1 } });
    let strict = raw
        .patch(&format!("{path}?fieldValidation=Strict"), "merge", &unknown)
        .await;
    assert_eq!(strict.code, 422);
    assert!(
        strict.message().contains("unknown field \"spec.foo\""),
        "{}",
        strict.message()
    );
    let warned = raw.patch(&path, "merge", &unknown).await;
    assert!(warned.code == 200 && warned.headers.contains_key("warning"));
    let renamed = raw
        .patch(&path, "merge", &json!({ "metadata": { "name": "x" } }))
        .await;
    assert_eq!(renamed.code, 400);
    let missing = raw
        .patch(&format!("{DEPLOYMENTS}/none"), "merge", &json!({}))
        .await;
    assert_eq!(missing.code, 404);
}

#[tokio::test]
async fn a_status_patch_changes_the_status_alone() {
    let raw = Running::start().await.raw();
    let path = web(&raw).await;
    let patch = json!({ "spec": { "replicas": 8 }, "status": { "replicas": 3 } });
    let patched = raw.patch(&format!("{path}/status"), "merge", &patch).await.body;
    assert_eq!(
        (&patched["spec"]["replicas"], &patched["status"]["replicas"]),
        (&json!(2), &json!(3))
    );
}

#[tokio::test]
async fn only_a_version_in_the_patch_is_insisted_on() {
    let raw = Running::start().await.raw();
    let created = raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await.body;
    let path = format!("{CONFIG_MAPS}/a");
    let version = &created["metadata"]["resourceVersion"];
    let patch = |key: &str, version: &Value| json!({ "metadata": { "resourceVersion": version }, "data": { key: "x" } });
    assert_eq!(raw.patch(&path, "merge", &patch("b", version)).await.code, 200);
    assert_eq!(raw.patch(&path, "merge", &patch("c", version)).await.code, 409);

    // Patches that say nothing about the version all get through, at the same time.
    let all = (0..20).map(|i| {
        let (raw, path) = (&raw, &path);
        async move {
            let key = format!("k{i}");
            raw.patch(path, "merge", &json!({ "data": { key: "x" } }))
                .await
                .code
        }
    });
    assert_eq!(futures::future::join_all(all).await, [200; 20]);
    let object = raw.get(&path).await.body;
    assert_eq!(object["data"].as_object().unwrap().len(), 22);
}

#[tokio::test]
async fn other_patch_types_are_refused_with_the_ones_there_are() {
    let raw = Running::start().await.raw();
    let path = web(&raw).await;
    let cbor = [("content-type", "application/apply-patch+cbor")];
    let refused = raw
        .send("PATCH", &format!("{path}?fieldManager=x"), &cbor, "{}")
        .await;
    assert_eq!(refused.code, 415);
    assert!(
        refused
            .message()
            .contains("application/strategic-merge-patch+json, application/apply-patch+yaml")
    );
}
