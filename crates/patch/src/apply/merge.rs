//! Merging what somebody applies into an object.

use serde_json::{Map, Value};

use super::element::Element;
use super::index::Index;
use super::shape::{Elements, Shape};

/// The object with an applied configuration in it. The configuration has been checked: its lists have their
/// keys, each once.
pub(crate) fn merge(shape: Shape, live: &Value, applied: &Value) -> Value {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) if !shape.is_atomic() => objects(shape, live, applied),
        (Value::Array(live), Value::Array(applied)) if shape.elements() != Elements::Atomic => {
            Value::Array(lists(shape, live, applied))
        }
        // Null has nothing in it: it takes nothing away from an object or a list that merges.
        (Value::Object(map), Value::Null) if !shape.is_atomic() && !map.is_empty() => live.clone(),
        (Value::Array(list), Value::Null) if shape.elements() != Elements::Atomic && !list.is_empty() => {
            live.clone()
        }
        _ => applied.clone(),
    }
}

fn objects(shape: Shape, live: &Map<String, Value>, applied: &Map<String, Value>) -> Value {
    let mut merged = live.clone();
    for (name, value) in applied {
        let value = match live.get(name) {
            Some(live) => merge(shape.field(name), live, value),
            None => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    Value::Object(merged)
}

/// Applied elements come in their own order. The others keep their place before the first of the applied ones
/// that they preceded, as far as that order allows.
fn lists(shape: Shape, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let (live_index, applied_index) = (Index::new(shape, live), Index::new(shape, applied));
    let step = |value: &Value| shape.step(value).ok();
    let is_applied = |value: &Value| step(value).is_some_and(|step| !applied_index.get(&step).is_empty());
    let merged = |step: &Element, value: &Value| match live_index.get(step) {
        [live] => merge(shape.element(), live, value),
        _ => value.clone(),
    };
    let steps: Vec<Option<Element>> = applied.iter().map(step).collect();
    let shared = |step: &Option<Element>| step.as_ref().is_some_and(|step| !live_index.get(step).is_empty());

    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let mut rest = live.iter().peekable();
    for (index, value) in applied.iter().enumerate() {
        // The next applied element that is in the live list as well: up to there, the live list's own go first.
        let next = steps[index..].iter().find(|step| shared(step)).cloned().flatten();
        while let Some(own) = rest.next_if(|own| next.is_none() || step(own) != next) {
            if !is_applied(own) {
                out.push(own.clone());
            }
        }
        out.push(
            steps[index]
                .as_ref()
                .map_or_else(|| value.clone(), |step| merged(step, value)),
        );
        if shared(&steps[index]) {
            // It was `next`; several live elements with its keys became one.
            rest.next();
        }
    }
    out.extend(rest.filter(|own| !is_applied(own)).cloned());
    out
}
