//! Protobuf, as Go clients send and like it.

use futures::AsyncReadExt;
use serde_json::{Value, json};

use crate::support::{Answer, CONFIG_MAPS, DEPLOYMENTS, PODS, Raw, Running, config_map, deployment, pod};

const ACCEPT: (&str, &str) = ("accept", "application/vnd.kubernetes.protobuf,application/json");
const CONTENT: (&str, &str) = ("content-type", "application/vnd.kubernetes.protobuf");

/// A request as a Go client makes it; the answer must be protobuf.
async fn send(raw: &Raw, method: &str, path: &str, body: &Value) -> Answer {
    let body = match body {
        Value::Null => Vec::new(),
        object => protobuf::encode(object).unwrap(),
    };
    let answer = raw.send(method, path, &[ACCEPT, CONTENT], body).await;
    assert_eq!(
        answer.headers["content-type"],
        protobuf::MEDIA_TYPE,
        "{method} {path}"
    );
    answer
}

fn typed(api_version: &str, kind: &str, mut object: Value) -> Value {
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object
}

#[tokio::test]
async fn an_object_is_created_read_changed_and_deleted_in_protobuf() {
    let raw = Running::start().await.raw();
    let wanted = typed("apps/v1", "Deployment", deployment("web"));
    let created = send(&raw, "POST", DEPLOYMENTS, &wanted).await;
    assert_eq!(created.code, 201, "{}", created.body);
    assert_eq!(created.body["spec"]["strategy"]["type"], "RollingUpdate");
    let path = format!("{DEPLOYMENTS}/web");
    let read = send(&raw, "GET", &path, &Value::Null).await;
    let as_json = raw.get(&path).await;
    assert_eq!(as_json.headers["content-type"], "application/json");
    assert_eq!(read.body["spec"], as_json.body["spec"]);
    assert_eq!(read.body["metadata"], as_json.body["metadata"]);

    let mut changed = read.body;
    changed["spec"]["replicas"] = 0.into();
    let changed = send(&raw, "PUT", &path, &changed).await;
    assert_eq!(
        (changed.code, &changed.body["spec"]["replicas"]),
        (200, &json!(0))
    );

    let options = json!({ "preconditions": { "uid": "another" } });
    let options = typed("apps/v1", "DeleteOptions", options);
    let refused = send(&raw, "DELETE", &path, &options).await;
    assert_eq!((refused.code, &refused.body["kind"]), (409, &"Status".into()));
    let options = typed(
        "apps/v1",
        "DeleteOptions",
        json!({ "propagationPolicy": "Background" }),
    );
    let deleted = send(&raw, "DELETE", &path, &options).await;
    assert_eq!((deleted.code, &deleted.body["status"]), (200, &"Success".into()));
    let gone = send(&raw, "GET", &path, &Value::Null).await;
    assert_eq!(
        (gone.code, gone.message()),
        (404, "deployments.apps \"web\" not found")
    );
    assert_eq!(gone.body["details"]["group"], "apps");
}

#[tokio::test]
async fn a_list_and_its_portions_come_as_protobuf() {
    let raw = Running::start().await.raw();
    for name in ["a", "b", "c"] {
        raw.post(CONFIG_MAPS, &config_map(name, json!({}))).await;
    }
    let list = send(&raw, "GET", &format!("{CONFIG_MAPS}?limit=2"), &Value::Null).await;
    assert_eq!(list.body["kind"], "ConfigMapList");
    assert_eq!(list.body["metadata"]["remainingItemCount"], 1);
    let names: Vec<_> = list.body["items"].as_array().unwrap().iter().collect();
    assert_eq!((names.len(), &names[1]["metadata"]["name"]), (2, &"b".into()));
    assert_eq!(names[0]["data"], json!({ "k": "v" }));

    let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = raw.send("GET", CONFIG_MAPS, &[("accept", metadata)], "").await;
    assert_eq!(list.body["kind"], "PartialObjectMetadataList");
    let last = &list.body["items"][2];
    assert_eq!((&last["metadata"]["name"], last.get("data")), (&"c".into(), None));
}

