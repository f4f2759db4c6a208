//! What isn't in the words of a schema, but in its extensions: unique elements of lists, whole objects in
//! objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::{meta, names};
use crate::decode;
use crate::json::text;
use crate::kind::DecodeError;

use super::schema::{Schema, keys_of};

/// Whether the elements of sets and maps are there once each.
pub(crate) fn unique(errors: &mut Errors, schema: Schema<'_>, path: &Field, value: &Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match (schema.property(name), schema.field(name)) {
                    (Some(property), _) => unique(errors, property, &path.child(name), value),
                    (None, Some(field)) => unique(errors, field, &path.key(name), value),
                    (None, None) => {}
                }
            }
        }
        Value::Array(list) => {
            elements(errors, schema, path, list);
            if let Some(items) = schema.items() {
                for (index, element) in list.iter().enumerate() {
                    unique(errors, items, &path.index(index), element);
                }
            }
        }
        _ => {}
    }
}

fn elements(errors: &mut Errors, schema: Schema<'_>, path: &Field, list: &[Value]) {
    let identity = |element: &Value| match schema.list_type() {
        "map" => keys_of(schema, element),
        _ => element.clone(),
    };
    if !matches!(schema.list_type(), "set" | "map") {
        return;
    }
    if schema.list_type() == "map" {
        let is_other = |element: &&Value| !element.is_object() && !element.is_null();
        if let Some(index) = list.iter().position(|element| is_other(&element)) {
            let detail = "must be an object for an array of list-type map";
            return errors.invalid(&path.index(index), list[index].clone(), detail);
        }
    }
    let mut seen: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    for (index, element) in list.iter().enumerate() {
        let identity = identity(element);
        let times = seen.entry(identity.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            errors.duplicate(&path.index(index), identity);
        }
    }
}

/// Reads the metadata of an object, and of the objects in it, as metadata; returns the paths of the fields that
/// aren't any.
pub(crate) fn read_metadata(
    schema: Schema<'_>,
    value: &mut Value,
    path: &str,
    is_resource: bool,
) -> Result<Vec<String>, DecodeError> {
    let mut unknown = Vec::new();
    if is_resource && let Some(metadata) = value.get_mut("metadata").filter(|metadata| !metadata.is_null()) {
        let prefix = format!("{path}metadata");
        let decoded = decode::typed::<ObjectMeta>(metadata).map_err(|error| within(&prefix, error))?;
        unknown.extend(decoded.unknown.iter().map(|field| format!("{prefix}.{field}")));
        *metadata = decoded.object;
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if let Some(field) = schema.field(name) {
                    let path = format!("{path}{name}.");
                    unknown.extend(read_metadata(field, value, &path, field.is_resource())?);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.items() {
                for (index, element) in list.iter_mut().enumerate() {
                    let path = format!("{}[{index}].", path.trim_end_matches('.'));
                    unknown.extend(read_metadata(items, element, &path, items.is_resource())?);
                }
            }
        }
        _ => {}
    }
    Ok(unknown)
}

fn within(prefix: &str, error: DecodeError) -> DecodeError {
    match error.path.as_str() {
        "" => DecodeError {
            path: prefix.to_owned(),
            message: error.message,
        },
        path => DecodeError {
            message: error
                .message
                .replacen(&format!(" {path}"), &format!(" {prefix}.{path}"), 1),
            path: format!("{prefix}.{path}"),
        },
    }
}

/// Checks the objects in an object.
pub(crate) fn resources(errors: &mut Errors, schema: Schema<'_>, path: &Field, value: &Value) {
    if schema.is_resource() && value.is_object() {
        resource(errors, path, value);
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match (schema.property(name), schema.field(name)) {
                    (Some(property), _) => resources(errors, property, &path.child(name), value),
                    (None, Some(field)) => resources(errors, field, &path.key(name), value),
                    (None, None) => {}
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.items() {
                for (index, element) in list.iter().enumerate() {
                    resources(errors, items, &path.index(index), element);
                }
            }
        }
        _ => {}
    }
}

fn resource(errors: &mut Errors, path: &Field, resource: &Value) {
    for name in ["apiVersion", "kind"] {
        let path = path.child(name);
        match resource.get(name) {
            None => errors.required(&path, ""),
            Some(Value::String(text)) if text.is_empty() => errors.invalid(&path, "", "must not be empty"),
            Some(Value::String(_)) => {}
            Some(other) => errors.invalid(&path, other.clone(), "must be a string"),
        }
    }
    let version = text(resource, "/apiVersion");
    if version.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {version}");
        errors.invalid(&path.child("apiVersion"), version, &detail);
    }
    let kind = text(resource, "/kind");
    let mistakes = names::label_1035(&kind.to_lowercase());
    if !kind.is_empty() && !mistakes.is_empty() {
        let detail = format!(
            "may have mixed case, but should otherwise match: {}",
            mistakes.join(",")
        );
        errors.invalid(&path.child("kind"), kind, &detail);
    }
    meta::embedded(errors, &resource["metadata"], &path.child("metadata"));
}
