//! The rules of volumes.

use quantity::Quantity;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::json::{at, int, list, text};
use crate::pod::container::{local_path, no_backsteps};
use crate::pod::env::{field_ref, resource_ref};

const FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Checks `volumes`; returns the names of those that can be mounted.
pub(crate) fn volumes<'a>(errors: &mut Errors, spec: &'a Value, path: &Field) -> BTreeSet<&'a str> {
    let mut volumes = BTreeSet::new();
    for (index, volume) in list(spec, "/volumes").iter().enumerate() {
        let path = path.index(index);
        let name = text(volume, "/name");
        match name {
            "" => errors.required(&path.child("name"), ""),
            _ => errors.invalid_all(&path.child("name"), name, names::label(name)),
        }
        if !volumes.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        source(errors, volume, &path);
    }
    volumes
}

fn source(errors: &mut Errors, volume: &Value, path: &Field) {
    let sources: Vec<&String> = volume
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
        .filter(|key| *key != "name")
        .collect();
    if sources.is_empty() {
        errors.required(path, "must specify a volume type");
    }
    for second in sources.iter().skip(1) {
        errors.forbidden(&path.child(second), "may not specify more than 1 volume type");
    }
    let Some(kind) = sources.first() else { return };
    let path = path.child(kind);
    let source = &volume[kind.as_str()];
    match kind.as_str() {
        "emptyDir" => empty_dir(errors, source, &path),
        "configMap" => files(errors, source, "name", &path),
        "secret" => files(errors, source, "secretName", &path),
        "downwardAPI" => {
            mode(errors, source, "defaultMode", &path);
            downward(errors, source, &path.child("items"));
        }
        "projected" => projected(errors, source, &path),
        "persistentVolumeClaim" => required(errors, source, "claimName", &path),
        "csi" => required(errors, source, "driver", &path),
        _ => shared_source(errors, kind, source, &path),
    }
}

/// The sources that pods and PersistentVolumes describe alike.
pub(crate) fn shared_source(errors: &mut Errors, kind: &str, source: &Value, path: &Field) {
    match kind {
        "hostPath" => host_path(errors, source, path),
        "nfs" => {
            required(errors, source, "server", path);
            required(errors, source, "path", path);
        }
        _ => {}
    }
}

fn required(errors: &mut Errors, value: &Value, field: &str, path: &Field) {
    if text(value, &format!("/{field}")).is_empty() {
        errors.required(&path.child(field), "");
    }
}

fn mode(errors: &mut Errors, value: &Value, field: &str, path: &Field) {
    if let Some(mode) = int(value, &format!("/{field}")).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(
            &path.child(field),
            mode,
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

fn empty_dir(errors: &mut Errors, source: &Value, path: &Field) {
    let limit = Quantity::parse(text(source, "/sizeLimit"));
    if limit.is_ok_and(Quantity::is_negative) {
        errors.forbidden(
            &path.child("sizeLimit"),
            "SizeLimit field must be a valid resource quantity",
        );
    }
}

fn host_path(errors: &mut Errors, source: &Value, path: &Field) {
    required(errors, source, "path", path);
    no_backsteps(errors, text(source, "/path"), &path.child("path"));
    errors.one_of(&path.child("type"), text(source, "/type"), &HOST_PATH_TYPES);
}

/// Files made of a ConfigMap or Secret.
fn files(errors: &mut Errors, source: &Value, name: &str, path: &Field) {
    required(errors, source, name, path);
    mode(errors, source, "defaultMode", path);
    items(errors, source, &path.child("items"));
}

fn items(errors: &mut Errors, source: &Value, path: &Field) {
    for (index, item) in list(source, "/items").iter().enumerate() {
        let path = path.index(index);
        required(errors, item, "key", &path);
        required(errors, item, "path", &path);
        volume_path(errors, text(item, "/path"), &path.child("path"));
        mode(errors, item, "mode", &path);
    }
}

fn downward(errors: &mut Errors, source: &Value, path: &Field) {
    for (index, item) in list(source, "/items").iter().enumerate() {
        let path = path.index(index);
        required(errors, item, "path", &path);
        volume_path(errors, text(item, "/path"), &path.child("path"));
        mode(errors, item, "mode", &path);
        match (at(item, "/fieldRef"), at(item, "/resourceFieldRef")) {
            (None, None) => errors.required(&path, "one of fieldRef and resourceFieldRef is required"),
            (Some(_), Some(_)) => errors.invalid(
                &path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ),
            (Some(selector), None) => field_ref(errors, selector, &FIELDS, &path.child("fieldRef")),
            (None, Some(selector)) => resource_ref(errors, selector, true, &path.child("resourceFieldRef")),
        }
    }
}

/// A file's path in a volume. Names that start with two dots are the kubelet's own.
fn volume_path(errors: &mut Errors, path: &str, field: &Field) {
    local_path(errors, path, field);
    if path.starts_with("..") && !path.starts_with("../") {
        errors.invalid(field, path, "must not start with '..'");
    }
}

fn projected(errors: &mut Errors, source: &Value, path: &Field) {
    mode(errors, source, "defaultMode", path);
    let mut paths = BTreeSet::new();
    for (index, part) in list(source, "/sources").iter().enumerate() {
        let part_path = path.child("sources").index(index);
        for kind in ["configMap", "secret"] {
            if let Some(part) = at(part, &format!("/{kind}")) {
                required(errors, part, "name", &part_path.child(kind));
                items(errors, part, &part_path.child(kind).child("items"));
            }
        }
        if let Some(part) = at(part, "/downwardAPI") {
            downward(errors, part, &part_path.child("downwardAPI").child("items"));
        }
        if let Some(token) = at(part, "/serviceAccountToken") {
            service_account_token(errors, token, &part_path.child("serviceAccountToken"));
        }
        if part.as_object().is_some_and(|part| part.len() > 1) {
            errors.forbidden(&part_path, "may not specify more than 1 volume type per source");
        }
        for file in part
            .as_object()
            .into_iter()
            .flatten()
            .flat_map(|(_, part)| list(part, "/items"))
        {
            let file = text(file, "/path");
            if !file.is_empty() && !paths.insert(file) {
                errors.invalid(path, file, "conflicting duplicate paths");
            }
        }
    }
}

fn service_account_token(errors: &mut Errors, token: &Value, path: &Field) {
    required(errors, token, "path", path);
    volume_path(errors, text(token, "/path"), &path.child("path"));
    if let Some(seconds) = int(token, "/expirationSeconds").filter(|seconds| *seconds < 600) {
        errors.invalid(
            &path.child("expirationSeconds"),
            seconds,
            "may not specify a duration less than 10 minutes",
        );
    }
}
