//! Creating, reading and changing objects.

use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, DEPLOYMENTS, PODS, Running, config_map, deployment, pod};

#[tokio::test]
async fn a_created_object_gets_what_the_server_sets() {
    let raw = Running::start().await.raw();
    let mut wanted = deployment("web");
    wanted["status"] = json!({ "replicas": 9 });
    wanted["metadata"]["generation"] = 7.into();
    wanted["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into();
    let created = raw.post(DEPLOYMENTS, &wanted).await;
    assert_eq!(created.code, 201, "{}", created.body);
    let metadata = &created.body["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["generation"], 1);
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(metadata["creationTimestamp"].as_str().unwrap().ends_with('Z'));
    assert!(metadata.get("deletionTimestamp").is_none());
    assert!(created.body["status"].get("replicas").is_none());
    assert_eq!(created.body["spec"]["strategy"]["type"], "RollingUpdate");
    let read = raw.get(&format!("{DEPLOYMENTS}/web")).await;
    assert_eq!((read.code, read.body), (200, created.body));
}

#[tokio::test]
async fn names_are_generated_on_demand() {
    let raw = Running::start().await.raw();
    let wanted = json!({ "metadata": { "generateName": "web-" } });
    let first = raw.post(CONFIG_MAPS, &wanted).await.body;
    let second = raw.post(CONFIG_MAPS, &wanted).await.body;
    let name = first["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9);
    assert_ne!(first["metadata"]["name"], second["metadata"]["name"]);
}

#[tokio::test]
async fn what_cannot_be_created_is_refused_in_kubernetes_words() {
    let raw = Running::start().await.raw();
    raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await;
    let twice = raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await;
    assert_eq!(
        (twice.code, twice.message()),
        (409, "configmaps \"a\" already exists")
    );
    assert_eq!(twice.body["reason"], "AlreadyExists");
    assert_eq!(
        twice.body["details"],
        json!({ "name": "a", "kind": "configmaps" })
    );

    let nowhere = raw
        .post("/api/v1/namespaces/nope/configmaps", &config_map("a", json!({})))
        .await;
    assert_eq!(
        (nowhere.code, nowhere.message()),
        (404, "namespaces \"nope\" not found")
    );

    let mut elsewhere = config_map("b", json!({}));
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    let elsewhere = raw.post(CONFIG_MAPS, &elsewhere).await;
    assert_eq!(elsewhere.code, 400);

    let wrong = json!({ "metadata": { "name": "w" }, "spec": { "replicas": "three" } });
    let wrong = raw.post(DEPLOYMENTS, &wrong).await;
    assert_eq!(wrong.code, 400);
    let start = "Deployment in version \"v1\" cannot be handled as a Deployment: ";
    assert!(wrong.message().starts_with(start), "{}", wrong.message());

    let mut invalid = deployment("web");
    invalid["spec"]["replicas"] = (-1).into();
    let invalid = raw.post(DEPLOYMENTS, &invalid).await;
    assert_eq!(invalid.code, 422);
    assert_eq!(
        invalid.message(),
        "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    assert_eq!(
        invalid.body["details"]["causes"][0]["reason"],
        "FieldValueInvalid"
    );
    assert_eq!(invalid.body["details"]["causes"][0]["field"], "spec.replicas");
}

#[tokio::test]
async fn bodies_come_as_json_or_yaml_and_within_limits() {
    let raw = Running::start().await.raw();
    let yaml = "metadata: {name: yaml}\ndata:\n  text: |\n    two\n    lines\n";
    let created = raw
        .send("POST", CONFIG_MAPS, &[("content-type", "application/yaml")], yaml)
        .await;
    assert_eq!(
        (created.code, &created.body["data"]["text"]),
        (201, &json!("two\nlines\n"))
    );

    let other = [("content-type", "application/cbor")];
    let refused = raw.send("POST", CONFIG_MAPS, &other, "k8s").await;
    assert_eq!(
        (refused.code, &refused.body["reason"]),
        (415, &json!("UnsupportedMediaType"))
    );

    let broken = raw.send("POST", CONFIG_MAPS, &[], "{").await;
    assert_eq!(broken.code, 400);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(raw.send("POST", CONFIG_MAPS, &[], deep.as_str()).await.code, 400);
    let large = config_map("l", json!({ "x": "y".repeat(3 << 20) }));
    let large = raw.post(CONFIG_MAPS, &large).await;
    assert_eq!(
        (large.code, &large.body["reason"]),
        (413, &json!("RequestEntityTooLarge"))
    );
}

#[tokio::test]
async fn a_null_is_the_zero_that_it_is_to_go() {
    let raw = Running::start().await.raw();
    let mut service = json!({
        "metadata": { "name": "a", "labels": { "x": null }, "annotations": null },
        "spec": { "ports": [{ "port": 80, "name": null }], "externalIPs": null },
    });
    let path = "/api/v1/namespaces/default/services";
    let created = raw.post(path, &service).await;
    assert_eq!(
        (created.code, &created.body["metadata"]["labels"]),
        (201, &json!({ "x": "" }))
    );
    service = created.body;
    let condition = json!({ "type": "a/b", "status": "True", "reason": "r", "message": "m" });
    for time in [Some(Value::Null), None] {
        service["status"]["conditions"] = json!([condition]);
        if let Some(time) = time {
            service["status"]["conditions"][0]["lastTransitionTime"] = time;
        }
        let written = raw.put(&format!("{path}/a/status"), &service).await;
        assert_eq!(written.code, 200, "{}", written.message());
        let found = raw.get(&format!("{path}/a")).await.body["status"]["conditions"][0].clone();
        assert_eq!(
            (&found["type"], found.get("lastTransitionTime")),
            (&json!("a/b"), Some(&Value::Null))
        );
        service = written.body;
    }
    let nothing = json!({ "metadata": { "name": "p" }, "spec": { "containers": [null] } });
    let refused = raw.post("/api/v1/namespaces/default/pods", &nothing).await;
    assert_eq!(refused.code, 422);
    assert!(
        refused
            .message()
            .contains("spec.containers[0].name: Required value"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn unknown_fields_are_ignored_warned_of_or_refused() {
    let raw = Running::start().await.raw();
    let mut wanted = deployment("web");
    wanted["spec"]["foo"] = 1.into();
    let dry = |validation: &str| format!("{DEPLOYMENTS}?dryRun=All&fieldValidation={validation}");
    let strict = raw.post(&dry("Strict"), &wanted).await;
    assert_eq!(strict.code, 400);
    assert_eq!(
        strict.message(),
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.foo\""
    );
    let warned = raw.post(&dry("Warn"), &wanted).await;
    assert_eq!(warned.code, 201);
    assert_eq!(
        warned.headers["warning"],
        "299 - \"unknown field \\\"spec.foo\\\"\""
    );
    let ignored = raw.post(&dry("Ignore"), &wanted).await;
    assert!(ignored.code == 201 && !ignored.headers.contains_key("warning"));
    assert_eq!(raw.post(&dry("Sideways"), &wanted).await.code, 422);
    let twice = r#"{"foo":1,"metadata":{"name":"a","name":"b"}}"#;
    let path = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let twice = raw.send("POST", &path, &[], twice).await;
    assert!(
        twice
            .message()
            .ends_with("strict decoding error: unknown field \"foo\", duplicate field \"metadata.name\"")
    );
    // None of them was stored.
    assert_eq!(raw.get(&format!("{DEPLOYMENTS}/web")).await.code, 404);
}

#[tokio::test]
async fn an_update_of_an_old_version_is_a_conflict() {
    let raw = Running::start().await.raw();
    let path = format!("{CONFIG_MAPS}/a");
    let mut object = raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await.body;
    object["data"]["k"] = "new".into();
    let updated = raw.put(&path, &object).await;
    assert_eq!(updated.code, 200);
    let stale = raw.put(&path, &object).await;
    assert_eq!(stale.code, 409);
    assert_eq!(
        stale.message(),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    // Without a version it is unconditional; the uid still counts.
    object["metadata"]["resourceVersion"] = "".into();
    object["data"]["k"] = "newer".into();
    assert_eq!(raw.put(&path, &object).await.code, 200);
    object["metadata"]["uid"] = "other".into();
    let other = raw.put(&path, &object).await;
    assert!(other.code == 409 && other.message().contains("Precondition failed: UID"));
    object["metadata"]["name"] = "b".into();
    assert_eq!(raw.put(&path, &object).await.code, 400);
    assert_eq!(raw.put(&format!("{CONFIG_MAPS}/b"), &object).await.code, 404);
}

#[tokio::test]
async fn an_update_creates_what_is_not_there_for_the_kinds_that_kubernetes_does() {
    let raw = Running::start().await.raw();
    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases/lock";
    let lease = json!({ "spec": { "holderIdentity": "me", "leaseDurationSeconds": 15 } });
    let created = raw.put(LEASE, &lease).await;
    assert_eq!(
        (created.code, &created.body["metadata"]["name"]),
        (201, &"lock".into())
    );
    let mut taken = created.body;
    taken["spec"]["holderIdentity"] = "you".into();
    let taken = raw.put(LEASE, &taken).await;
    assert_eq!(taken.code, 200, "{}", taken.body);
    raw.delete(LEASE, &json!({})).await;
    // This one means the lease that was there, not another one.
    let again = raw.put(LEASE, &taken.body).await;
    assert_eq!((again.code, &again.body["reason"]), (409, &"Conflict".into()));
    assert_eq!(raw.get(LEASE).await.code, 404);
    let config_map = raw
        .put(&format!("{CONFIG_MAPS}/a"), &config_map("a", json!({})))
        .await;
    assert_eq!(config_map.code, 404);
}

#[tokio::test]
async fn an_update_that_changes_nothing_is_not_a_change() {
    let raw = Running::start().await.raw();
    let object = raw.post(DEPLOYMENTS, &deployment("web")).await.body;
    let same = raw.put(&format!("{DEPLOYMENTS}/web"), &object).await;
    assert_eq!(same.body, object);
}

#[tokio::test]
async fn specification_and_status_are_written_apart() {
    let raw = Running::start().await.raw();
    let path = format!("{DEPLOYMENTS}/web");
    let mut object = raw.post(DEPLOYMENTS, &deployment("web")).await.body;
    object["spec"]["replicas"] = 5.into();
    object["status"] = json!({ "replicas": 3, "observedGeneration": 1 });
    let status = raw.put(&format!("{path}/status"), &object).await.body;
    assert_eq!(
        (&status["spec"]["replicas"], &status["status"]["replicas"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(status["metadata"]["generation"], 1);

    object["metadata"]["resourceVersion"] = status["metadata"]["resourceVersion"].clone();
    object["status"]["replicas"] = 4.into();
    let main = raw.put(&path, &object).await.body;
    assert_eq!(
        (&main["spec"]["replicas"], &main["status"]["replicas"]),
        (&json!(5), &json!(3))
    );
    assert_eq!(main["metadata"]["generation"], 2);
}

#[tokio::test]
async fn metadata_are_written_with_the_status_where_kubernetes_does_so() {
    let raw = Running::start().await.raw();
    let namespaced = |kind: &str| format!("/api/v1/namespaces/default/{kind}");
    let service = json!({ "metadata": { "name": "web", "labels": { "a": "b" } }, "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] } });
    raw.post(&namespaced("services"), &service).await;
    let patch = json!({
        "metadata": { "annotations": { "seen": "true" }, "labels": { "a": null, "c": "d" } },
        "spec": { "sessionAffinity": "ClientIP" },
        "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.1" }] } },
    });
    let path = format!("{}/web/status", namespaced("services"));
    let written = raw.patch(&path, "merge", &patch).await.body;
    assert_eq!(written["metadata"]["annotations"], json!({ "seen": "true" }));
    assert_eq!(written["metadata"]["labels"], json!({ "c": "d" }));
    assert_eq!(written["spec"]["sessionAffinity"], "None");
    assert_eq!(
        written["status"]["loadBalancer"]["ingress"][0]["ip"],
        "203.0.113.1"
    );
    let mine = written["metadata"]["managedFields"].as_array().unwrap();
    let mine = mine
        .iter()
        .find(|entry| entry["subresource"] == "status")
        .unwrap();
    assert!(
        mine["fieldsV1"]["f:metadata"]["f:annotations"]
            .get("f:seen")
            .is_some(),
        "{mine}"
    );

    // A Deployment's labels stay, and a ServiceCIDR's metadata.
    raw.post(DEPLOYMENTS, &deployment("web")).await;
    let patch = json!({ "metadata": { "annotations": { "seen": "true" }, "labels": { "c": "d" } }, "status": { "replicas": 1 } });
    let before = raw.get(&format!("{DEPLOYMENTS}/web")).await.body;
    let path = format!("{DEPLOYMENTS}/web/status");
    let written = raw.patch(&path, "merge", &patch).await.body;
    assert_eq!(written["metadata"]["annotations"]["seen"], "true");
    assert_eq!(written["metadata"]["labels"], before["metadata"]["labels"]);
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs";
    let range = json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["10.97.0.0/24"] } });
    assert_eq!(raw.post(ranges, &range).await.code, 201);
    let written = raw
        .patch(&format!("{ranges}/more/status"), "merge", &patch)
        .await
        .body;
    assert_eq!(written["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn a_scale_speaks_for_its_object() {
    let raw = Running::start().await.raw();
    raw.post(DEPLOYMENTS, &deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let mut scale = raw.get(&path).await.body;
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"]),
        (&json!("Scale"), &json!(2))
    );
    assert_eq!(scale["status"]["selector"], "app=web");
    scale["spec"]["replicas"] = 7.into();
    assert_eq!(raw.put(&path, &scale).await.body["spec"]["replicas"], 7);
    let patched = raw
        .patch(&path, "merge", &json!({ "spec": { "replicas": 1 } }))
        .await;
    assert_eq!(
        (patched.code, &patched.body["spec"]["replicas"]),
        (200, &json!(1))
    );
    assert_eq!(raw.put(&path, &scale).await.code, 409);
    let negative = raw
        .patch(&path, "merge", &json!({ "spec": { "replicas": -1 } }))
        .await;
    assert_eq!(negative.code, 422);
    let deployment = raw.get(&format!("{DEPLOYMENTS}/web")).await.body;
    assert_eq!(
        (
            &deployment["spec"]["replicas"],
            &deployment["metadata"]["generation"]
        ),
        (&json!(1), &json!(3))
    );
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let raw = Running::start().await.raw();
    let created = raw.post(PODS, &pod("p", &["c"])).await.body;
    assert_eq!(created["status"]["phase"], "Pending");
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    let binding =
        |node: &str| json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": node } });
    let path = format!("{PODS}/p/binding");
    let bound = raw.post(&path, &binding("n1")).await;
    assert_eq!((bound.code, &bound.body["status"]), (201, &json!("Success")));
    let pod = raw.get(&format!("{PODS}/p")).await.body;
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
    let again = raw.post(&path, &binding("n2")).await;
    assert_eq!(
        (again.code, again.message()),
        (
            409,
            "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
        )
    );
    assert_eq!(raw.post(&path, &json!({ "target": {} })).await.code, 422);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let raw = Running::start().await.raw();
    for path in [
        "/nope",
        "/api/v2",
        "/apis/apps/v1/pods",
        "/api/v1/namespaces/default/pods/a/nope",
        "/api/v1/nodes/a/b/c",
    ] {
        let answer = raw.get(path).await;
        assert_eq!(
            (answer.code, &answer.body["kind"]),
            (404, &json!("Status")),
            "{path}"
        );
        assert_eq!(
            answer.message(),
            "the server could not find the requested resource",
            "{path}"
        );
    }
    assert_eq!(
        raw.get(&format!("{PODS}/a")).await.message(),
        "pods \"a\" not found"
    );
    assert_eq!(raw.post(&format!("{PODS}/a"), &json!({})).await.code, 405);
    assert_eq!(raw.post("/api", &json!({})).await.code, 405);
    let accept = [("accept", "text/html")];
    assert_eq!(raw.send("GET", PODS, &accept, "").await.code, 406);
}

#[tokio::test]
async fn one_priority_class_is_that_of_pods_that_name_none() {
    let raw = Running::start().await.raw();
    let path = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = |name: &str, value: i64, default: bool| json!({ "metadata": { "name": name }, "value": value, "globalDefault": default });
    assert_eq!(raw.post(path, &class("usual", 5, true)).await.code, 201);
    let refused = raw.post(path, &class("other", 6, true)).await;
    let why = "PriorityClass usual is already marked as default. Only one default can exist";
    assert_eq!(refused.code, 403);
    assert!(refused.message().ends_with(why), "{}", refused.body);
    assert_eq!(raw.post(path, &class("other", 6, false)).await.code, 201);
    let to = async |name: &str, default: bool| {
        let change = json!({ "globalDefault": default });
        raw.patch(&format!("{path}/{name}"), "merge", &change).await.code
    };
    assert_eq!((to("other", true).await, to("usual", true).await), (403, 200));
    let priority = async |name: &str, class: Value| {
        let mut pod = pod(name, &["c"]);
        pod["spec"]["priorityClassName"] = class;
        let made = raw.post(PODS, &pod).await;
        (made.code, made.body["spec"]["priority"].clone())
    };
    assert_eq!(priority("a", Value::Null).await, (201, json!(5)));
    assert_eq!((to("usual", false).await, to("other", true).await), (200, 200));
    assert_eq!(priority("b", Value::Null).await, (201, json!(6)));
    let critical = json!("system-node-critical");
    assert_eq!(priority("c", critical).await, (201, json!(2_000_001_000)));
    assert_eq!(priority("d", json!("absent")).await.0, 403);
}
