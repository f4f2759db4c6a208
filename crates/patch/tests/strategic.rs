//! Strategic merge patches as kubectl sends them.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use patch::{PatchError, strategic};
use rstest::rstest;
use serde_json::{Value, json};

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": spec}}})
}

fn apply(spec: Value, patch: Value) -> Value {
    strategic(&deployment(spec), &json!({"spec": {"template": {"spec": patch}}})).unwrap()["spec"]["template"]
        ["spec"]
        .take()
}

fn refused(spec: Value, patch: Value) -> String {
    match strategic(&deployment(spec), &json!({"spec": {"template": {"spec": patch}}})) {
        Err(PatchError::Malformed(message)) => message,
        other => panic!("accepted: {other:?}"),
    }
}

#[test]
fn set_image_changes_one_container_and_keeps_the_rest() {
    let spec = json!({"containers": [{"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "b:1"}]});
    let patch = json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}], "containers": [{"name": "b", "image": "b:2"}]});
    assert_eq!(
        apply(spec, patch),
        json!({"containers": [{"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "b:2"}]})
    );
}

#[test]
fn restart_adds_an_annotation_to_a_template_without_metadata() {
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}});
    let changed = strategic(&deployment(json!({"containers": []})), &patch).unwrap();
    assert_eq!(
        changed["spec"]["template"]["metadata"],
        json!({"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}})
    );
    assert_eq!(changed["spec"]["template"]["spec"], json!({"containers": []}));
}

#[test]
fn a_replaced_list_keeps_elements_that_share_a_key() {
    let address = |kind: &str, address: &str| json!({"type": kind, "address": address});
    let node = json!({"apiVersion": "v1", "kind": "Node", "status": {"addresses": [address("InternalIP", "10.0.0.1")]}});
    let addresses = json!([
        address("InternalIP", "10.0.0.2"),
        address("InternalIP", "fd00::2"),
        address("Hostname", "a"),
        {"$patch": "replace"},
    ]);
    let changed = strategic(&node, &json!({"status": {"addresses": addresses}})).unwrap();
    let kept = &addresses.as_array().unwrap()[..3];
    assert_eq!(changed["status"]["addresses"], json!(kept));
}

#[test]
fn label_removal_is_a_null() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "1", "b": "2"}}});
    let changed = strategic(
        &pod,
        &json!({"metadata": {"labels": {"a": null, "absent": null}}}),
    )
    .unwrap();
    assert_eq!(changed["metadata"]["labels"], json!({"b": "2"}));
}

#[rstest]
#[case::container_ports_by_container_port(
    json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 90}]}]}),
    json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "http"}]}]}),
    json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 90}]}]})
)]
#[case::mounts_by_path(
    json!({"containers": [{"name": "a", "volumeMounts": [{"mountPath": "/x", "name": "v"}]}]}),
    json!({"containers": [{"name": "a", "volumeMounts": [{"mountPath": "/y", "name": "v"}]}]}),
    json!({"containers": [{"name": "a", "volumeMounts": [{"mountPath": "/y", "name": "v"}, {"mountPath": "/x", "name": "v"}]}]})
)]
#[case::tolerations_are_replaced(
    json!({"tolerations": [{"key": "a"}]}),
    json!({"tolerations": [{"key": "b"}]}),
    json!({"tolerations": [{"key": "b"}]})
)]
#[case::arguments_are_replaced(
    json!({"containers": [{"name": "a", "args": ["1", "2"]}]}),
    json!({"containers": [{"name": "a", "args": ["3"]}]}),
    json!({"containers": [{"name": "a", "args": ["3"]}]})
)]
#[case::delete_an_element(
    json!({"volumes": [{"name": "v"}, {"name": "w"}]}),
    json!({"volumes": [{"name": "v", "$patch": "delete"}]}),
    json!({"volumes": [{"name": "w"}]})
)]
#[case::replace_a_list(
    json!({"volumes": [{"name": "v"}, {"name": "w"}]}),
    json!({"volumes": [{"$patch": "replace"}, {"name": "x"}]}),
    json!({"volumes": [{"name": "x"}]})
)]
#[case::replace_an_object(
    json!({"securityContext": {"runAsUser": 1, "fsGroup": 2}}),
    json!({"securityContext": {"$patch": "replace", "fsGroup": 3}}),
    json!({"securityContext": {"fsGroup": 3}})
)]
#[case::volume_source_changes_with_retain_keys(
    json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
    json!({"$setElementOrder/volumes": [{"name": "v"}], "volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}, "emptyDir": null}]}),
    json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]})
)]
#[case::directives_and_nulls_in_what_is_new(
    json!({}),
    json!({"volumes": [{"name": "v", "$retainKeys": ["name", "emptyDir"], "emptyDir": {"medium": null}}, {"name": "w", "$patch": "delete"}]}),
    json!({"volumes": [{"name": "v", "emptyDir": {}}]})
)]
#[case::order_alone_moves_elements(
    json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}),
    json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}),
    json!({"containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}]})
)]
#[case::the_servers_own_elements_keep_their_place(
    json!({"containers": [{"name": "injected"}, {"name": "a"}]}),
    json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b"}]}),
    json!({"containers": [{"name": "b"}, {"name": "injected"}, {"name": "a"}]})
)]
fn pod_specs(#[case] spec: Value, #[case] patch: Value, #[case] expected: Value) {
    assert_eq!(apply(spec, patch), expected);
}

