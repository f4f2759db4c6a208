//! Which words of OpenAPI v3 a schema may have, and what Kubernetes' extensions of it need.

use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::custom::schema::{Additional, Schema, is_meta};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const UNSUPPORTED: [(&str, &str); 7] = [
    ("id", "id is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("$ref", "$ref is not supported"),
    ("$schema", "$schema is not supported"),
];

/// What holds for a schema because of where it stands.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    /// Why there can't be a default.
    no_default: Option<&'a str>,
    in_metadata: bool,
}

pub(crate) fn rules(errors: &mut Errors, schema: Schema<'_>, path: &Field) {
    check(errors, schema, path, Place::default(), true);
}

fn check(errors: &mut Errors, schema: Schema<'_>, path: &Field, place: Place<'_>, is_root: bool) {
    words(errors, schema, path, place);
    additional(errors, schema, path, place);
    for (name, property) in schema.properties() {
        let in_metadata = (is_root || schema.is_resource()) && is_meta(name);
        let reason = format!("in top-level {name}");
        let place = Place {
            no_default: if in_metadata && is_root {
                Some(&reason)
            } else {
                place.no_default
            },
            in_metadata: place.in_metadata || in_metadata,
        };
        check(
            errors,
            property,
            &path.child("properties").key(name),
            place,
            false,
        );
    }
    if let Some(not) = schema.schema("not") {
        check(errors, not, &path.child("not"), place, false);
    }
    for word in ["allOf", "oneOf", "anyOf"] {
        for (index, inner) in schema.schemas(word).enumerate() {
            check(errors, inner, &path.child(word).index(index), place, false);
        }
    }
    if let Some(items) = schema.items() {
        check(errors, items, &path.child("items"), place, false);
    }
    map_type(errors, schema, path);
    list_type(errors, schema, path);
    unique_elements(errors, schema, path);
}

fn words(errors: &mut Errors, schema: Schema<'_>, path: &Field, place: Place<'_>) {
    match schema.ty() {
        "" => {}
        "null" => {
            let detail = "type cannot be set to null, use nullable as an alternative";
            errors.forbidden(&path.child("type"), detail);
        }
        ty => errors.one_of(&path.child("type"), ty, &TYPES),
    }
    if let (Some(_), Some(reason)) = (schema.default(), place.no_default) {
        errors.forbidden(&path.child("default"), &format!("must not be set {reason}"));
    }
    for (word, detail) in UNSUPPORTED {
        if schema.get(word).is_some() {
            errors.forbidden(&path.child(word), detail);
        }
    }
    if schema.get("items").is_some_and(Value::is_array) {
        errors.forbidden(
            &path.child("items"),
            "items must be a schema object and not an array",
        );
    }
    if place.in_metadata && schema.is_resource() {
        let path = path.child("x-kubernetes-embedded-resource");
        errors.forbidden(&path, "must not be used inside of resource meta");
    }
    if schema.flag("uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.forbidden(&path.child("uniqueItems"), detail);
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let path = path.child("x-kubernetes-preserve-unknown-fields");
        errors.invalid(&path, false, "must be true or undefined");
    }
}

fn additional(errors: &mut Errors, schema: Schema<'_>, path: &Field, place: Place<'_>) {
    let path = path.child("additionalProperties");
    let has_properties = schema.properties().next().is_some();
    match schema.additional() {
        Additional::None | Additional::Allowed(true) => {}
        Additional::Allowed(false) | Additional::Of(_) if has_properties => {
            errors.forbidden(&path, "additionalProperties and properties are mutual exclusive");
        }
        Additional::Allowed(false) => {}
        Additional::Of(inner) => {
            let place = Place {
                no_default: match place.in_metadata {
                    true => Some("inside additionalProperties applying to object metadata"),
                    false => place.no_default,
                },
                ..place
            };
            check(errors, inner, &path, place, false);
        }
    }
}

