//! Containers that are added to running pods.

use serde_json::{Value, json};

use crate::support::{PODS, Running, pod};

fn added(containers: Value) -> Value {
    json!({ "spec": { "ephemeralContainers": containers } })
}

#[tokio::test]
async fn ephemeral_containers_come_through_their_own_subresource_and_stay() {
    let raw = Running::start().await.raw();
    let mut wanted = pod("p", &["c"]);
    assert_eq!(raw.post(PODS, &wanted).await.code, 201);
    let path = format!("{PODS}/p/ephemeralcontainers");
    let one = json!([{ "name": "debug", "image": "i:1", "targetContainerName": "c" }]);

    // What `kubectl debug` sends.
    let answer = raw.patch(&path, "strategic-merge", &added(one.clone())).await;
    assert_eq!(answer.code, 200, "{}", answer.body);
    let debug = &answer.body["spec"]["ephemeralContainers"][0];
    assert_eq!(
        (
            &debug["name"],
            &debug["imagePullPolicy"],
            &answer.body["metadata"]["generation"]
        ),
        (&json!("debug"), &json!("IfNotPresent"), &json!(2))
    );
    let two = json!([{ "name": "more", "image": "i:1" }]);
    let answer = raw.patch(&path, "strategic-merge", &added(two)).await;
    let list = answer.body["spec"]["ephemeralContainers"].as_array().unwrap();
    assert_eq!((answer.code, list.len()), (200, 2), "{}", answer.body);

    // A whole pod, of which the rest doesn't count.
    let mut whole = raw.get(&path).await.body;
    whole["spec"]["containers"][0]["image"] = "other:1".into();
    whole["metadata"]["labels"] = json!({ "a": "b" });
    let kept = raw.put(&path, &whole).await;
    assert_eq!(kept.code, 200, "{}", kept.body);
    assert_eq!(kept.body["spec"]["containers"][0]["image"], "localhost/image:1");
    assert!(kept.body["metadata"]["labels"].is_null());

    whole = raw.get(&path).await.body;
    whole["spec"]["ephemeralContainers"] = json!([]);
    let refused = raw.put(&path, &whole).await;
    assert_eq!(refused.code, 422);
    let message = refused.message();
    assert!(
        message.contains("existing ephemeral containers \"debug\" may not be removed"),
        "{message}"
    );

    wanted["spec"]["ephemeralContainers"] = one;
    wanted["metadata"]["name"] = "q".into();
    let message = raw.post(PODS, &wanted).await;
    assert!(
        message
            .message()
            .ends_with("spec.ephemeralContainers: Forbidden: cannot be set on create"),
        "{}",
        message.body
    );
}

#[tokio::test]
async fn who_may_change_a_pod_may_not_yet_add_containers() {
    let raw = Running::start().await.raw();
    raw.post(PODS, &pod("p", &["c"])).await;
    let one = json!([{ "name": "debug", "image": "i:1" }]);
    let refused = raw
        .patch(&format!("{PODS}/p"), "strategic-merge", &added(one))
        .await;
    assert_eq!(refused.code, 422);
    let message = refused.message();
    assert!(message.contains("ephemeralcontainers subresource"), "{message}");
}

#[tokio::test]
async fn an_ephemeral_container_is_checked() {
    let raw = Running::start().await.raw();
    raw.post(PODS, &pod("p", &["c"])).await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    for (container, why) in [
        (
            json!({ "targetContainerName": "none" }),
            "targetContainerName: Not found: \"none\"",
        ),
        (
            json!({ "ports": [{ "containerPort": 80 }] }),
            "ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            json!({ "resources": { "limits": { "cpu": "1" } } }),
            "resources: Forbidden: cannot be set",
        ),
        (json!({ "name": "c" }), "name: Duplicate value: \"c\""),
        (json!({ "image": "" }), "image: Required value"),
    ] {
        let mut whole = json!({ "name": "debug", "image": "i:1" });
        let fields = container.as_object().unwrap().clone();
        whole.as_object_mut().unwrap().extend(fields);
        let refused = raw.patch(&path, "strategic-merge", &added(json!([whole]))).await;
        assert_eq!(refused.code, 422, "{}", refused.body);
        assert!(
            refused.message().contains(why),
            "{} lacks {why}",
            refused.message()
        );
    }
}
