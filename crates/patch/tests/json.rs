//! JSON patches: what is applied, and what a refusal says.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use patch::{PatchError, json as apply};
use serde_json::{Value, json};

fn refused(patch: Value) -> PatchError {
    apply(&json!({"spec": {"replicas": 1, "list": [1, 2]}}), &patch).unwrap_err()
}

#[test]
fn operations_apply_in_order() {
    let patch = json!([
        {"op": "test", "path": "/spec/replicas", "value": 1},
        {"op": "replace", "path": "/spec/replicas", "value": 2},
        {"op": "copy", "from": "/spec/replicas", "path": "/spec/copy"},
        {"op": "add", "path": "/metadata", "value": {"labels": {}}},
        {"op": "add", "path": "/metadata/labels/app.example~1name", "value": "x"},
    ]);
    assert_eq!(
        apply(&json!({"spec": {"replicas": 1}}), &patch).unwrap(),
        json!({"spec": {"replicas": 2, "copy": 2}, "metadata": {"labels": {"app.example/name": "x"}}})
    );
}

#[test]
fn a_failed_test_names_the_operation_and_the_path() {
    let error = refused(json!([{"op": "test", "path": "/spec/replicas", "value": 2}]));
    assert!(matches!(&error, PatchError::Unprocessable(_)), "{error:?}");
    insta::assert_snapshot!(error, @"operation 1 of the JSON patch (test /spec/replicas): value did not match");
}

#[test]
fn a_path_that_is_not_there_is_named() {
    let error =
        refused(json!([{"op": "remove", "path": "/spec/list/0"}, {"op": "remove", "path": "/spec/gone"}]));
    assert!(matches!(&error, PatchError::Unprocessable(_)), "{error:?}");
    insta::assert_snapshot!(error, @"operation 2 of the JSON patch (remove /spec/gone): path is invalid");
}

#[test]
fn a_patch_of_another_shape_is_malformed() {
    assert!(matches!(refused(json!({})), PatchError::Malformed(_)));
    assert!(matches!(
        refused(json!([{"op": "frob", "path": "/a"}])),
        PatchError::Malformed(_)
    ));
}

#[test]
fn copies_can_not_blow_an_object_up() {
    let mut patch = vec![json!({"op": "add", "path": "/spec/a", "value": "x".repeat(1000)})];
    patch.extend((0..40).map(|i| json!({"op": "copy", "from": "/spec", "path": format!("/spec/c{i}")})));
    assert!(matches!(refused(Value::Array(patch)), PatchError::Malformed(_)));
}

#[test]
fn a_test_for_null_finds_a_field_that_is_not_there() {
    let patch = json!([
        {"op": "test", "path": "/metadata/finalizers", "value": null},
        {"op": "add", "path": "/metadata/finalizers", "value": ["a/b"]},
    ]);
    let patched = apply(&json!({"metadata": {}}), &patch).unwrap();
    assert_eq!(patched["metadata"]["finalizers"], json!(["a/b"]));
    assert!(apply(&patched, &patch).is_err());
    assert!(apply(&json!({}), &patch).is_err());
}
