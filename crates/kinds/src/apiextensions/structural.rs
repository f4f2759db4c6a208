//! What makes a schema structural: its structure stands outside of `allOf`, `anyOf`, `oneOf` and `not`.

use serde_json::json;

use super::spec;
use crate::check::errors::{Errors, Field};
use crate::custom::schema::{Additional, Schema};

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

pub(crate) fn rules(errors: &mut Errors, schema: Schema<'_>, path: &Field) {
    invariants(errors, schema, Level::Root, path);
    complete(errors, schema, schema, path);
}

fn invariants(errors: &mut Errors, schema: Schema<'_>, level: Level, path: &Field) {
    if schema.ty() == "array" && schema.get("items").is_none() {
        errors.required(&path.child("items"), "must be specified");
    }
    if let Some(items) = schema.items() {
        invariants(errors, items, Level::Item, &path.child("items"));
    }
    for (name, property) in schema.properties() {
        invariants(
            errors,
            property,
            Level::Field,
            &path.child("properties").key(name),
        );
    }
    let additional = path.child("additionalProperties");
    if !matches!(schema.additional(), Additional::None) {
        if level == Level::Root {
            errors.forbidden(&additional, "must not be used at the root");
        }
        if schema.is_resource() {
            errors.forbidden(
                &additional,
                "must not be used if x-kubernetes-embedded-resource is set",
            );
        }
    }
    if let Additional::Of(schema) = schema.additional() {
        invariants(errors, schema, Level::Field, &additional);
    }
    extensions(errors, schema, path);
    let (skip_any, skip_all) = int_or_string(schema);
    values(errors, schema, skip_any, skip_all, path);
    types(errors, schema, level, path);
    metadata(errors, schema, level, path);
}

fn extensions(errors: &mut Errors, schema: Schema<'_>, path: &Field) {
    if !schema.is_int_or_string() {
        return;
    }
    for (extension, set) in [
        ("x-kubernetes-preserve-unknown-fields", schema.preserves_unknown()),
        ("x-kubernetes-embedded-resource", schema.is_resource()),
    ] {
        if set {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.invalid(&path.child(extension), true, detail);
        }
    }
}

fn types(errors: &mut Errors, schema: Schema<'_>, level: Level, path: &Field) {
    let path = path.child("type");
    match (schema.ty(), level) {
        ("object", _) => {}
        (ty, _) if schema.is_resource() => {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            match ty {
                "" => errors.required(&path, detail),
                ty => errors.invalid(&path, ty, detail),
            }
        }
        ("", _) if schema.is_int_or_string() || schema.preserves_unknown() => {}
        ("", Level::Root) => errors.required(&path, "must not be empty at the root"),
        ("", Level::Item) => errors.required(&path, "must not be empty for specified array items"),
        ("", Level::Field) => errors.required(&path, "must not be empty for specified object fields"),
        (ty, Level::Root) => errors.invalid(&path, ty, "must be object at the root"),
        _ => {}
    }
}

fn metadata(errors: &mut Errors, schema: Schema<'_>, level: Level, path: &Field) {
    let is_resource = level == Level::Root || schema.is_resource();
    let properties = path.child("properties");
    let ty_of = |name: &str| schema.property(name).map(Schema::ty);
    if is_resource {
        for name in ["kind", "apiVersion"] {
            if let Some(ty) = ty_of(name).filter(|ty| *ty != "string") {
                errors.invalid(&properties.key(name).child("type"), ty, "must be string");
            }
        }
        if let Some(ty) = ty_of("metadata").filter(|ty| *ty != "object") {
            errors.invalid(&properties.key("metadata").child("type"), ty, "must be object");
        }
    }
    if level == Level::Root
        && let Some(metadata) = schema.property("metadata")
        && !only_names(metadata)
    {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.forbidden(&properties.key("metadata"), detail);
    }
    let empty = schema.properties().next().is_none();
    if schema.is_resource() && !schema.preserves_unknown() && empty {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.required(&properties, detail);
    }
}

