//! Lists in strategic merge patches: matching elements by key, and their order.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::PatchError;
use crate::schema::{Field, List};
use crate::strategic::{Directive, PATCH, directive, fresh, malformed, merge_map};

/// Merges a patch's list of objects into a list whose elements are matched by the field's merge key.
pub(crate) fn merge_objects(
    list: &mut Vec<Value>,
    patch: &[Value],
    field: &'static Field,
    path: &str,
) -> Result<(), PatchError> {
    let merge_key = field.merge_key.unwrap_or_default();
    let mut to_merge = Vec::new();
    let mut to_delete = HashSet::new();
    let mut replace = false;
    for (index, element) in patch.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Value::Object(element) = element else {
            return malformed(&path, format!("must be an object with the merge key {merge_key}"));
        };
        match directive(element, &path)? {
            Some(Directive::Delete) => _ = to_delete.insert(key_of(element, merge_key, &path)?),
            // One such element replaces the whole list by the patch's others.
            Some(Directive::Replace) => replace = true,
            Some(Directive::Merge) | None => {
                key_of(element, merge_key, &path)?;
                to_merge.push((element, path));
            }
        }
    }
    if replace {
        // As they are: a node's addresses have its family's type twice.
        let elements = to_merge.into_iter();
        *list = elements
            .filter_map(|(element, _)| fresh(&Value::Object(element.clone())))
            .collect();
        return Ok(());
    }
    list.retain(|item| item.get(merge_key).is_none_or(|key| !to_delete.contains(key)));
    let mut places = places(list, merge_key);
    for (element, path) in to_merge {
        let key = key_of(element, merge_key, &path)?;
        let known = places.get(key).map(Vec::as_slice).unwrap_or_default();
        match find_match(list, known, element, field).map(|index| &mut list[index]) {
            Some(Value::Object(original)) => merge_map(original, element, field.ty(), &path)?,
            _ => {
                places.entry(key.clone()).or_default().push(list.len());
                list.extend(fresh(&Value::Object(element.clone())));
            }
        }
    }
    Ok(())
}

/// Where the elements are that have a key, by the key: looking for each of many would cost their square.
fn places(list: &[Value], merge_key: &str) -> HashMap<Value, Vec<usize>> {
    let mut places: HashMap<_, Vec<_>> = HashMap::new();
    for (index, element) in list.iter().enumerate() {
        if let Some(key) = element.get(merge_key) {
            places.entry(key.clone()).or_default().push(index);
        }
    }
    places
}

fn key_of<'a>(element: &'a Map<String, Value>, key: &str, path: &str) -> Result<&'a Value, PatchError> {
    match element.get(key) {
        Some(value) if !value.is_null() => Ok(value),
        _ => malformed(path, format!("does not contain declared merge key: {key}")),
    }
}

/// The element that a patch's element means, of those with the same merge key. Where several have it (port 53
/// for TCP and for UDP), the first that agrees in what the patch says of the list's other keys.
fn find_match(list: &[Value], places: &[usize], patch: &Map<String, Value>, field: &Field) -> Option<usize> {
    let keys = match field.list {
        Some(List::Map(keys)) => keys,
        _ => &[],
    };
    let agrees = |index: &&usize| {
        keys.iter().all(|key| {
            patch
                .get(*key)
                .is_none_or(|value| list[**index].get(key) == Some(value))
        })
    };
    places.iter().find(agrees).or(places.first()).copied()
}

/// Adds a patch's scalars to a set.
pub(crate) fn merge_scalars(list: &mut Vec<Value>, patch: &[Value], path: &str) -> Result<(), PatchError> {
    if patch.iter().any(|item| item.is_object() || item.is_array()) {
        return malformed(path, "must be a list of scalars");
    }
    let mut known: HashSet<&Value> = list.iter().collect();
    let new: Vec<Value> = patch.iter().filter(|item| known.insert(item)).cloned().collect();
    list.extend(new);
    Ok(())
}

/// A patch that comes with an order must keep to it.
pub(crate) fn check_order(
    patch: &[Value],
    order: &[Value],
    merge_key: Option<&str>,
    path: &str,
) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for element in patch.iter().filter(|element| element.get(PATCH).is_none()) {
        if !rest.any(|ordered| same(ordered, element, merge_key)) {
            return malformed(
                path,
                "the order in patch list doesn't match $setElementOrder list",
            );
        }
    }
    Ok(())
}

/// Puts a list's elements in the order of `order`. Elements that `order` doesn't name keep their place
/// before the first of the others that they preceded in `before`, the list as the server had it.
pub(crate) fn set_order(list: &mut Vec<Value>, order: &[Value], before: &[Value], merge_key: Option<&str>) {
    let (order, before) = (positions(order, merge_key), positions(before, merge_key));
    let place = |positions: &HashMap<&Value, usize>, element: &Value| {
        identity(element, merge_key).and_then(|identity| positions.get(identity).copied())
    };
    let (mut ordered, others): (Vec<Value>, Vec<Value>) = std::mem::take(list)
        .into_iter()
        .partition(|element| place(&order, element).is_some());
    ordered.sort_by_key(|element| place(&order, element));

    let mut others = others.into_iter().peekable();
    for element in ordered {
        let own = place(&before, &element);
        while let Some(other) = others
            .next_if(|other| matches!((place(&before, other), own), (Some(other), Some(own)) if other < own))
        {
            list.push(other);
        }
        list.push(element);
    }
    list.extend(others);
}

/// Where the first of each element is.
fn positions<'a>(list: &'a [Value], merge_key: Option<&str>) -> HashMap<&'a Value, usize> {
    let mut positions = HashMap::new();
    for (index, element) in list.iter().enumerate() {
        if let Some(identity) = identity(element, merge_key) {
            positions.entry(identity).or_insert(index);
        }
    }
    positions
}

/// What makes an element the same as another: its merge key, or all of it.
fn identity<'a>(element: &'a Value, merge_key: Option<&str>) -> Option<&'a Value> {
    match merge_key {
        Some(key) => element.get(key),
        None => Some(element),
    }
}

fn same(a: &Value, b: &Value, merge_key: Option<&str>) -> bool {
    let identity = identity(a, merge_key);
    identity.is_some() && identity == self::identity(b, merge_key)
}
