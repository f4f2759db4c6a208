//! The fields that an object has: what an applier owns of what it applies.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

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

/// The set of an object's fields, and what is wrong with it: each a path and the mistake.
pub(crate) fn fields_of(shape: Shape, object: &Value, duplicates: Duplicates) -> (Set, Vec<String>) {
    let mut walk = Walk {
        duplicates,
        path: String::new(),
        mistakes: Vec::new(),
    };
    let set = walk.collect(shape, object);
    (set, walk.mistakes)
}

struct Walk {
    duplicates: Duplicates,
    path: String,
    mistakes: Vec<String>,
}

impl Walk {
    fn collect(&mut self, shape: Shape, value: &Value) -> Set {
        match value {
            Value::Object(map) if !shape.is_atomic() => self.object(shape, map),
            Value::Array(list) if shape.elements() != Elements::Atomic => self.list(shape, list),
            _ => Set::leaf(),
        }
    }

    fn object(&mut self, shape: Shape, map: &Map<String, Value>) -> Set {
        let mut set = Set::default();
        for (name, value) in map {
            let element = Element::field(name);
            let mut child = self.below(shape.field(name), value, &element);
            if value.is_null() || value.as_object().is_some_and(Map::is_empty) {
                child.set_member();
            }
            set.put(element, child);
        }
        set
    }

    fn list(&mut self, shape: Shape, list: &[Value]) -> Set {
        let mut set = Set::default();
        let mut twice = BTreeSet::new();
        for item in list {
            let element = match shape.step(item) {
                Ok(element) => element,
                Err(why) => {
                    self.mistakes.push(format!("{}: {why}", self.path));
                    continue;
                }
            };
            if set.child(&element).is_some() {
                if self.duplicates == Duplicates::Refuse && !twice.contains(&element) {
                    let mistake = format!("{}: duplicate entries for key {element}", self.path);
                    self.mistakes.push(mistake);
                }
                twice.insert(element);
                continue;
            }
            let mut child = self.below(shape.element(), item, &element);
            child.set_member();
            set.put(element, child);
        }
        // Nobody can say which of them a field below belongs to.
        for element in twice {
            set.put(element, Set::leaf());
        }
        set
    }

    fn below(&mut self, shape: Shape, value: &Value, element: &Element) -> Set {
        let length = self.path.len();
        self.path.push_str(&element.to_string());
        let set = self.collect(shape, value);
        self.path.truncate(length);
        set
    }
}

/// A path with places in lists, as in `spec.containers[0].imagee`, spelt with keys as paths of sets are:
/// `.spec.containers[name="c"].imagee`.
pub fn spell(shape: Shape, object: &Value, path: &str) -> String {
    let mut spelt = String::new();
    let mut place = (shape, Some(object));
    for part in path.split('.') {
        let (name, places) = part.split_once('[').unwrap_or((part, ""));
        spelt.push('.');
        spelt.push_str(name);
        place = (place.0.field(name), place.1.and_then(|value| value.get(name)));
        for index in places.split('[').filter(|index| !index.is_empty()) {
            let index = index.trim_end_matches(']');
            let element = index.parse::<usize>().ok().and_then(|index| place.1?.get(index));
            let step = match element.map(|element| place.0.step(element)) {
                Some(Ok(step)) if place.0.elements() != Elements::Atomic => step.to_string(),
                _ => format!("[{index}]"),
            };
            spelt.push_str(&step);
            place = (place.0.element(), element);
        }
    }
    spelt
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_in_lists_are_spelt_with_their_keys() {
        let pod = json!({ "spec": { "containers": [{ "name": "c", "args": ["x"] }], "x": [[1]] } });
        let spell = |path| spell(Shape::of("", "v1", "Pod"), &pod, path);
        assert_eq!(
            spell("spec.containers[0].imagee"),
            ".spec.containers[name=\"c\"].imagee"
        );
        assert_eq!(
            spell("spec.containers[0].args[0]"),
            ".spec.containers[name=\"c\"].args[0]"
        );
        assert_eq!(spell("spec.x[0][7]"), ".spec.x[0][7]");
        assert_eq!(spell("a.b"), ".a.b");
    }

    #[test]
    fn every_mistake_is_named_once() {
        let pod = json!({
            "metadata": { "finalizers": ["a", "a", "a"] },
            "spec": { "containers": [{ "name": "c" }, { "image": "i" }, { "name": "c" }] },
        });
        let (_, mistakes) = fields_of(Shape::of("", "v1", "Pod"), &pod, Duplicates::Refuse);
        assert_eq!(
            mistakes,
            [
                ".metadata.finalizers: duplicate entries for key [=\"a\"]",
                ".spec.containers: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
                ".spec.containers: duplicate entries for key [name=\"c\"]",
            ]
        );
    }
}
