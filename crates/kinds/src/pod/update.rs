//! What may change in a pod once it exists: little, because its containers run already.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::check::errors::{Errors, Field};
use crate::json::{int, list, list_mut, set, text};

const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks a changed pod's spec against the old one.
pub(crate) fn changed(errors: &mut Errors, new: &Value, old: &Value, path: &Field) {
    for group in ["containers", "initContainers"] {
        let pointer = format!("/{group}");
        if list(new, &pointer).len() != list(old, &pointer).len() {
            return errors.forbidden(&path.child(group), "pod updates may not add or remove containers");
        }
    }
    deadline(errors, new, old, &path.child("activeDeadlineSeconds"));
    tolerations(errors, new, old, &path.child("tolerations"));
    scheduling_gates(errors, new, old, &path.child("schedulingGates"));
    ephemeral_containers(errors, new, old, &path.child("ephemeralContainers"));
    let fields = differences(
        &without_empty(&with_changeable_fields_of(old, new)),
        &without_empty(old),
    );
    if !fields.is_empty() {
        errors.forbidden(
            path,
            &format!(
                "pod updates may not change fields other than {CHANGEABLE}\nchanged: {}",
                fields.join(", ")
            ),
        );
    }
}

fn deadline(errors: &mut Errors, new: &Value, old: &Value, path: &Field) {
    match (
        int(new, "/activeDeadlineSeconds"),
        int(old, "/activeDeadlineSeconds"),
    ) {
        (Some(new), Some(old)) if new > old => {
            errors.invalid(path, new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            errors.invalid(
                path,
                Value::Null,
                "must not update from a positive integer to nil value",
            );
        }
        _ => {}
    }
}

fn tolerations(errors: &mut Errors, new: &Value, old: &Value, path: &Field) {
    // How long a toleration lasts may change.
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        toleration
            .as_object_mut()
            .map(|toleration| toleration.remove("tolerationSeconds"));
        toleration
    };
    let kept: HashSet<Value> = list(new, "/tolerations").iter().map(without_seconds).collect();
    if list(old, "/tolerations")
        .iter()
        .any(|toleration| !kept.contains(&without_seconds(toleration)))
    {
        errors.forbidden(
            path,
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

fn scheduling_gates(errors: &mut Errors, new: &Value, old: &Value, path: &Field) {
    let before = list(old, "/schedulingGates");
    for (index, gate) in list(new, "/schedulingGates").iter().enumerate() {
        if !before.contains(gate) {
            let detail = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                text(gate, "/name")
            );
            errors.forbidden(&path.index(index), &detail);
        }
    }
}

/// They may come, by a subresource of their own; none changes or goes.
fn ephemeral_containers(errors: &mut Errors, new: &Value, old: &Value, path: &Field) {
    for before in list(old, "/ephemeralContainers") {
        let name = text(before, "/name");
        let found = list(new, "/ephemeralContainers")
            .iter()
            .find(|container| text(container, "/name") == name);
        let what = match found {
            None => "removed",
            Some(found) if without_empty(found) != without_empty(before) => "changed",
            Some(_) => continue,
        };
        errors.forbidden(
            path,
            &format!("existing ephemeral containers {name:?} may not be {what}"),
        );
    }
}

/// The new spec, with the old one's values in the fields that may change.
fn with_changeable_fields_of(old: &Value, new: &Value) -> Value {
    let mut spec = new.clone();
    for group in ["/containers", "/initContainers"] {
        for (container, old) in list_mut(&mut spec, group).zip(list(old, group)) {
            set(container, "image", text(old, "/image"));
        }
    }
    if int(old, "/terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0)
        && int(new, "/terminationGracePeriodSeconds") == Some(1)
    {
        set(
            &mut spec,
            "terminationGracePeriodSeconds",
            int(old, "/terminationGracePeriodSeconds"),
        );
    }
    if let Some(spec) = spec.as_object_mut() {
        for field in [
            "activeDeadlineSeconds",
            "tolerations",
            "schedulingGates",
            "ephemeralContainers",
        ] {
            match old.get(field) {
                Some(value) => spec.insert(field.to_owned(), value.clone()),
                None => spec.remove(field),
            };
        }
    }
    spec
}

/// A value without its empty objects: `nodeSelector: {}` is as good as none.
fn without_empty(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), without_empty(value)))
            .filter(|(_, value)| value.as_object().is_none_or(|map| !map.is_empty()))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(list) => list.iter().map(without_empty).collect(),
        other => other.clone(),
    }
}

/// Paths of the fields in which two values differ.
fn differences(new: &Value, old: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect_differences(new, old, "spec", &mut found);
    found
}

fn collect_differences(new: &Value, old: &Value, path: &str, found: &mut Vec<String>) {
    match (new, old) {
        _ if new == old => {}
        (Value::Object(new), Value::Object(old)) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                let null = Value::Null;
                let (new, old) = (new.get(key).unwrap_or(&null), old.get(key).unwrap_or(&null));
                collect_differences(new, old, &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(new), Value::Array(old)) if new.len() == old.len() => {
            for (index, (new, old)) in new.iter().zip(old).enumerate() {
                collect_differences(new, old, &format!("{path}[{index}]"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}
