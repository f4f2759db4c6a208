//! What changed between two states of an object, field by field.

use serde_json::{Map, Value};

use super::element::Element;
use super::index::Index;
use super::set::Set;
use super::shape::{Elements, Shape};

/// The fields that differ.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) added: Set,
    pub(crate) modified: Set,
    pub(crate) removed: Set,
}

impl Comparison {
    fn put(&mut self, element: Element, below: Comparison) {
        self.added.put(element.clone(), below.added);
        self.modified.put(element.clone(), below.modified);
        self.removed.put(element, below.removed);
    }
}

/// Compares two states of what stands at a place; at least one of them is there.
pub(crate) fn compare(shape: Shape, old: Option<&Value>, new: Option<&Value>) -> Comparison {
    if old == new {
        return Comparison::default();
    }
    let mut comparison = Comparison::default();
    // Null is there, but has nothing in it.
    match (content(old), content(new)) {
        (Content::Object(old), Content::Object(new)) if !shape.is_atomic() => {
            objects(shape, old, new, &mut comparison);
        }
        (Content::Object(old), Content::Nothing) if !shape.is_atomic() && !old.is_empty() => {
            objects(shape, old, &Map::new(), &mut comparison);
        }
        (Content::Nothing, Content::Object(new)) if !shape.is_atomic() && !new.is_empty() => {
            objects(shape, &Map::new(), new, &mut comparison);
        }
        (Content::List(old), Content::List(new)) if shape.elements() != Elements::Atomic => {
            lists(shape, old, new, &mut comparison);
        }
        (Content::List(old), Content::Nothing) if shape.elements() != Elements::Atomic && !old.is_empty() => {
            lists(shape, old, &[], &mut comparison);
        }
        (Content::Nothing, Content::List(new)) if shape.elements() != Elements::Atomic && !new.is_empty() => {
            lists(shape, &[], new, &mut comparison);
        }
        _ if old.is_some() && new.is_some() => comparison.modified.set_member(),
        _ => {}
    }
    match (old, new) {
        (None, _) => comparison.added.set_member(),
        (_, None) => comparison.removed.set_member(),
        _ => {}
    }
    comparison
}

enum Content<'a> {
    Object(&'a Map<String, Value>),
    List(&'a [Value]),
    Scalar,
    Nothing,
}

fn content(value: Option<&Value>) -> Content<'_> {
    match value {
        Some(Value::Object(map)) => Content::Object(map),
        Some(Value::Array(list)) => Content::List(list),
        Some(Value::Null) | None => Content::Nothing,
        Some(_) => Content::Scalar,
    }
}

fn objects(shape: Shape, old: &Map<String, Value>, new: &Map<String, Value>, comparison: &mut Comparison) {
    for (name, value) in old {
        let below = compare(shape.field(name), Some(value), new.get(name));
        comparison.put(Element::field(name), below);
    }
    for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        comparison.put(
            Element::field(name),
            compare(shape.field(name), None, Some(value)),
        );
    }
}

fn lists(shape: Shape, old: &[Value], new: &[Value], comparison: &mut Comparison) {
    let (old, new) = (Index::new(shape, old), Index::new(shape, new));
    for (element, before) in old.iter() {
        let after = new.get(element);
        let below = match (before, after) {
            ([before], []) => compare(shape.element(), Some(before), None),
            ([before], [after]) => compare(shape.element(), Some(before), Some(after)),
            (before, after) => several(before, after),
        };
        comparison.put(element.clone(), below);
    }
    for (element, after) in new.iter().filter(|(element, _)| old.get(element).is_empty()) {
        let below = match after {
            [after] => compare(shape.element(), None, Some(after)),
            after => several(&[], after),
        };
        comparison.put(element.clone(), below);
    }
}

/// Elements with the same keys change together or not at all.
fn several(old: &[&Value], new: &[&Value]) -> Comparison {
    let mut comparison = Comparison::default();
    match (old, new) {
        (old, new) if old == new => {}
        ([], _) => comparison.added.set_member(),
        (_, []) => comparison.removed.set_member(),
        _ => comparison.modified.set_member(),
    }
    comparison
}
