//! What the server makes of objects as people write them.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use kinds::{DecodeError, Decoded};
use rstest::rstest;
use serde_json::{Value, json};

fn decode(object: Value) -> Result<Decoded, DecodeError> {
    let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), object["apiVersion"].as_str().unwrap().to_owned()),
    };
    let kind = kinds::find_kind(&group, &version, object["kind"].as_str().unwrap()).unwrap();
    kind.decode(&object)
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec})
}

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec})
}

#[rstest]
#[case(
    deployment(json!({"replicas": "three"})),
    "spec.replicas",
    r#"json: cannot unmarshal string "three" into field spec.replicas of type int32"#
)]
#[case(
    deployment(json!({"template": {"spec": {"containers": {"name": "a"}}}})),
    "spec.template.spec.containers",
    "json: cannot unmarshal object into field spec.template.spec.containers of type array"
)]
#[case(
    pod(json!({"containers": [{"name": "a", "ports": [{"containerPort": "http"}]}]})),
    "spec.containers[0].ports[0].containerPort",
    r#"json: cannot unmarshal string "http" into field spec.containers[0].ports[0].containerPort of type int32"#
)]
#[case(
    pod(json!({"hostNetwork": "yes"})),
    "spec.hostNetwork",
    r#"json: cannot unmarshal string "yes" into field spec.hostNetwork of type bool"#
)]
#[case(
    pod(json!({"containers": [{"name": "a", "env": [{"name": "A", "value": 1}]}]})),
    "spec.containers[0].env[0].value",
    "json: cannot unmarshal number 1 into field spec.containers[0].env[0].value of type string"
)]
#[case(
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": true}}),
    "data.a",
    "json: cannot unmarshal bool true into field data.a of type string"
)]
#[case(
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": []}),
    "metadata",
    "json: cannot unmarshal array into field metadata of type ObjectMeta"
)]
#[case(
    pod(json!({"containers": [{"name": "a", "resources": {"limits": {"memory": "128MB"}}}]})),
    "spec.containers[0].resources.limits.memory",
    r#"json: cannot unmarshal string "128MB" into field spec.containers[0].resources.limits.memory of type Quantity: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', as in 100m, 1.5Gi or 2e3"#
)]
fn wrong_types_are_named_with_their_path(#[case] object: Value, #[case] path: &str, #[case] message: &str) {
    let error = decode(object).unwrap_err();
    assert_eq!((error.path.as_str(), error.message.as_str()), (path, message));
}

#[test]
fn broken_base64_and_times_say_so() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "***"}});
    let error = decode(secret).unwrap_err();
    assert_eq!(error.path, "data.a");
    assert!(error.message.contains("data.a"), "{error}");
    let lease =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"renewTime": "soon"}});
    assert_eq!(decode(lease).unwrap_err().path, "spec.renewTime");
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    let mut object = pod(json!({"containers": [{"name": "a", "imagee": "x"}], "replicas": 1, "gone": null}));
    object["extra"] = json!({"a": 1});
    let decoded = decode(object).unwrap();
    assert_eq!(
        decoded.unknown,
        ["extra", "spec.containers[0].imagee", "spec.replicas"]
    );
    assert_eq!(decoded.object["spec"], json!({"containers": [{"name": "a"}]}));
}

#[test]
fn nulls_and_empty_objects_of_dry_runs_are_fine() {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"creationTimestamp": null, "name": "a"},
        "spec": {
            "replicas": null,
            "selector": {"matchLabels": {"app": "a"}},
            "strategy": {},
            "template": {
                "metadata": {"creationTimestamp": null, "labels": {"app": "a"}},
                "spec": {"containers": [{"image": "a", "name": "a", "resources": {}}]},
            },
        },
        "status": {},
    });
    let decoded = decode(object).unwrap();
    assert_eq!(decoded.unknown, [""; 0]);
    assert_eq!(decoded.object["metadata"], json!({"name": "a"}));
}

#[test]
fn quantities_become_canonical() {
    let object = pod(json!({
        "containers": [{
            "name": "a",
            "resources": {"limits": {"cpu": 0.5, "memory": "1.5Gi"}, "requests": {"cpu": 1, "example.com/gpu": "2"}},
            "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1000m"}}}],
        }],
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1024Mi"}}],
    }));
    let decoded = decode(object).unwrap().object;
    let container = &decoded["spec"]["containers"][0];
    assert_eq!(
        container["resources"],
        json!({"limits": {"cpu": "500m", "memory": "1536Mi"}, "requests": {"cpu": "1", "example.com/gpu": "2"}})
    );
    assert_eq!(
        container["env"][0]["valueFrom"]["resourceFieldRef"]["divisor"],
        "1"
    );
    assert_eq!(decoded["spec"]["volumes"][0]["emptyDir"]["sizeLimit"], "1Gi");
}

#[test]
fn an_empty_list_is_no_list() {
    let decoded = decode(pod(
        json!({"containers": [{"name": "a", "ports": []}], "volumes": []}),
    ))
    .unwrap();
    assert_eq!(decoded.object["spec"], json!({"containers": [{"name": "a"}]}));
    assert_eq!(decoded.unknown, [""; 0]);
    let required = decode(pod(json!({"containers": []}))).unwrap();
    assert_eq!(required.object["spec"], json!({"containers": []}));
}

#[test]
fn ports_are_numbers_or_names() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [
        {"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8081}]}});
    let decoded = decode(service).unwrap().object;
    assert_eq!(decoded["spec"]["ports"][0]["targetPort"], "http");
    assert_eq!(decoded["spec"]["ports"][1]["targetPort"], 8081);
}

#[test]
fn string_data_goes_into_data_and_is_not_kept() {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "data": {"a": "b2xk", "b": "YmI="}, "stringData": {"a": "new", "c": ""},
    });
    let decoded = decode(secret).unwrap();
    assert_eq!(decoded.object["data"], json!({"a": "bmV3", "b": "YmI=", "c": ""}));
    assert_eq!(decoded.object.get("stringData"), None);
    assert_eq!(decoded.unknown, [""; 0]);
}

#[test]
fn times_are_written_as_kubernetes_does() {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"creationTimestamp": "2024-01-02T03:04:05.678Z"},
        "spec": {"renewTime": "2024-01-02T03:04:05.5Z"},
    });
    let decoded = decode(lease).unwrap().object;
    assert_eq!(decoded["metadata"]["creationTimestamp"], "2024-01-02T03:04:05Z");
    assert_eq!(decoded["spec"]["renewTime"], "2024-01-02T03:04:05.500000Z");
}
