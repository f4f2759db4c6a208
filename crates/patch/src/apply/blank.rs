//! An object before it has anything in it.

use serde_json::{Map, Value, json};

/// Parts that objects have before anything is in them: Kubernetes' types hold them, not references to them.
/// Who creates an object owns what it puts there, but not these.
const PARTS: [&str; 12] = [
    "jobTemplate",
    "loadBalancer",
    "metadata",
    "names",
    "resources",
    "scaleTargetRef",
    "source",
    "spec",
    "status",
    "strategy",
    "template",
    "updateStrategy",
];

/// Lists that are there before they have elements.
const LISTS: [&str; 3] = ["containers", "rules", "versions"];

/// The blank form of an object: only the parts of it that every object of its kind has.
pub(crate) fn blank(object: &Value) -> Value {
    let mut blank = parts(object);
    for field in ["apiVersion", "kind"] {
        if let Some(value) = object.get(field) {
            blank[field] = value.clone();
        }
    }
    blank
}

fn parts(object: &Value) -> Value {
    let mut blank = Map::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        if value.is_object() && PARTS.contains(&name.as_str()) {
            blank.insert(name.clone(), parts(value));
        } else if value.is_array() && LISTS.contains(&name.as_str()) {
            blank.insert(name.clone(), json!(null));
        }
    }
    Value::Object(blank)
}
