//! A list by its elements' keys.

use std::collections::BTreeMap;

use serde_json::Value;

use super::element::Element;
use super::shape::Shape;

/// The elements of a list that merges, by their keys. Stored lists may hold several with the same keys, and
/// what has no keys is left out: nobody can own it.
pub(crate) struct Index<'a>(BTreeMap<Element, Vec<&'a Value>>);

impl<'a> Index<'a> {
    pub(crate) fn new(shape: Shape, list: &'a [Value]) -> Index<'a> {
        let mut index: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
        for value in list {
            if let Ok(element) = shape.step(value) {
                index.entry(element).or_default().push(value);
            }
        }
        Index(index)
    }

    pub(crate) fn get(&self, element: &Element) -> &[&'a Value] {
        self.0.get(element).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Element, &[&'a Value])> {
        self.0
            .iter()
            .map(|(element, values)| (element, values.as_slice()))
    }
}
