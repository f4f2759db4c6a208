//! Taking fields out of an object.

use serde_json::{Map, Value};

use super::element::Element;
use super::set::Set;
use super::shape::{Elements, Shape};

/// The object without the fields of a set. What is left of an object or list that had something in it and has
/// nothing any more, goes as well.
pub(crate) fn remove(shape: Shape, value: &Value, set: &Set) -> Option<Value> {
    match value {
        Value::Object(map) if !map.is_empty() && !shape.is_atomic() => {
            let mut left = Map::new();
            for (name, value) in map {
                if let Some(value) = one(shape.field(name), value, set.child(&Element::field(name))) {
                    left.insert(name.clone(), value);
                }
            }
            (!left.is_empty()).then_some(Value::Object(left))
        }
        Value::Array(list) if !list.is_empty() && shape.elements() != Elements::Atomic => {
            let kept = list.iter().filter_map(|item| {
                let set = shape.step(item).ok().and_then(|step| set.child(&step));
                one(shape.element(), item, set)
            });
            let left: Vec<Value> = kept.collect();
            (!left.is_empty()).then_some(Value::Array(left))
        }
        value => Some(value.clone()),
    }
}

fn one(shape: Shape, value: &Value, set: Option<&Set>) -> Option<Value> {
    match set {
        None => Some(value.clone()),
        Some(set) if set.is_member() => None,
        Some(set) => remove(shape, value, set),
    }
}
