//! Strategic merge patch: a merge patch that knows the API's lists.
//!
//! Objects merge field by field and null removes, as in a merge patch. Beyond that:
//!
//! | in the patch | meaning |
//! | --- | --- |
//! | a list of objects that the type merges | elements are matched by the merge key, others are kept |
//! | a list of scalars that the type merges | a set: what is new is added |
//! | any other list | replaces |
//! | `$patch: replace`, `delete`, `merge` | how this object (or, in an element, this list) is treated |
//! | `$retainKeys: [a, b]` | fields that aren't named are removed |
//! | `$deleteFromPrimitiveList/f: [x]` | `x` leaves the set `f` |
//! | `$setElementOrder/f: […]` | the order of `f`'s elements; others keep their place among them |

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::PatchError;
use crate::lists;
use crate::schema::{self, Field, Type};

pub(crate) const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// Applies a strategic merge patch to an object, by the list keys of its `apiVersion` and `kind`.
pub fn strategic(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (object, patch) else {
        return malformed("", "a strategic merge patch must be a JSON object");
    };
    if patch.get(PATCH).and_then(Value::as_str) == Some("delete") {
        return malformed(
            "",
            "$patch: delete can't remove the object itself; delete it instead",
        );
    }
    let mut changed = original.clone();
    merge_map(&mut changed, patch, root(object), "")?;
    Ok(Value::Object(changed))
}

/// The type of a whole object.
fn root(object: &Value) -> Option<&'static Type> {
    let (group, version) = match object["apiVersion"].as_str()? {
        version if !version.contains('/') => ("", version),
        group_version => group_version.split_once('/')?,
    };
    schema::find(&schema::definition_name(group, version, object["kind"].as_str()?))
}

/// Merges a patch into an object of a type.
pub(crate) fn merge_map(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    ty: Option<&'static Type>,
    path: &str,
) -> Result<(), PatchError> {
    match directive(patch, path)? {
        Some(Directive::Replace) => {
            *original = fresh_map(patch);
            return Ok(());
        }
        Some(Directive::Delete) => {
            original.clear();
            return Ok(());
        }
        Some(Directive::Merge) | None => {}
    }
    retain_keys(original, patch, path)?;
    for (key, to_delete) in with_prefix(patch, DELETE_PREFIX) {
        if let Some(Value::Array(list)) = original.get_mut(key) {
            let to_delete = array(to_delete, path, key, DELETE_PREFIX)?;
            let to_delete: HashSet<&Value> = to_delete.iter().collect();
            list.retain(|item| !to_delete.contains(item));
        }
    }
    for (key, value) in patch.iter().filter(|(key, _)| !is_directive(key)) {
        let field = ty.and_then(|ty| ty.field(key));
        let order = patch.get(&format!("{ORDER_PREFIX}{key}"));
        let order = order
            .map(|order| array(order, path, key, ORDER_PREFIX))
            .transpose()?;
        merge_field(original, key, value, field, order, &child(path, key))?;
    }
    // An order without a list beside it only moves elements.
    for (key, order) in with_prefix(patch, ORDER_PREFIX).filter(|(key, _)| !patch.contains_key(*key)) {
        let order = array(order, path, key, ORDER_PREFIX)?;
        if let Some(Value::Array(list)) = original.get_mut(key) {
            let merge_key = ty.and_then(|ty| ty.field(key)).and_then(|field| field.merge_key);
            let before = list.clone();
            lists::set_order(list, order, &before, merge_key);
        }
    }
    Ok(())
}

