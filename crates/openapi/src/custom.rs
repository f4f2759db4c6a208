//! Schemas of kinds that CustomResourceDefinitions make.

use kinds::Kind;
use serde_json::{Map, Value, json};

use crate::definitions::V3_PREFIX;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The definition name, as in `com.example.stable.v1.CronTab`.
pub(crate) fn name(kind: &Kind) -> String {
    let mut labels: Vec<&str> = kind.group().split('.').collect();
    labels.reverse();
    format!("{}.{}.{}", labels.join("."), kind.version(), kind.kind())
}

/// The schema of a kind with what every object has, in OpenAPI v3's form.
pub(crate) fn definition(schema: &Value) -> Value {
    let mut schema = schema.clone();
    complete(&mut schema, true);
    schema
}

/// Adds type and metadata to whole objects.
fn complete(schema: &mut Value, is_resource: bool) {
    for word in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get_mut(word).filter(|schema| schema.is_object()) {
            complete(schema, is_embedded(schema));
        }
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(Map::values_mut) {
        complete(property, is_embedded(property));
    }
    if !is_resource {
        return;
    }
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let properties = &mut schema["properties"];
    properties["apiVersion"] = json!({
        "description": "The version of the API that this object is written in.",
        "type": "string",
    });
    properties["kind"] = json!({ "description": "What this object is.", "type": "string" });
    properties["metadata"] = json!({
        "description": "The object's name, labels and whatever else every object has.",
        "allOf": [{ "$ref": format!("{V3_PREFIX}{OBJECT_META}") }],
    });
}

fn is_embedded(schema: &Value) -> bool {
    schema["x-kubernetes-embedded-resource"] == true
}

/// What of a schema version 2 has words for. Clients of version 2 refuse what a schema with properties doesn't
/// name, so where more is allowed, none is named.
pub(crate) fn downgrade(schema: &mut Value) {
    let flag = |schema: &Value, word: &str| schema[word] == true;
    if let Some(required) = schema.get("required").and_then(Value::as_array) {
        // A null is refused by them as if it were missing.
        let nullable = |field: &Value| {
            let name = field.as_str().unwrap_or_default();
            schema["properties"][name]["nullable"] == true
        };
        let required: Vec<Value> = required
            .iter()
            .filter(|field| !nullable(field))
            .cloned()
            .collect();
        schema["required"] = required.into();
    }
    let open = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let any_type = flag(schema, "nullable") || flag(schema, "x-kubernetes-int-or-string");
    let Some(map) = schema.as_object_mut() else { return };
    for word in ["oneOf", "anyOf", "not", "nullable"] {
        map.remove(word);
    }
    // A reference in `allOf` is how version 3 describes one; everything else is a rule.
    let refers = map.get("allOf").is_some_and(|all| all[0].get("$ref").is_some());
    if !refers {
        map.remove("allOf");
    }
    if any_type {
        map.remove("type");
    }
    if any_type || open {
        for word in ["properties", "items", "additionalProperties", "required"] {
            map.remove(word);
        }
    }
    if map.get("additionalProperties").is_some_and(Value::is_boolean) {
        map.remove("additionalProperties");
    }
    if map.get("required").is_some_and(|required| *required == json!([])) {
        map.remove("required");
    }
    for word in ["items", "additionalProperties"] {
        if let Some(schema) = map.get_mut(word) {
            downgrade(schema);
        }
    }
    let properties = map.get_mut("properties").and_then(Value::as_object_mut);
    properties
        .into_iter()
        .flat_map(Map::values_mut)
        .for_each(downgrade);
}
