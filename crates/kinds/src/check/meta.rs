//! Metadata: names, labels, annotations, owners and finalizers.

use std::collections::HashSet;

use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::names::{self, Check};
use crate::json::{at, entries, flag, list, text};

/// Annotations of an object may take this many bytes together.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// Checks `metadata`, of a new object or a changed one.
pub(crate) fn object(
    errors: &mut Errors,
    object: &Value,
    old: Option<&Value>,
    namespaced: bool,
    name: Check,
) {
    let path = Field::root().child("metadata");
    let meta = &object["metadata"];
    object_name(errors, meta, &path, name);
    namespace_of(errors, meta, &path, namespaced);
    content(errors, meta, &path);
    if let Some(old) = old {
        changed(errors, meta, &old["metadata"], &path);
    }
}

/// Checks the metadata of an object in another: it needs no name.
pub(crate) fn embedded(errors: &mut Errors, meta: &Value, path: &Field) {
    for field in ["name", "generateName", "namespace"] {
        let name = text(meta, &format!("/{field}"));
        if !name.is_empty() {
            errors.invalid_all(&path.child(field), name, names::path_segment(name));
        }
    }
    content(errors, meta, path);
}

fn content(errors: &mut Errors, meta: &Value, path: &Field) {
    labels(errors, meta, "/labels", &path.child("labels"));
    annotations(errors, meta, &path.child("annotations"));
    owners(errors, meta, &path.child("ownerReferences"));
    finalizers(errors, meta, &path.child("finalizers"));
}

fn object_name(errors: &mut Errors, meta: &Value, path: &Field, check: Check) {
    let prefix = text(meta, "/generateName");
    if !prefix.is_empty() {
        errors.invalid_all(
            &path.child("generateName"),
            prefix,
            check(&names::as_prefix(prefix)),
        );
    }
    match text(meta, "/name") {
        "" => errors.required(&path.child("name"), "name or generateName is required"),
        name => errors.invalid_all(&path.child("name"), name, check(name)),
    }
}

fn namespace_of(errors: &mut Errors, meta: &Value, path: &Field, namespaced: bool) {
    let path = path.child("namespace");
    match (namespaced, text(meta, "/namespace")) {
        (true, "") => errors.required(&path, ""),
        (true, namespace) => errors.invalid_all(&path, namespace, names::label(namespace)),
        (false, "") => {}
        (false, _) => errors.forbidden(&path, "not allowed on this type"),
    }
}

/// Checks a map of labels behind a pointer.
pub(crate) fn labels(errors: &mut Errors, value: &Value, pointer: &str, path: &Field) {
    for (key, value) in entries(value, pointer) {
        errors.invalid_all(path, key, names::qualified(key));
        let value = value.as_str().unwrap_or_default();
        errors.invalid_all(path, value, names::label_value(value));
    }
}

/// Checks `annotations`: any text, but not any amount of it.
pub(crate) fn annotations(errors: &mut Errors, meta: &Value, path: &Field) {
    let mut size = 0;
    for (key, value) in entries(meta, "/annotations") {
        errors.invalid_all(path, key, names::qualified(&key.to_lowercase()));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATIONS {
        errors.too_long(path, MAX_ANNOTATIONS);
    }
}

fn owners(errors: &mut Errors, meta: &Value, path: &Field) {
    let mut controller: Option<String> = None;
    for owner in list(meta, "/ownerReferences") {
        for (field, message) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if text(owner, &format!("/{field}")).is_empty() {
                errors.invalid(&path.child(field), "", message);
            }
        }
        if text(owner, "/apiVersion") == "v1" && text(owner, "/kind") == "Event" {
            errors.invalid(
                path,
                owner.clone(),
                "/v1, Kind=Event is disallowed from being an owner",
            );
        }
        if flag(owner, "/controller") {
            let this = format!("{}/{}", text(owner, "/kind"), text(owner, "/name"));
            match &controller {
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    errors.invalid(path, list(meta, "/ownerReferences").to_vec(), &detail);
                }
                None => controller = Some(this),
            }
        }
    }
}

fn finalizers(errors: &mut Errors, meta: &Value, path: &Field) {
    let finalizers = list(meta, "/finalizers");
    for finalizer in finalizers.iter().filter_map(Value::as_str) {
        errors.invalid_all(path, finalizer, names::qualified(finalizer));
        let standard = matches!(finalizer, "orphan" | "foregroundDeletion" | "kubernetes");
        if !standard && !finalizer.contains('/') && names::qualified(finalizer).is_empty() {
            errors.invalid(
                path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        errors.invalid(
            path,
            finalizers.to_vec(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}

fn changed(errors: &mut Errors, new: &Value, old: &Value, path: &Field) {
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let pointer = format!("/{field}");
        errors.immutable(&path.child(field), at(new, &pointer), at(old, &pointer));
    }
    if at(old, "/deletionTimestamp").is_some() {
        let before: HashSet<&Value> = list(old, "/finalizers").iter().collect();
        let added: Vec<_> = list(new, "/finalizers")
            .iter()
            .filter(|f| !before.contains(f))
            .map(Value::to_string)
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers [{}]",
                added.join(", ")
            );
            errors.forbidden(&path.child("finalizers"), &detail);
        }
    }
}