#[test]
fn service_ports_merge_by_port_and_tell_protocols_apart() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [
        {"port": 53, "protocol": "TCP", "name": "dns-tcp"}, {"port": 53, "protocol": "UDP", "name": "dns"}]}});
    let patch = json!({"spec": {"ports": [{"port": 53, "protocol": "UDP", "name": "domain"}]}});
    assert_eq!(
        strategic(&service, &patch).unwrap()["spec"]["ports"],
        json!([{"port": 53, "protocol": "TCP", "name": "dns-tcp"}, {"port": 53, "protocol": "UDP", "name": "domain"}])
    );
}

#[test]
fn finalizers_are_a_set_that_deletes_by_value() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"finalizers": ["a/x", "b/y"]}});
    let patch = json!({"metadata": {
        "$deleteFromPrimitiveList/finalizers": ["a/x"], "$setElementOrder/finalizers": ["c/z", "b/y"], "finalizers": ["c/z"]}});
    assert_eq!(
        strategic(&pod, &patch).unwrap()["metadata"]["finalizers"],
        json!(["c/z", "b/y"])
    );
}

#[test]
fn conditions_merge_by_type() {
    let node = json!({"apiVersion": "v1", "kind": "Node", "status": {
        "conditions": [{"type": "Ready", "status": "False"}, {"type": "DiskPressure", "status": "False"}]}});
    let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(
        strategic(&node, &patch).unwrap()["status"]["conditions"],
        json!([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "False"}])
    );
}

#[rstest]
#[case(json!({"containers": [{"image": "x"}]}), "spec.template.spec.containers[0]: does not contain declared merge key: name")]
#[case(json!({"containers": ["x"]}), "spec.template.spec.containers[0]: must be an object with the merge key name")]
#[case(json!({"securityContext": {"$patch": "remove"}}), "spec.template.spec.securityContext: $patch must be replace, delete or merge, not \"remove\"")]
#[case(
    json!({"volumes": [{"name": "v", "$retainKeys": ["name"], "emptyDir": {}}]}),
    "spec.template.spec.volumes[0]: the patch sets emptyDir, but $retainKeys doesn't name it"
)]
#[case(
    json!({"containers": [{"name": "b"}, {"name": "a"}], "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}]}),
    "spec.template.spec.containers: the order in patch list doesn't match $setElementOrder list"
)]
fn mistakes_are_named(#[case] patch: Value, #[case] message: &str) {
    let spec =
        json!({"containers": [{"name": "a"}], "securityContext": {"fsGroup": 1}, "volumes": [{"name": "v"}]});
    assert_eq!(refused(spec, patch), message);
}

#[test]
fn a_patch_can_not_delete_the_whole_object() {
    assert!(strategic(&deployment(json!({})), &json!({"$patch": "delete"})).is_err());
    assert!(strategic(&deployment(json!({})), &json!([])).is_err());
}
