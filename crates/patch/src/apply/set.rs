//! Sets of fields: what `managedFields` says that a manager owns.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::Element;

/// How deep a set that comes from outside may be: deeper than any object.
const MAX_DEPTH: usize = 128;

/// A set of fields, as a tree: each node says whether its own path belongs to the set, and holds what belongs
/// to it below. Children are never empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    member: bool,
    children: BTreeMap<Element, Set>,
}

impl Set {
    /// The set of nothing but the path at which this stands.
    pub(crate) fn leaf() -> Set {
        Set {
            member: true,
            children: BTreeMap::new(),
        }
    }

    /// Whether nothing belongs to the set.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    pub(crate) fn is_member(&self) -> bool {
        self.member
    }

    pub(crate) fn set_member(&mut self) {
        self.member = true;
    }

    pub(crate) fn without_member(mut self) -> Set {
        self.member = false;
        self
    }

    pub(crate) fn child(&self, element: &Element) -> Option<&Set> {
        self.children.get(element)
    }

    /// Puts a set below a step, in place of what was there.
    pub(crate) fn put(&mut self, element: Element, set: Set) {
        if !set.is_empty() {
            self.children.insert(element, set);
        }
    }

    pub(crate) fn take(&mut self, element: &Element) -> Option<Set> {
        self.children.remove(element)
    }

    pub(crate) fn union(mut self, other: Set) -> Set {
        self.member |= other.member;
        for (element, child) in other.children {
            let mine = self.children.remove(&element).unwrap_or_default();
            self.children.insert(element, mine.union(child));
        }
        self
    }

    /// What belongs to this set and not to the other, path by path: what lies below a path of the other stays.
    pub(crate) fn difference(&self, other: &Set) -> Set {
        let mut left = Set {
            member: self.member && !other.member,
            children: BTreeMap::new(),
        };
        for (element, child) in &self.children {
            let child = match other.children.get(element) {
                Some(other) => child.difference(other),
                None => child.clone(),
            };
            left.put(element.clone(), child);
        }
        left
    }

    pub(crate) fn intersection(&self, other: &Set) -> Set {
        let mut both = Set {
            member: self.member && other.member,
            children: BTreeMap::new(),
        };
        for (element, child) in &self.children {
            if let Some(other) = other.children.get(element) {
                both.put(element.clone(), child.intersection(other));
            }
        }
        both
    }

    /// The set with every field on the way to something that belongs to it. Elements of lists aren't fields:
    /// who owns a container's image doesn't own the container.
    pub(crate) fn with_fields_on_the_way(&self) -> Set {
        let children = self.children.iter().map(|(element, child)| {
            let mut child = child.with_fields_on_the_way();
            child.member |= element.as_field().is_some();
            (element.clone(), child)
        });
        Set {
            member: self.member,
            children: children.collect(),
        }
    }

    /// Every path of the set, as messages spell it.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, path: &mut String, paths: &mut Vec<String>) {
        if self.member {
            paths.push(path.clone());
        }
        for (element, child) in &self.children {
            let length = path.len();
            path.push_str(&element.to_string());
            child.collect_paths(path, paths);
            path.truncate(length);
        }
    }

    /// The set as `fieldsV1`.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            map.insert(element.as_str().to_owned(), child.to_json());
        }
        Value::Object(map)
    }

    /// Reads `fieldsV1`. None where it isn't that.
    pub fn from_json(json: &Value) -> Option<Set> {
        match json {
            Value::Object(map) if map.is_empty() => Some(Set::default()),
            // An object as a whole is nobody's.
            json => Set::child_from_json(json, MAX_DEPTH).map(Set::without_member),
        }
    }

    fn child_from_json(json: &Value, depth: usize) -> Option<Set> {
        let map = json.as_object()?;
        if map.is_empty() {
            return Some(Set::leaf());
        }
        let depth = depth.checked_sub(1)?;
        let mut set = Set::default();
        for (text, child) in map {
            if text == "." {
                set.member = true;
            } else {
                let child = Set::child_from_json(child, depth)?;
                set.put(Element::parse(text)?, child);
            }
        }
        Some(set)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_set_is_written_as_it_was_read() {
        let json = json!({
            "f:metadata": { "f:labels": { ".": {}, "f:app": {} } },
            "f:spec": { "f:containers": { r#"k:{"name":"c"}"#: { ".": {}, "f:image": {} } } },
        });
        let set = Set::from_json(&json).unwrap();
        assert_eq!(set.to_json(), json);
        assert_eq!(
            set.paths(),
            [
                ".metadata.labels",
                ".metadata.labels.app",
                ".spec.containers[name=\"c\"]",
                ".spec.containers[name=\"c\"].image"
            ]
        );
        assert_eq!(Set::from_json(&json!({ "spec": {} })), None);
        assert_eq!(Set::from_json(&json!({ "f:spec": 1 })), None);
    }

    #[test]
    fn fields_on_the_way_belong_but_elements_of_lists_do_not() {
        let set = Set::from_json(&json!({ "f:a": { r#"k:{"n":1}"#: { "f:b": { "f:c": {} } } } })).unwrap();
        let paths = set.with_fields_on_the_way().paths();
        assert_eq!(paths, [".a", ".a[n=1].b", ".a[n=1].b.c"]);
    }
}
