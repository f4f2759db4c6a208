//! Kinds that are two views of the same objects.

use serde_json::{Value, json};

use crate::support::Running;

const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
const CORE: &str = "/api/v1/namespaces/default/events";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

fn autoscaler(version: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "web" },
        "spec": { "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" }, "maxReplicas": 5 },
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

#[tokio::test]
async fn an_autoscaler_is_the_same_in_both_versions() {
    let raw = Running::start().await.raw();
    let old = autoscaler("v1", json!({ "targetCPUUtilizationPercentage": 60 }));
    let created = raw.post(V1, &old).await;
    assert_eq!(created.code, 201, "{}", created.body);
    assert_eq!(created.body["spec"]["targetCPUUtilizationPercentage"], 60);
    let new = raw.get(&format!("{V2}/web")).await.body;
    assert_eq!(new["apiVersion"], "autoscaling/v2");
    assert_eq!(
        new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        60
    );
    assert_eq!(new["metadata"]["uid"], created.body["metadata"]["uid"]);

    // What the old version has no field for survives a change that is made in it.
    let memory = json!({ "type": "Resource", "resource": { "name": "memory",
        "target": { "type": "AverageValue", "averageValue": "1Gi" } } });
    let patch = json!({ "spec": { "metrics": [new["spec"]["metrics"][0], memory], "behavior": { "scaleDown": { "stabilizationWindowSeconds": 9 } } } });
    let patched = raw.patch(&format!("{V2}/web"), "merge", &patch).await;
    assert_eq!(patched.code, 200, "{}", patched.body);
    let list = raw.get(V1).await.body;
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("HorizontalPodAutoscalerList"), &json!("autoscaling/v1"))
    );
    let mut old = list["items"][0].clone();
    let annotation = &old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"];
    assert!(
        annotation
            .as_str()
            .unwrap()
            .contains("\"targetAverageValue\":\"1Gi\""),
        "{annotation}"
    );
    old["spec"]["maxReplicas"] = 7.into();
    let put = raw.put(&format!("{V1}/web"), &old).await;
    assert_eq!(put.code, 200, "{}", put.body);
    let new = raw.get(&format!("{V2}/web")).await.body;
    assert_eq!(new["spec"]["maxReplicas"], 7);
    assert_eq!(new["spec"]["metrics"].as_array().unwrap().len(), 2);
    assert_eq!(
        new["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"],
        9
    );
    assert_eq!(new["metadata"].get("annotations"), None);

    // The status is its own, in each version.
    let status = json!({ "status": { "currentReplicas": 3, "desiredReplicas": 4, "currentCPUUtilizationPercentage": 41 } });
    let patched = raw.patch(&format!("{V1}/web/status"), "merge", &status).await;
    assert_eq!(patched.code, 200, "{}", patched.body);
    let new = raw.get(&format!("{V2}/web/status")).await.body;
    assert_eq!(
        new["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"],
        41
    );
    assert_eq!(new["spec"]["maxReplicas"], 7);

    // Applied in one version, seen and gone in the other.
    let applied = raw
        .apply(
            &format!("{V1}/web"),
            "me&force=true",
            &autoscaler("v1", json!({ "minReplicas": 2 })),
        )
        .await;
    assert_eq!(applied.code, 200, "{}", applied.body);
    assert_eq!(raw.get(&format!("{V2}/web")).await.body["spec"]["minReplicas"], 2);
    let refused = raw.post(V1, &autoscaler("v1", json!({ "maxReplicas": 0 }))).await;
    assert_eq!(refused.code, 422);
    assert!(
        refused
            .message()
            .contains("spec.maxReplicas: Invalid value: 0: must be greater than 0"),
        "{}",
        refused.message()
    );
    assert_eq!(raw.delete(&format!("{V1}/web"), &Value::Null).await.code, 200);
    assert_eq!(raw.get(&format!("{V2}/web")).await.code, 404);
}

#[tokio::test]
async fn an_event_is_found_in_both_groups() {
    let raw = Running::start().await.raw();
    let event = json!({
        "metadata": { "name": "old" }, "reason": "Tested", "message": "seen", "type": "Normal",
        "involvedObject": { "kind": "Pod", "namespace": "default", "name": "p" },
        "lastTimestamp": "2026-01-01T00:00:00Z", "count": 1,
    });
    assert_eq!(raw.post(CORE, &event).await.code, 201);
    let event = json!({
        "metadata": { "name": "new" }, "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "Tried", "action": "Trying",
        "note": "told", "type": "Warning", "regarding": { "kind": "Node", "name": "n" },
        "reportingController": "example.com/tester", "reportingInstance": "tester-1",
    });
    let created = raw.post(EVENTS, &event).await;
    assert_eq!(
        (created.code, &created.body["note"]),
        (201, &json!("told")),
        "{}",
        created.body
    );
    let core = raw.get(&format!("{CORE}/new")).await.body;
    assert_eq!(
        (&core["message"], &core["involvedObject"]["name"]),
        (&json!("told"), &json!("n"))
    );
    assert_eq!(raw.get(&format!("{EVENTS}/old")).await.body["deprecatedCount"], 1);
    for (path, selector) in [
        (CORE, "involvedObject.name=n"),
        (EVENTS, "regarding.name=n"),
        (EVENTS, "reportingController=example.com/tester,type=Warning"),
    ] {
        let list = raw.get(&format!("{path}?fieldSelector={selector}")).await.body;
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{selector}");
        assert_eq!(list["items"][0]["metadata"]["name"], "new");
    }
    // Stricter than core/v1.
    let mut loose = event;
    loose["metadata"]["name"] = "loose".into();
    loose["type"] = "Odd".into();
    let refused = raw.post(EVENTS, &loose).await;
    assert_eq!(refused.code, 422);
    assert!(
        refused
            .message()
            .contains("type: Invalid value: \"\": has invalid value: Odd"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn some_kinds_are_replaced_only_by_who_says_which_version_is_meant() {
    let raw = Running::start().await.raw();
    for (path, object, unconditional) in [
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            json!({ "spec": { "minAvailable": 1 } }),
            false,
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            json!({ "spec": {} }),
            false,
        ),
        (
            "/apis/node.k8s.io/v1/runtimeclasses",
            json!({ "handler": "runc" }),
            false,
        ),
        (
            "/apis/storage.k8s.io/v1/csinodes",
            json!({ "spec": { "drivers": [] } }),
            false,
        ),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            json!({ "spec": { "selector": { "matchLabels": { "a": "b" } },
            "template": { "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "a", "image": "a" }] } } } }),
            true,
        ),
        (V2, autoscaler("v2", json!({})), true),
        ("/api/v1/namespaces/default/secrets", json!({}), true),
    ] {
        let mut object = object;
        object["metadata"] = json!({ "name": "web" });
        let created = raw.post(path, &object).await;
        assert_eq!(created.code, 201, "{path}: {}", created.body);
        object["metadata"]["labels"] = json!({ "changed": "yes" });
        let put = raw.put(&format!("{path}/web"), &object).await;
        if unconditional {
            assert_eq!(put.code, 200, "{path}: {}", put.body);
            continue;
        }
        assert_eq!(put.code, 422, "{path}");
        let says = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update";
        assert!(put.message().contains(says), "{path}: {}", put.message());
        object["metadata"]["resourceVersion"] = created.body["metadata"]["resourceVersion"].clone();
        assert_eq!(raw.put(&format!("{path}/web"), &object).await.code, 200, "{path}");
    }
}