#[tokio::test]
async fn a_watch_is_framed_events() {
    let raw = Running::start().await.raw();
    raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await;
    let query = "watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=3";
    let request = http::Request::get(format!("{CONFIG_MAPS}?{query}")).header(ACCEPT.0, ACCEPT.1);
    let mut reader = Box::pin(
        raw.0
            .request_stream(request.body(Vec::new()).unwrap())
            .await
            .unwrap(),
    );
    let patch = json!({ "data": { "k": "w" } });
    raw.patch(&format!("{CONFIG_MAPS}/a"), "merge", &patch).await;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.unwrap();
    let mut left = bytes.as_slice();
    let events = std::iter::from_fn(|| protobuf::decode_event(&mut left).unwrap());
    let events: Vec<_> = events.collect();
    let types: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["ADDED", "BOOKMARK", "MODIFIED", "BOOKMARK"]);
    assert_eq!(events[0]["object"]["kind"], "ConfigMap");
    let mark = &events[1]["object"]["metadata"]["annotations"];
    assert_eq!(mark, &json!({ "k8s.io/initial-events-end": "true" }));
    assert_eq!(events[2]["object"]["data"], json!({ "k": "w" }));
    assert!(left.is_empty());
}

#[tokio::test]
async fn a_watch_that_begins_too_early_ends_with_a_status() {
    let raw = Running::start().await.raw();
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion=9999&timeoutSeconds=1");
    let refused = send(&raw, "GET", &path, &Value::Null).await;
    assert_eq!((refused.code, &refused.body["reason"]), (504, &"Timeout".into()));
}

#[tokio::test]
async fn a_pod_is_bound_and_evicted_in_protobuf() {
    let raw = Running::start().await.raw();
    let created = send(&raw, "POST", PODS, &typed("v1", "Pod", pod("p", &["c"]))).await;
    assert_eq!(created.code, 201, "{}", created.body);
    let binding = json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n" } });
    let binding = typed("v1", "Binding", binding);
    let bound = send(&raw, "POST", &format!("{PODS}/p/binding"), &binding).await;
    assert_eq!((bound.code, &bound.body["status"]), (201, &"Success".into()));
    let eviction = json!({ "metadata": { "name": "p" }, "deleteOptions": { "gracePeriodSeconds": 0 } });
    // kubectl before 1.22 sends the older version.
    let eviction = typed("policy/v1beta1", "Eviction", eviction);
    let evicted = send(&raw, "POST", &format!("{PODS}/p/eviction"), &eviction).await;
    assert_eq!(evicted.code, 201, "{}", evicted.body);
    assert_eq!(raw.get(&format!("{PODS}/p")).await.code, 404);
}

#[tokio::test]
async fn a_scale_and_a_review_come_as_protobuf() {
    let raw = Running::start().await.raw();
    raw.post(DEPLOYMENTS, &deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let mut scale = send(&raw, "GET", &path, &Value::Null).await.body;
    assert_eq!(scale["spec"]["replicas"], 2);
    scale["spec"]["replicas"] = 5.into();
    let scaled = send(&raw, "PUT", &path, &scale).await;
    assert_eq!((scaled.code, &scaled.body["spec"]["replicas"]), (200, &json!(5)));

    let review = json!({ "spec": { "resourceAttributes": { "verb": "get", "resource": "pods" } } });
    let review = typed("authorization.k8s.io/v1", "SelfSubjectAccessReview", review);
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = send(&raw, "POST", path, &review).await;
    assert_eq!(
        (answer.code, &answer.body["status"]["allowed"]),
        (201, &json!(true))
    );
}

#[tokio::test]
async fn what_is_not_the_right_protobuf_is_refused_in_words() {
    let raw = Running::start().await.raw();
    let post = |body: Vec<u8>| async { raw.send("POST", PODS, &[ACCEPT, CONTENT], body).await };
    let refused = post(b"{}".to_vec()).await;
    assert_eq!((refused.code, &refused.body["kind"]), (400, &"Status".into()));
    assert!(
        refused.message().contains("not Kubernetes protobuf"),
        "{}",
        refused.message()
    );
    let other = protobuf::encode(&typed("v1", "ConfigMap", config_map("a", json!({})))).unwrap();
    let refused = post(other).await;
    assert_eq!(
        (refused.code, refused.message()),
        (400, "ConfigMap in version \"v1\" cannot be handled as a Pod")
    );
    let refused = post(b"k8s\0\x0a\xff".to_vec()).await;
    assert_eq!(refused.code, 400);
    let invalid = protobuf::encode(&typed("v1", "Pod", pod("P!", &["c"]))).unwrap();
    assert_eq!(post(invalid).await.code, 422);
}

#[tokio::test]
async fn a_table_stays_json_whatever_else_is_accepted() {
    let raw = Running::start().await.raw();
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/vnd.kubernetes.protobuf";
    let table = raw.send("GET", PODS, &[("accept", accept)], "").await;
    assert_eq!(
        (
            &table.body["kind"],
            table.headers["content-type"].to_str().unwrap()
        ),
        (&"Table".into(), "application/json")
    );
}
