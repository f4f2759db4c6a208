//! Nothing that a client sends may stop the server: ordinary objects with anything in place of any part are
//! read, defaulted, checked and printed, or refused, but never panicked over.

use proptest::prelude::*;
use serde_json::{Value, json};

fn ordinary() -> Vec<Value> {
    let template = json!({
        "metadata": {"labels": {"app": "a"}},
        "spec": {
            "containers": [{
                "name": "a", "image": "a:1",
                "ports": [{"name": "http", "containerPort": 80, "hostPort": 80}],
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "envFrom": [{"secretRef": {"name": "s"}}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Gi"}},
                "readinessProbe": {"httpGet": {"port": "http", "httpHeaders": [{"name": "A", "value": "b"}]}},
                "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a"}],
                "securityContext": {"runAsUser": 1},
            }],
            "initContainers": [{"name": "i", "image": "a", "restartPolicy": "Always"}],
            "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c", "items": [{"key": "a", "path": "b"}]}}]}}],
            "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 3, "effect": "NoExecute"}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}},
            "dnsConfig": {"nameservers": ["10.0.0.1"], "searches": ["a"], "options": [{"name": "ndots"}]},
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
            "securityContext": {"fsGroup": 1, "sysctls": [{"name": "a.b", "value": "1"}]},
        },
    });
    let metadata = json!({"name": "a", "namespace": "default", "labels": {"a": "b"}, "annotations": {"a": "b"},
        "creationTimestamp": "2024-01-01T00:00:00Z", "finalizers": ["a/b"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "1", "controller": true}]});
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "initContainerStatuses": [{"name": "i", "ready": true, "restartCount": 1, "image": "", "imageID": "", "state": {"running": {}}}],
        "containerStatuses": [{"name": "a", "ready": true, "restartCount": 1, "image": "", "imageID": "",
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2024-01-01T00:00:00Z"}}}]});
    let workload = json!({"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": template});
    vec![
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": status}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": workload}),
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": workload, "status": {"replicas": 1}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {
            "type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "clusterIP": "10.96.0.1", "ipFamilies": ["IPv4"], "externalIPs": ["1.2.3.4"],
            "ports": [{"name": "a", "port": 80, "nodePort": 30000}, {"name": "b", "port": 81, "targetPort": "http"}],
            "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ["10.0.0.0/8"]},
            "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/a": ""}},
            "spec": {"podCIDRs": ["10.244.0.0/24"], "taints": [{"key": "a", "effect": "NoSchedule"}]},
            "status": {"capacity": {"cpu": "2"}, "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}], "conditions": [{"type": "Ready", "status": "True"}]}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="}, "stringData": {"a": "b"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}, "binaryData": {"c": "AA=="}, "immutable": true}),
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [{"addresses": [{"ip": "10.0.0.1", "nodeName": "n"}], "ports": [{"port": 80, "name": "a"}]}]}),
        json!({"apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"},
            "firstTimestamp": "2024-01-01T00:00:00Z", "series": {"count": 2, "lastObservedTime": "2024-01-01T00:00:00.000000Z"}}),
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": metadata, "regarding": {"kind": "Pod", "name": "a", "namespace": "default"},
            "eventTime": "2024-01-01T00:00:00.000000Z", "series": {"count": 2, "lastObservedTime": "2024-01-01T00:00:00.000000Z"}}),
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "a"}, "minReplicas": 1, "maxReplicas": 2,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "a"}, "metric": {"name": "m"}, "target": {"type": "Value", "value": "2k"}}}],
            "behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 5}]}}},
            "status": {"desiredReplicas": 1, "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 3}}}]}}),
        json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a", "annotations": {
                "autoscaling.alpha.kubernetes.io/metrics": "[{\"type\":\"Pods\",\"pods\":{\"metricName\":\"m\",\"targetAverageValue\":\"1\"}}]",
                "autoscaling.alpha.kubernetes.io/behavior": "{\"ScaleUp\":{\"Policies\":[]}}"}},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "a"}, "maxReplicas": 2, "targetCPUUtilizationPercentage": 50}}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {"leaseDurationSeconds": 40}}),
    ]
}

/// Pointers to every part of a value.
fn parts(value: &Value, pointer: &str, found: &mut Vec<String>) {
    found.push(pointer.to_owned());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                parts(value, &format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                parts(value, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[-a-z0-9./:%Gi]{0,12}".prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn serve(object: &Value, old: Option<&Value>) {
    let group_version = old.unwrap_or(object)["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let name = old.unwrap_or(object)["kind"].as_str().unwrap_or_default();
    let kind = kinds::find_kind(group, version, name).expect("ordinary objects are of served kinds");
    let Ok(decoded) = kind.decode(object) else {
        return;
    };
    let mut object = decoded.object;
    kind.default(&mut object);
    let _ = kind.validate(&object, None);
    let _ = kind.validate(&object, old);
    if let Some(old) = old {
        let _ = kind.validate(old, Some(&object));
    }
    assert_eq!(kind.row(&object, 0).len(), kind.columns().len());
    // What is kept is read as it was written, from then on.
    let kept = kind.write_kept(object.clone());
    assert_eq!(kind.write_kept(kind.read_kept(kept.clone())), kept);
    for (_, field) in kind.fields() {
        field.text(&object);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_part_of_an_object_stops_the_server(
        which in any::<prop::sample::Index>(),
        part in any::<prop::sample::Index>(),
        replacement in anything(),
    ) {
        let ordinary = ordinary();
        let original = which.get(&ordinary);
        let mut pointers = Vec::new();
        parts(original, "", &mut pointers);
        let mut changed = original.clone();
        if let Some(value) = changed.pointer_mut(&pointers[part.index(pointers.len())]) {
            *value = replacement;
        }
        serve(&changed, Some(original));
    }
}

#[test]
fn ordinary_objects_are_read_whole() {
    for object in ordinary() {
        serve(&object, None);
        let (group, version) = object["apiVersion"]
            .as_str()
            .and_then(|v| v.split_once('/'))
            .unwrap_or(("", "v1"));
        let kind = kinds::find_kind(group, version, object["kind"].as_str().unwrap()).unwrap();
        assert_eq!(kind.decode(&object).unwrap().unknown, [""; 0], "{}", kind.kind());
    }
}