fn map_type(errors: &mut Errors, schema: Schema<'_>, path: &Field) {
    let map_type = schema.text("x-kubernetes-map-type");
    if map_type.is_empty() {
        return;
    }
    let detail = "must be object if x-kubernetes-map-type is specified";
    match schema.ty() {
        "object" => {}
        "" => errors.required(&path.child("type"), detail),
        ty => errors.invalid(&path.child("type"), ty, detail),
    }
    errors.one_of(
        &path.child("x-kubernetes-map-type"),
        map_type,
        &["atomic", "granular"],
    );
}

fn list_type(errors: &mut Errors, schema: Schema<'_>, path: &Field) {
    let ty_path = path.child("type");
    let list_path = path.child("x-kubernetes-list-type");
    let keys_path = path.child("x-kubernetes-list-map-keys");
    let keys: Vec<&str> = schema.map_keys().collect();
    let list_type = schema.list_type();
    if !list_type.is_empty() {
        let detail = "must be array if x-kubernetes-list-type is specified";
        match schema.ty() {
            "array" => {}
            "" => errors.required(&ty_path, detail),
            ty => errors.invalid(&ty_path, ty, detail),
        }
        errors.one_of(&list_path, list_type, &["atomic", "set", "map"]);
    }
    match (list_type, keys.is_empty()) {
        ("map", false) => map_keys(errors, schema, &keys, path),
        ("map", true) => {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            errors.required(&keys_path, detail);
        }
        (_, true) => {}
        ("", false) => {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            errors.required(&list_path, detail);
        }
        (other, false) => {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            errors.invalid(&list_path, other, detail);
        }
    }
}

fn map_keys(errors: &mut Errors, schema: Schema<'_>, keys: &[&str], path: &Field) {
    let keys_path = path.child("x-kubernetes-list-map-keys");
    let Some(items) = schema.items() else {
        let detail = "must have a schema if x-kubernetes-list-type is map";
        return errors.required(&path.child("items"), detail);
    };
    let items_path = path.child("items");
    if items.ty() != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.invalid(&items_path.child("type"), items.ty(), detail);
    }
    for (index, key) in keys.iter().enumerate() {
        let property_path = items_path.child("properties").key(key);
        match items.property(key) {
            None => errors.invalid(
                &keys_path,
                keys.to_vec(),
                "entries must all be names of item properties",
            ),
            Some(property) if matches!(property.ty(), "array" | "object") => {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.invalid(&property_path.child("type"), property.ty(), detail);
            }
            Some(property) => {
                let required = items.texts("required").any(|required| required == *key);
                if !required && property.default().is_none() {
                    let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                    errors.required(&property_path.child("default"), detail);
                }
                if property.is_nullable() {
                    let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                    errors.forbidden(&property_path.child("nullable"), detail);
                }
            }
        }
        if keys[..index].contains(key) {
            errors.invalid(&keys_path, keys.to_vec(), "must not contain duplicate entries");
        }
    }
}

/// Elements of sets and maps can be told apart.
fn unique_elements(errors: &mut Errors, schema: Schema<'_>, path: &Field) {
    let list_type = schema.list_type();
    let (Some(items), true) = (schema.items(), matches!(list_type, "set" | "map")) else {
        return;
    };
    let path = path.child("items");
    if items.is_nullable() {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.forbidden(&path.child("nullable"), &detail);
    }
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let atomic = |word: &str, unset: bool| match items.text(word) {
        "" => unset,
        found => found == "atomic",
    };
    match (list_type, items.ty()) {
        ("set", "array") if !atomic("x-kubernetes-list-type", true) => {
            errors.invalid(&path.child("x-kubernetes-list-type"), items.list_type(), detail);
        }
        ("set", "object") if !atomic("x-kubernetes-map-type", false) => {
            let found = items.text("x-kubernetes-map-type");
            errors.invalid(&path.child("x-kubernetes-map-type"), found, detail);
        }
        _ => {}
    }
}
