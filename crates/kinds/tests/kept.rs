//! Kinds that show the same objects: what one of them writes, the other reads, and nothing is lost on the way.

use kinds::Kind;
use serde_json::{Value, json};

fn kind(group: &str, version: &str, plural: &str) -> &'static Kind {
    kinds::find(group, version, plural).expect("the table has it")
}

fn autoscaler(metrics: &Value) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "web", "annotations": { "mine": "yes" } },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
            "minReplicas": 2, "maxReplicas": 10, "metrics": metrics,
        },
        "status": { "currentReplicas": 3, "desiredReplicas": 4, "observedGeneration": 1 },
    })
}

#[test]
fn an_autoscaler_comes_back_whole_from_its_older_version() {
    let v1 = kind("autoscaling", "v1", "horizontalpodautoscalers");
    let selector = json!({ "matchLabels": { "a": "b" } });
    let mut kept = autoscaler(&json!([
        { "type": "Resource", "resource": { "name": "memory", "target": { "type": "AverageValue", "averageValue": "512Mi" } } },
        { "type": "Pods", "pods": { "metric": { "name": "packets", "selector": selector }, "target": { "type": "AverageValue", "averageValue": "1k" } } },
        { "type": "Object", "object": {
            "describedObject": { "apiVersion": "v1", "kind": "Service", "name": "web" },
            "metric": { "name": "requests" }, "target": { "type": "Value", "value": "2k" } } },
        { "type": "Object", "object": {
            "describedObject": { "kind": "Service", "name": "web" },
            "metric": { "name": "requests" }, "target": { "type": "AverageValue", "averageValue": "20" } } },
        { "type": "External", "external": { "metric": { "name": "queue" }, "target": { "type": "Value", "value": "30" } } },
        { "type": "ContainerResource", "containerResource": { "name": "cpu", "container": "web", "target": { "type": "Utilization", "averageUtilization": 70 } } },
        { "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 60 } } },
    ]));
    kept["spec"]["behavior"] = json!({
        "scaleDown": { "selectPolicy": "Max", "stabilizationWindowSeconds": 60, "tolerance": "50m",
            "policies": [{ "type": "Percent", "value": 100, "periodSeconds": 15 }] },
    });
    kept["status"]["conditions"] = json!([{ "type": "AbleToScale", "status": "True", "reason": "Ready",
        "lastTransitionTime": "2024-01-01T00:00:00Z", "message": "" }]);
    kept["status"]["currentMetrics"] = json!([{ "type": "Resource",
        "resource": { "name": "cpu", "current": { "averageUtilization": 41, "averageValue": "82m" } } }]);
    let old = v1.read_kept(kept.clone());
    assert_eq!(old["apiVersion"], "autoscaling/v1");
    assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 60);
    assert_eq!(old["status"]["currentCPUUtilizationPercentage"], 41);
    assert_eq!(old["spec"].get("metrics"), None);
    let annotations = old["metadata"]["annotations"].as_object().unwrap();
    assert_eq!(annotations.len(), 5, "{annotations:?}");
    let behavior = annotations["autoscaling.alpha.kubernetes.io/behavior"]
        .as_str()
        .unwrap();
    assert!(
        behavior.contains("\"StabilizationWindowSeconds\":60"),
        "{behavior}"
    );
    // It is an object of its version, and nothing of it is unknown there.
    assert_eq!(v1.decode(&old).unwrap().unknown, [""; 0]);
    assert_eq!(v1.write_kept(old), kept);
}

#[test]
fn an_old_autoscaler_without_a_share_of_cpu_gets_the_default_one() {
    let v1 = kind("autoscaling", "v1", "horizontalpodautoscalers");
    let mut old = v1.read_kept(autoscaler(&json!([])));
    assert_eq!(old["metadata"]["annotations"], json!({ "mine": "yes" }));
    let kept = v1.write_kept(old.clone());
    assert_eq!(
        kept["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        80
    );
    assert_eq!(v1.read_kept(kept)["spec"]["targetCPUUtilizationPercentage"], 80);
    // What isn't JSON, or other JSON than it should be, says nothing.
    for rubbish in [
        "{",
        "7",
        "[7]",
        "[{\"type\":\"Pods\",\"pods\":7}]",
        "{\"ScaleUp\":7}",
    ] {
        for name in ["metrics", "current-metrics", "conditions", "behavior"] {
            let name = format!("autoscaling.alpha.kubernetes.io/{name}");
            old["metadata"]["annotations"] = json!({ name: rubbish });
            let kept = v1.write_kept(old.clone());
            assert_eq!(kept["spec"].get("behavior"), None, "{rubbish}");
            assert_eq!(kept["spec"]["metrics"].as_array().unwrap().len(), 1, "{rubbish}");
            assert_eq!(kept["metadata"].get("annotations"), None, "{rubbish}");
        }
    }
}

#[test]
fn an_event_is_the_same_in_both_groups() {
    let (core, events) = (kind("", "v1", "events"), kind("events.k8s.io", "v1", "events"));
    assert_eq!((events.kept_group(), core.kept_group()), ("", ""));
    let kept = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": "a", "namespace": "default" },
        "involvedObject": { "kind": "Pod", "name": "web" }, "message": "hello", "reason": "Started",
        "source": { "component": "kubelet" }, "count": 2, "reportingComponent": "kubelet",
        "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:00:01Z",
    });
    let new = events.read_kept(kept.clone());
    assert_eq!(events.decode(&new).unwrap().unknown, [""; 0]);
    assert_eq!(
        (&new["note"], &new["regarding"]["name"]),
        (&json!("hello"), &json!("web"))
    );
    assert_eq!(
        (&new["deprecatedCount"], &new["reportingController"]),
        (&json!(2), &json!("kubelet"))
    );
    assert_eq!(events.write_kept(new.clone()), kept);
    assert_eq!(events.row(&new, 1_704_067_200), core.row(&kept, 1_704_067_200));
}
