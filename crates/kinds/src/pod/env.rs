//! The rules of environment variables, and of what the downward API can tell.

use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::json::{at, list, text};

const SOURCES: [&str; 4] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"];
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Checks `env` and `envFrom`.
pub(crate) fn variables(errors: &mut Errors, container: &Value, path: &Field) {
    for (index, variable) in list(container, "/env").iter().enumerate() {
        let path = path.child("env").index(index);
        match text(variable, "/name") {
            "" => errors.required(&path.child("name"), ""),
            name => errors.invalid_all(&path.child("name"), name, names::environment(name)),
        }
        value_from(errors, variable, &path.child("valueFrom"));
    }
    for (index, source) in list(container, "/envFrom").iter().enumerate() {
        env_from(errors, source, &path.child("envFrom").index(index));
    }
}

fn value_from(errors: &mut Errors, variable: &Value, path: &Field) {
    let Some(source) = at(variable, "/valueFrom") else {
        return;
    };
    let present: Vec<_> = SOURCES
        .into_iter()
        .filter(|name| source.get(name).is_some())
        .collect();
    for name in &present {
        let path = path.child(name);
        match *name {
            "fieldRef" => field_ref(errors, &source["fieldRef"], &FIELDS, &path),
            "resourceFieldRef" => resource_ref(errors, &source["resourceFieldRef"], false, &path),
            key_ref => key_selector(errors, &source[key_ref], &path),
        }
    }
    if present.is_empty() && source.get("fileKeyRef").is_none() {
        errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        );
    } else if !text(variable, "/value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if present.len() > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

/// A key of a ConfigMap or Secret.
fn key_selector(errors: &mut Errors, selector: &Value, path: &Field) {
    match text(selector, "/key") {
        "" => errors.required(&path.child("key"), ""),
        key => errors.invalid_all(&path.child("key"), key, names::config_key(key)),
    }
}

/// A field of the pod.
pub(crate) fn field_ref(errors: &mut Errors, selector: &Value, fields: &[&str], path: &Field) {
    let field = text(selector, "/fieldPath");
    let subscript = field.strip_suffix("']").and_then(|field| field.split_once("['"));
    match (field, subscript) {
        ("", _) => errors.required(&path.child("fieldPath"), ""),
        (_, Some(("metadata.annotations", key))) => {
            errors.invalid_all(path, key, names::qualified(&key.to_lowercase()));
        }
        (_, Some(("metadata.labels", key))) => errors.invalid_all(path, key, names::qualified(key)),
        (_, Some((field, _))) => errors.invalid(path, field, "does not support subscript"),
        (field, None) => errors.one_of(&path.child("fieldPath"), field, fields),
    }
}

/// A container's limit or request.
pub(crate) fn resource_ref(errors: &mut Errors, selector: &Value, in_volume: bool, path: &Field) {
    if in_volume && text(selector, "/containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    }
    match text(selector, "/resource") {
        "" => errors.required(&path.child("resource"), ""),
        name if name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-") => {}
        name => errors.one_of(&path.child("resource"), name, &RESOURCES),
    }
}

fn env_from(errors: &mut Errors, source: &Value, path: &Field) {
    let prefix = text(source, "/prefix");
    if !prefix.is_empty() {
        errors.invalid_all(&path.child("prefix"), prefix, names::environment(prefix));
    }
    let present: Vec<_> = ["configMapRef", "secretRef"]
        .into_iter()
        .filter(|name| source.get(name).is_some())
        .collect();
    for name in &present {
        if text(&source[*name], "/name").is_empty() {
            errors.required(&path.child(name).child("name"), "");
        }
    }
    match present.len() {
        0 => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
        1 => {}
        _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
    }
}
