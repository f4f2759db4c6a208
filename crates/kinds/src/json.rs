//! Short ways to read and fill JSON objects: defaults, validation and columns all walk untyped objects,
//! because they touch a few fields of many.

use serde_json::{Map, Value};

/// The value behind a JSON pointer; JSON null counts as absent.
pub(crate) fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    value.pointer(pointer).filter(|v| !v.is_null())
}

/// The string behind a JSON pointer, or the empty string.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The integer behind a JSON pointer.
pub(crate) fn int(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// The boolean behind a JSON pointer; absent is false.
pub(crate) fn flag(value: &Value, pointer: &str) -> bool {
    value
        .pointer(pointer)
        .and_then(Value::as_bool)
        .unwrap_or_default()
}

/// The list behind a JSON pointer; absent is empty.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The entries of the object behind a JSON pointer; absent is empty.
pub(crate) fn entries<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value
        .pointer(pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// The elements of the list behind a JSON pointer, to change them.
pub(crate) fn list_mut<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    value
        .pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// The object behind a JSON pointer, to change it, where there is one.
pub(crate) fn object_mut<'a>(value: &'a mut Value, pointer: &str) -> Option<&'a mut Map<String, Value>> {
    value.pointer_mut(pointer).and_then(Value::as_object_mut)
}

/// Sets a field that is absent or null.
pub(crate) fn set_default(object: &mut Value, field: &str, default: impl Into<Value>) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    match object.get(field) {
        Some(value) if !value.is_null() => {}
        _ => {
            object.insert(field.to_owned(), default.into());
        }
    }
}

/// Sets a string field that is absent, null or empty: Go's types don't tell these apart.
pub(crate) fn set_default_text(object: &mut Value, field: &str, default: &str) {
    if text(object, &format!("/{field}")).is_empty() {
        set(object, field, default);
    }
}

/// Sets a number that is absent, null or zero: Go's types don't tell these apart.
pub(crate) fn set_default_number(object: &mut Value, field: &str, default: i64) {
    if int(object, &format!("/{field}")).unwrap_or_default() == 0 {
        set(object, field, default);
    }
}

/// Sets a field.
pub(crate) fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(object) = object.as_object_mut() {
        object.insert(field.to_owned(), value.into());
    }
}
