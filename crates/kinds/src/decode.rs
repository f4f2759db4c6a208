//! Reading an object as its kind: a round trip through k8s-openapi's types, by Go's rules for null.

use go_json::{Go, ZERO_TIME};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::kind::{DecodeError, Decoded};
use crate::notes::note;

/// Reads an object as `T` and writes it back, with the fields of `T` only.
pub(crate) fn typed<T: Serialize + DeserializeOwned>(raw: &Value) -> Result<Decoded, DecodeError> {
    let typed: T = serde_path_to_error::deserialize(Go(raw)).map_err(|error| {
        let found = value_at(raw, error.path());
        refusal(&path_text(error.path()), found, &error.inner().to_string())
    })?;
    let mut object = serde_json::to_value(&typed).map_err(unwritable)?;
    let mut unknown = Vec::new();
    unknown_fields(raw, &object, &mut String::new(), &mut unknown);
    if has_empty_list(&object) {
        drop_empty_lists(&mut object);
        // Lists that the type always has come back on the way.
        let typed = T::deserialize(Go(&object)).map_err(unwritable)?;
        object = serde_json::to_value(&typed).map_err(unwritable)?;
    }
    unset_times(Some(raw), &mut object);
    Ok(Decoded { object, unknown })
}

fn unwritable(error: serde_json::Error) -> DecodeError {
    DecodeError {
        path: String::new(),
        message: format!("cannot write the object as JSON: {error}"),
    }
}

/// Words a refusal as Go's JSON decoder does, but with the field's path and what was expected there.
fn refusal(path: &str, found: Option<&Value>, serde_message: &str) -> DecodeError {
    let expected = serde_message
        .split_once(", expected ")
        .map(|(_, expected)| expected_text(expected));
    let message = match (found, expected) {
        (Some(found), Some(expected)) => {
            format!(
                "json: cannot unmarshal {} into field {path} of type {expected}",
                found_text(found)
            )
        }
        _ if path.is_empty() => format!("json: {serde_message}"),
        _ => format!("json: cannot unmarshal field {path}: {serde_message}"),
    };
    DecodeError {
        path: path.to_owned(),
        message,
    }
}

/// What came, as Go names it, with the value where it is short.
fn found_text(found: &Value) -> String {
    match found {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("bool {value}"),
        Value::Number(value) => format!("number {value}"),
        Value::String(value) if value.chars().count() <= 60 => format!("string {value:?}"),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// What was expected, as Go names it.
fn expected_text(expected: &str) -> &str {
    match expected {
        "i32" | "a 32-bit integer" => "int32",
        "i64" => "int64",
        "f64" => "float64",
        "a boolean" => "bool",
        "a string" => "string",
        "a sequence" => "array",
        "a map" => "object",
        other => other,
    }
}

fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            Segment::Map { key } => push_field(&mut text, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    text
}

fn value_at<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => Some(value),
    })
}

fn push_field(path: &mut String, field: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(field);
}

/// Kubernetes doesn't tell an empty list from none, and its Go clients drop empty ones when they write an
/// object back. Kept, they'd look like changes.
fn drop_empty_lists(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !is_empty_list(value));
            map.values_mut().for_each(drop_empty_lists);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_empty_lists),
        _ => {}
    }
}

/// Where nothing came and the type has a time all the same, null is written, as Go does.
fn unset_times(raw: Option<&Value>, typed: &mut Value) {
    match typed {
        Value::Object(map) => {
            for (field, value) in map {
                unset_times(raw.and_then(|raw| raw.get(field)), value);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                unset_times(raw.and_then(|raw| raw.get(index)), value);
            }
        }
        Value::String(text)
            if raw.is_none_or(Value::is_null) && text.starts_with(ZERO_TIME.trim_end_matches('Z')) =>
        {
            *typed = Value::Null
        }
        _ => {}
    }
}

fn has_empty_list(value: &Value) -> bool {
    match value {
        Value::Object(map) => map
            .values()
            .any(|value| is_empty_list(value) || has_empty_list(value)),
        Value::Array(list) => list.iter().any(has_empty_list),
        _ => false,
    }
}

fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// Collects the fields of `raw` that didn't survive the round trip. A null says nothing either way: an
/// absent optional field and an unknown one look the same afterwards, so nulls are never reported.
fn unknown_fields(raw: &Value, typed: &Value, path: &mut String, unknown: &mut Vec<String>) {
    let length = path.len();
    match (raw, typed) {
        (Value::Object(raw), Value::Object(typed)) => {
            for (field, value) in raw.iter().filter(|(_, value)| !value.is_null()) {
                push_field(path, field);
                match typed.get(field) {
                    Some(typed) => unknown_fields(value, typed, path, unknown),
                    None => note(unknown, path),
                }
                path.truncate(length);
            }
        }
        (Value::Array(raw), Value::Array(typed)) => {
            for (index, (value, typed)) in raw.iter().zip(typed).enumerate() {
                path.push_str(&format!("[{index}]"));
                unknown_fields(value, typed, path, unknown);
                path.truncate(length);
            }
        }
        _ => {}
    }
}
