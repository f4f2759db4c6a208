//! OpenAPI v2 (Swagger): one document for everything.

use std::collections::BTreeSet;

use kinds::Kind;
use serde_json::{Map, Value, json};

use crate::KUBERNETES_VERSION;
use crate::definitions::{self, PATCH, V3_PREFIX};
use crate::operations::{self, Operation};

const PREFIX: &str = "#/definitions/";

pub(crate) fn document(custom: &[Kind]) -> Value {
    let group_versions: BTreeSet<_> = definitions::every(custom)
        .map(|kind| (kind.group(), kind.version()))
        .collect();
    let paths: Map<String, Value> = group_versions
        .into_iter()
        .flat_map(|(group, version)| operations::paths(group, version, custom))
        .map(|path| {
            let mut item = Map::new();
            let parameters: Vec<Value> = operations::path_parameters(&path.path)
                .map(|(name, description)| parameter("path", name, "string", description))
                .collect();
            if !parameters.is_empty() {
                item.insert("parameters".to_owned(), parameters.into());
            }
            for operation in &path.operations {
                item.insert(operation.method.to_owned(), operation_object(operation));
            }
            (path.path, Value::Object(item))
        })
        .collect();
    let of_custom: BTreeSet<String> = custom.iter().map(definitions::name).collect();
    let definitions: Map<String, Value> = definitions::all(custom)
        .into_iter()
        .map(|(name, mut definition)| {
            if of_custom.contains(&name) {
                crate::custom::downgrade(&mut definition);
            }
            downgrade(&mut definition);
            (name, definition)
        })
        .collect();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": paths,
        "definitions": definitions,
    })
}

/// From v3's form to v2's: references stand beside their description, and there is no `oneOf`. What isn't a
/// schema is let be: a property may have any name, `oneOf` too, and a default any value.
fn downgrade(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(all)) = map.remove("allOf") {
        map.extend(
            all.into_iter()
                .filter_map(|one| one.as_object().cloned())
                .flatten(),
        );
    }
    if map.remove("oneOf").is_some() {
        map.insert("type".to_owned(), "string".into());
    }
    if let Some(Value::String(reference)) = map.get_mut("$ref")
        && let Some(name) = reference.strip_prefix(V3_PREFIX)
    {
        *reference = format!("{PREFIX}{name}");
    }
    for (word, value) in map {
        match (word.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(downgrade),
            ("items" | "additionalProperties" | "not", schema) => downgrade(schema),
            ("anyOf", Value::Array(schemas)) => schemas.iter_mut().for_each(downgrade),
            _ => {}
        }
    }
}

fn operation_object(operation: &Operation) -> Value {
    let (group, version, kind) = &operation.target;
    let consumes: &[&str] = match &operation.body {
        Some(body) if body == PATCH && operation.custom => &[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
        ],
        Some(body) if body == PATCH => &[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ],
        _ => &["application/json"],
    };
    let mut parameters: Vec<Value> = operation
        .query
        .iter()
        .map(|(name, ty, description)| parameter("query", name, ty, description))
        .collect();
    if let Some(body) = &operation.body {
        parameters.push(json!({
            "in": "body",
            "name": "body",
            "required": operation.method != "delete",
            "schema": {"$ref": format!("{PREFIX}{body}")},
        }));
    }
    json!({
        "description": operation.description,
        "operationId": operation.id,
        "tags": [operation.tag],
        "consumes": consumes,
        "produces": ["application/json"],
        "schemes": ["https"],
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "schema": {"$ref": format!("{PREFIX}{}", operation.answer)}},
        },
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": definitions::group_version_kind(group, version, kind),
    })
}

fn parameter(place: &str, name: &str, ty: &str, description: &str) -> Value {
    let mut parameter = json!({"name": name, "in": place, "description": description, "type": ty});
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_that_are_named_like_words_of_schemas_stay() {
        let document = document(&[]);
        for (name, definition) in document["definitions"].as_object().unwrap() {
            for (property, schema) in definition["properties"].as_object().into_iter().flatten() {
                assert!(schema.is_object(), "{name}.{property}: {schema}");
            }
        }
        let schemas = "/definitions/io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let properties = &document.pointer(schemas).unwrap()["properties"];
        for property in ["allOf", "anyOf", "oneOf", "type", "items", "$ref"] {
            assert!(properties[property].is_object(), "{property}");
        }
    }
}
