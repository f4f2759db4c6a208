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

#[tokio::test]
async fn a_field_twice_in_a_patch_is_complained_of() {
    let raw = Running::start().await.raw();
    raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await;
    let twice = r#"{"data":{"k":"1","k":"2"}}"#;
    let headers = [("content-type", "application/merge-patch+json")];
    let path = format!("{CONFIG_MAPS}/a");
    let strict = raw
        .send(
            "PATCH",
            &format!("{path}?fieldValidation=Strict"),
            &headers,
            twice,
        )
        .await;
    assert_eq!(strict.code, 422);
    assert!(
        strict
            .message()
            .ends_with("strict decoding error: duplicate field \"data.k\""),
        "{}",
        strict.message()
    );
    let warned = raw.send("PATCH", &path, &headers, twice).await;
    assert_eq!((warned.code, &warned.body["data"]["k"]), (200, &json!("2")));
    assert_eq!(
        warned.headers["warning"],
        "299 - \"duplicate field \\\"data.k\\\"\""
    );
}

#[tokio::test]
async fn directives_of_strategic_patches_are_followed() {
    let raw = Running::start().await.raw();
    let path = web(&raw).await;
    let containers = |list: Value| json!({ "spec": { "template": { "spec": { "containers": list } } } });
    let two = containers(json!([{ "name": "d", "image": "j" }, { "name": "e", "image": "k" }]));
    raw.patch(&path, "strategic-merge", &two).await;
    let names = |object: &Value| -> Vec<String> {
        let list = container(object).as_array().unwrap();
        list.iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let delete = containers(json!([{ "name": "d", "$patch": "delete" }]));
    let left = raw.patch(&path, "strategic-merge", &delete).await.body;
    assert_eq!(names(&left), ["e", "c"]);
    let order = json!({ "spec": { "template": { "spec": {
        "$setElementOrder/containers": [{ "name": "c" }, { "name": "e" }],
    } } } });
    let ordered = raw.patch(&path, "strategic-merge", &order).await.body;
    assert_eq!(names(&ordered), ["c", "e"]);
    let replace = containers(json!([{ "$patch": "replace" }, { "name": "x", "image": "y" }]));
    let replaced = raw.patch(&path, "strategic-merge", &replace).await.body;
    assert_eq!(names(&replaced), ["x"]);
    let keep = json!({ "spec": { "strategy": { "$retainKeys": ["type"], "type": "Recreate" } } });
    let recreated = raw.patch(&path, "strategic-merge", &keep).await.body;
    assert_eq!(recreated["spec"]["strategy"], json!({ "type": "Recreate" }));
    let finalizers = json!({ "metadata": { "finalizers": ["x/a", "x/b"] } });
    raw.patch(&path, "strategic-merge", &finalizers).await;
    let fewer = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["x/a"] } });
    let fewer = raw.patch(&path, "strategic-merge", &fewer).await.body;
    assert_eq!(fewer["metadata"]["finalizers"], json!(["x/b"]));
    let unknown = json!({ "spec": { "$patch": "explode" } });
    assert_eq!(raw.patch(&path, "strategic-merge", &unknown).await.code, 400);
}

#[tokio::test]
async fn every_verb_runs_dry() {
    let raw = Running::start().await.raw();
    let path = web(&raw).await;
    let before = raw.get(&path).await.body;
    let dry = format!("{path}?dryRun=All");
    let mut changed = before.clone();
    changed["spec"]["replicas"] = 7.into();
    let put = raw.put(&dry, &changed).await;
    assert_eq!((put.code, &put.body["spec"]["replicas"]), (200, &json!(7)));
    let scale = json!({ "spec": { "replicas": 8 } });
    let scaled = raw
        .patch(&format!("{path}/scale?dryRun=All"), "merge", &scale)
        .await;
    assert_eq!((scaled.code, &scaled.body["spec"]["replicas"]), (200, &json!(8)));
    let patches = [
        ("merge", json!({ "spec": { "replicas": 9 } })),
        ("strategic-merge", json!({ "spec": { "replicas": 9 } })),
        (
            "json",
            json!([{ "op": "replace", "path": "/spec/replicas", "value": 9 }]),
        ),
    ];
    for (kind, patch) in patches {
        let patched = raw.patch(&dry, kind, &patch).await;
        assert_eq!(
            (patched.code, &patched.body["spec"]["replicas"]),
            (200, &json!(9))
        );
    }
    let status = json!({ "status": { "replicas": 3 } });
    let status = raw
        .patch(&format!("{path}/status?dryRun=All"), "merge", &status)
        .await;
    assert_eq!(status.body["status"]["replicas"], 3);
    assert_eq!(raw.delete(&dry, &Value::Null).await.code, 200);
    assert_eq!(
        raw.delete(&format!("{DEPLOYMENTS}?dryRun=All"), &Value::Null)
            .await
            .code,
        200
    );
    let made = raw
        .post(&format!("{DEPLOYMENTS}?dryRun=All"), &deployment("other"))
        .await;
    assert_eq!(
        (made.code, made.body["metadata"].get("resourceVersion")),
        (201, None)
    );
    assert_eq!(raw.get(&format!("{DEPLOYMENTS}/other")).await.code, 404);
    assert_eq!(raw.get(&path).await.body, before);
    let refused = raw.put(&format!("{path}?dryRun=Some"), &changed).await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            422,
            "UpdateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"Some\": supported values: \"All\""
        )
    );
}
