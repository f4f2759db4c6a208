//! Objects as JSON values and as stored bytes.
//!
//! Stored bytes are what clients get: the API version, the kind, then `metadata` with `resourceVersion`
//! first, where the store writes the revision (see [`store::Value::stamped`]). So reads, lists and watches
//! send stored bytes as they are, to all who take JSON. Only of kinds that are kept in another version than
//! somebody asks for, or by rules that may have changed since, are they read and written anew.

use kinds::Kind;
use serde_json::{Map, Value};

use crate::status::Failure;

/// The text behind a JSON pointer, or nothing.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The list behind a JSON pointer; empty where there is none.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The object's metadata, to change it.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    child(object, "metadata")
}

/// A field that is an object itself; made so when it isn't.
pub(crate) fn child<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let child = &mut object[field];
    if !child.is_object() {
        *child = Value::Object(Map::new());
    }
    child.as_object_mut().expect("it was made an object above")
}

/// Sets a field, or removes it.
pub(crate) fn assign(object: &mut Value, field: &str, value: Option<&Value>) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    match value {
        Some(value) => object.insert(field.to_owned(), value.clone()),
        None => object.remove(field),
    };
}

/// Where the objects of a kind are kept, all of them or a namespace's.
pub(crate) fn prefix(kind: &Kind, namespace: Option<&str>) -> String {
    let group = match kind.kept_group() {
        "" => "core",
        group => group,
    };
    match namespace {
        Some(namespace) => format!("/registry/{group}/{}/{namespace}/", kind.plural()),
        None => format!("/registry/{group}/{}/", kind.plural()),
    }
}

pub(crate) fn key(kind: &Kind, namespace: Option<&str>, name: &str) -> String {
    prefix(kind, namespace) + name
}

/// The current time as objects hold it.
pub(crate) fn now() -> String {
    time_text(jiff::Timestamp::now())
}

pub(crate) fn time_text(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Reads stored bytes as they are.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::internal(format!("stored object: {error}")))
}

/// Reads stored bytes as an object of a kind, which may have another version than they.
pub(crate) fn read(kind: &Kind, bytes: &[u8]) -> Result<Value, Failure> {
    Ok(kind.read_kept(parse(bytes)?))
}

/// The object of a kind as it would be stored, for what isn't.
pub(crate) fn unstored(kind: &Kind, object: Value) -> bytes::Bytes {
    kind.write_kept(object).to_string().into()
}

/// An object of a kind to store, with the place for its revision.
pub(crate) fn encode(kind: &Kind, object: Value) -> store::Value {
    encode_kept(&kind.write_kept(object))
}

fn encode_kept(object: &Value) -> store::Value {
    let mut bytes = Vec::with_capacity(1024);
    bytes.push(b'{');
    for field in ["apiVersion", "kind"] {
        push_field(&mut bytes, field, &object[field]);
        bytes.push(b',');
    }
    bytes.extend_from_slice(b"\"metadata\":{\"resourceVersion\":\"");
    let stamp = bytes.len();
    bytes.push(b'"');
    for (field, value) in object["metadata"].as_object().into_iter().flatten() {
        if field != "resourceVersion" {
            bytes.push(b',');
            push_field(&mut bytes, field, value);
        }
    }
    bytes.push(b'}');
    for (field, value) in object.as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "apiVersion" | "kind" | "metadata") {
            bytes.push(b',');
            push_field(&mut bytes, field, value);
        }
    }
    bytes.push(b'}');
    store::Value::stamped(bytes, stamp)
}

fn push_field(bytes: &mut Vec<u8>, field: &str, value: &Value) {
    // Writing JSON to memory can't fail: keys are strings.
    let _ = serde_json::to_writer(&mut *bytes, field);
    bytes.push(b':');
    let _ = serde_json::to_writer(&mut *bytes, value);
}

/// The object with only its metadata.
pub(crate) fn partial(object: &Value) -> Value {
    serde_json::json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_encoded_object_gets_its_revision_and_keeps_everything_else() {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "a\"b", "resourceVersion": "old", "labels": { "x": "y" } },
            "spec": { "nodeName": "n" }, "status": {},
        });
        let bytes = encode_kept(&object).at(42);
        let mut expected = object;
        expected["metadata"]["resourceVersion"] = "42".into();
        assert_eq!(parse(&bytes).unwrap(), expected);
    }
}
