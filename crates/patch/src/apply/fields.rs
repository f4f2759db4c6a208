//! The fields that an object has: what an applier owns of what it applies.

use std::collections::BTreeSet;

use serde_json::Value;

use super::element::Element;
use super::set::Set;
use super::shape::{Elements, Shape};

/// What to think of a list that has elements with the same keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duplicates {
    /// Stored objects may have them: they count as one.
    Allow,
    Refuse,
}

/// The set of an object's fields. The error is a path and what is wrong there.
pub(crate) fn fields_of(shape: Shape, object: &Value, duplicates: Duplicates) -> Result<Set, String> {
    collect(shape, object, duplicates, &mut String::new())
}

fn collect(shape: Shape, value: &Value, duplicates: Duplicates, path: &mut String) -> Result<Set, String> {
    match value {
        Value::Object(_) if shape.is_atomic() => Ok(Set::leaf()),
        Value::Object(map) => {
            let mut set = Set::default();
            for (name, value) in map {
                let element = Element::field(name);
                let mut child = below(shape.field(name), value, duplicates, path, &element)?;
                if value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty) {
                    child.set_member();
                }
                set.put(element, child);
            }
            Ok(set)
        }
        Value::Array(_) if shape.elements() == Elements::Atomic => Ok(Set::leaf()),
        Value::Array(list) => list_fields(shape, list, duplicates, path),
        _ => Ok(Set::leaf()),
    }
}

fn list_fields(
    shape: Shape,
    list: &[Value],
    duplicates: Duplicates,
    path: &mut String,
) -> Result<Set, String> {
    let mut set = Set::default();
    let mut twice = BTreeSet::new();
    for item in list {
        let element = shape.step(item).map_err(|why| format!("{path}: {why}"))?;
        if set.child(&element).is_some() {
            if duplicates == Duplicates::Refuse {
                return Err(format!("{path}: duplicate entries for key {element}"));
            }
            twice.insert(element);
            continue;
        }
        let mut child = below(shape.element(), item, duplicates, path, &element)?;
        child.set_member();
        set.put(element, child);
    }
    // Nobody can say which of them a field below belongs to.
    for element in twice {
        set.put(element, Set::leaf());
    }
    Ok(set)
}

fn below(
    shape: Shape,
    value: &Value,
    duplicates: Duplicates,
    path: &mut String,
    element: &Element,
) -> Result<Set, String> {
    let length = path.len();
    path.push_str(&element.to_string());
    let set = collect(shape, value, duplicates, path);
    path.truncate(length);
    set
}