fn only_names(metadata: Schema<'_>) -> bool {
    let structure = [
        "items",
        "additionalProperties",
        "nullable",
        "title",
        "description",
    ];
    let plain = structure.iter().all(|word| metadata.get(word).is_none());
    let extended = metadata
        .0
        .as_object()
        .is_some_and(|map| map.keys().any(|key| key.starts_with("x-kubernetes-")));
    plain
        && !extended
        && metadata
            .properties()
            .all(|(name, _)| matches!(name.as_str(), "name" | "generateName"))
}

/// The two ways to say that there is an integer or a text, which may stand in `anyOf` or `allOf`.
fn int_or_string(schema: Schema<'_>) -> (bool, bool) {
    let pattern = json!([{ "type": "integer" }, { "type": "string" }]);
    let is_pattern = |schema: Schema<'_>| schema.get("anyOf") == Some(&pattern);
    let first = schema.schemas("allOf").next();
    (is_pattern(schema), first.is_some_and(is_pattern))
}

/// What a value must be besides its type: in here nothing is structure.
fn values(errors: &mut Errors, schema: Schema<'_>, skip_any: bool, skip_all: bool, path: &Field) {
    for word in ["anyOf", "allOf", "oneOf"] {
        if word == "anyOf" && skip_any {
            continue;
        }
        for (index, inner) in schema.schemas(word).enumerate() {
            let skip_any = word == "allOf" && skip_all && index == 0;
            nested(errors, inner, skip_any, &path.child(word).index(index));
        }
    }
    if let Some(not) = schema.schema("not") {
        nested(errors, not, false, &path.child("not"));
    }
    let pattern = schema.text("pattern");
    if !pattern.is_empty() {
        spec::pattern(errors, pattern, &path.child("pattern"));
    }
}

fn nested(errors: &mut Errors, schema: Schema<'_>, skip_any: bool, path: &Field) {
    values(errors, schema, skip_any, false, path);
    if let Some(items) = schema.items() {
        nested(errors, items, false, &path.child("items"));
    }
    for (name, property) in schema.properties() {
        nested(errors, property, false, &path.child("properties").key(name));
    }
    for (word, must) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        if schema.get(word).is_some() {
            errors.forbidden(&path.child(word), must);
        }
    }
    for word in [
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    ] {
        if schema.flag(word) {
            errors.forbidden(&path.child(word), "must be false to be structural");
        }
    }
    if schema.property("metadata").is_some() {
        let path = path.child("properties").key("metadata");
        errors.forbidden(&path, "must not be specified in a nested context");
    }
}

/// Every field that a nested schema speaks of must be there in the structure.
fn complete(errors: &mut Errors, values: Schema<'_>, structure: Schema<'_>, path: &Field) {
    for (name, property) in values.properties() {
        if let Some(structure) = structure.field(name) {
            complete(errors, property, structure, &path.child("properties").key(name));
        }
    }
    if let (Some(items), Some(structure)) = (values.items(), structure.items()) {
        complete(errors, items, structure, &path.child("items"));
    }
    if let Additional::Of(schema) = values.additional() {
        complete(errors, schema, schema, &path.child("additionalProperties"));
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in values.schemas(word).enumerate() {
            specified(
                errors,
                inner,
                Some(structure),
                &path.child(word).index(index),
                path,
            );
        }
    }
    if let Some(not) = values.schema("not") {
        specified(errors, not, Some(structure), &path.child("not"), path);
    }
}

/// `path` is where the nested schema stands, `main` where its structure should.
fn specified(
    errors: &mut Errors,
    nested: Schema<'_>,
    structure: Option<Schema<'_>>,
    path: &Field,
    main: &Field,
) {
    let Some(structure) = structure else {
        let detail = format!("because it is defined in {path}");
        return errors.required(main, &detail);
    };
    for (name, property) in nested.properties() {
        let (path, main) = (
            path.child("properties").key(name),
            main.child("properties").key(name),
        );
        specified(errors, property, structure.property(name), &path, &main);
    }
    if let Some(items) = nested.items() {
        specified(
            errors,
            items,
            structure.items(),
            &path.child("items"),
            &main.child("items"),
        );
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in nested.schemas(word).enumerate() {
            specified(
                errors,
                inner,
                Some(structure),
                &path.child(word).index(index),
                main,
            );
        }
    }
    if let Some(not) = nested.schema("not") {
        specified(errors, not, Some(structure), &path.child("not"), main);
    }
}