fn merge_field(
    original: &mut Map<String, Value>,
    key: &str,
    value: &Value,
    field: Option<&'static Field>,
    order: Option<&[Value]>,
    path: &str,
) -> Result<(), PatchError> {
    let ty = field.and_then(Field::ty);
    match (original.get_mut(key), value) {
        (_, Value::Null) => {
            original.remove(key);
        }
        (Some(Value::Object(original)), Value::Object(patch)) => merge_map(original, patch, ty, path)?,
        (Some(Value::Array(list)), Value::Array(patch)) if field.is_some_and(|field| field.merges) => {
            let merge_key = field.and_then(|field| field.merge_key);
            if let Some(order) = order {
                lists::check_order(patch, order, merge_key, path)?;
            }
            let before = list.clone();
            match field.filter(|field| field.merge_key.is_some()) {
                Some(field) => lists::merge_objects(list, patch, field, path)?,
                None => lists::merge_scalars(list, patch, path)?,
            }
            lists::set_order(list, order.unwrap_or(patch), &before, merge_key);
        }
        _ => match fresh(value) {
            Some(value) => {
                original.insert(key.to_owned(), value);
            }
            None => {
                original.remove(key);
            }
        },
    }
    Ok(())
}

/// `$patch` of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directive {
    Replace,
    Delete,
    Merge,
}

pub(crate) fn directive(patch: &Map<String, Value>, path: &str) -> Result<Option<Directive>, PatchError> {
    match patch.get(PATCH) {
        None => Ok(None),
        Some(Value::String(text)) if text == "replace" => Ok(Some(Directive::Replace)),
        Some(Value::String(text)) if text == "delete" => Ok(Some(Directive::Delete)),
        Some(Value::String(text)) if text == "merge" => Ok(Some(Directive::Merge)),
        Some(other) => malformed(
            path,
            format!("$patch must be replace, delete or merge, not {other}"),
        ),
    }
}

/// `$retainKeys`: removes every field that isn't named.
fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    path: &str,
) -> Result<(), PatchError> {
    let Some(retain) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let Some(retain) = retain.as_array() else {
        return malformed(path, "$retainKeys must be a list of field names");
    };
    let retain: HashSet<&str> = retain.iter().filter_map(Value::as_str).collect();
    let retained = |key: &str| retain.contains(key);
    let forgotten = patch
        .iter()
        .find(|(key, value)| !value.is_null() && !is_directive(key) && !retained(key));
    if let Some((key, _)) = forgotten {
        return malformed(
            path,
            format!("the patch sets {key}, but $retainKeys doesn't name it"),
        );
    }
    original.retain(|key, _| retained(key));
    Ok(())
}

fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(DELETE_PREFIX) || key.starts_with(ORDER_PREFIX)
}

fn with_prefix<'a>(
    patch: &'a Map<String, Value>,
    prefix: &'static str,
) -> impl Iterator<Item = (&'a str, &'a Value)> {
    patch
        .iter()
        .filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value)))
}

fn array<'a>(value: &'a Value, path: &str, key: &str, prefix: &str) -> Result<&'a [Value], PatchError> {
    match value {
        Value::Array(list) => Ok(list),
        _ => malformed(path, format!("{prefix}{key} must be a list")),
    }
}

/// A value that nothing is there to merge with: without directives and without nulls. None for an object
/// that says it is to be deleted.
pub(crate) fn fresh(value: &Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.get(PATCH).and_then(Value::as_str) == Some("delete") => None,
        Value::Object(map) => Some(Value::Object(fresh_map(map))),
        // Nulls inside lists are kept, as they'd be on create: decoding says what it thinks of them.
        Value::Array(list) => Some(Value::Array(list.iter().filter_map(fresh).collect())),
        other => Some(other.clone()),
    }
}

fn fresh_map(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter()
        .filter(|(key, value)| !value.is_null() && !is_directive(key))
        .filter_map(|(key, value)| Some((key.clone(), fresh(value)?)))
        .collect()
}

fn child(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

pub(crate) fn malformed<T>(path: &str, message: impl Into<String>) -> Result<T, PatchError> {
    let message = message.into();
    Err(PatchError::Malformed(if path.is_empty() {
        message
    } else {
        format!("{path}: {message}")
    }))
}
