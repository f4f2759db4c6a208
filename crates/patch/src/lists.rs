//! Lists in strategic merge patches: matching elements by key, and their order.

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
    let mut replace = false;
    for (index, element) in patch.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Value::Object(element) = element else {
            return malformed(&path, format!("must be an object with the merge key {merge_key}"));
        };
        match directive(element, &path)? {
            Some(Directive::Delete) => {
                let key = key_of(element, merge_key, &path)?;
                list.retain(|item| item.get(merge_key) != Some(key));
            }
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
    for (element, path) in to_merge {
        match find_match(list, element, field) {
            Some(Value::Object(original)) => merge_map(original, element, field.ty(), &path)?,
            _ => list.extend(fresh(&Value::Object(element.clone()))),
        }
    }
    Ok(())
}

fn key_of<'a>(element: &'a Map<String, Value>, key: &str, path: &str) -> Result<&'a Value, PatchError> {
    match element.get(key) {
        Some(value) if !value.is_null() => Ok(value),
        _ => malformed(path, format!("does not contain declared merge key: {key}")),
    }
}

/// The element that a patch's element means: the one with the same merge key. Where several have it (port
/// 53 for TCP and for UDP), the first that agrees in what the patch says of the list's other keys.
fn find_match<'a>(list: &'a mut [Value], patch: &Map<String, Value>, field: &Field) -> Option<&'a mut Value> {
    let merge_key = field.merge_key?;
    let keys = match field.list {
        Some(List::Map(keys)) => keys,
        _ => &[],
    };
    let candidates: Vec<usize> = (0..list.len())
        .filter(|&index| list[index].get(merge_key) == patch.get(merge_key))
        .collect();
    let agrees = |index: &&usize| {
        keys.iter().all(|key| {
            patch
                .get(*key)
                .is_none_or(|value| list[**index].get(key) == Some(value))
        })
    };
    let index = *candidates.iter().find(agrees).or(candidates.first())?;
    list.get_mut(index)
}

/// Adds a patch's scalars to a set.
pub(crate) fn merge_scalars(list: &mut Vec<Value>, patch: &[Value], path: &str) -> Result<(), PatchError> {
    for item in patch {
        if item.is_object() || item.is_array() {
            return malformed(path, "must be a list of scalars");
        }
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
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
    let position =
        |list: &[Value], element: &Value| list.iter().position(|other| same(other, element, merge_key));
    let (mut ordered, others): (Vec<Value>, Vec<Value>) = std::mem::take(list)
        .into_iter()
        .partition(|element| position(order, element).is_some());
    ordered.sort_by_key(|element| position(order, element));

    let mut others = others.into_iter().peekable();
    for element in ordered {
        let place = position(before, &element);
        while let Some(other) = others.next_if(
            |other| matches!((position(before, other), place), (Some(other), Some(place)) if other < place),
        ) {
            list.push(other);
        }
        list.push(element);
    }
    list.extend(others);
}

fn same(a: &Value, b: &Value, merge_key: Option<&str>) -> bool {
    match merge_key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}
