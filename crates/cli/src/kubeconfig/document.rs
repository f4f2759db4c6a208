//! A kubeconfig as a document: named entries in three lists.

use serde_json::{Map, Value, json};

const LISTS: [&str; 3] = ["clusters", "contexts", "users"];
const CURRENT: &str = "current-context";

/// `old` with the entries of `new` in place of those of the same name, `context` being current.
pub(crate) fn merge(old: Value, new: &Value, context: &str) -> Result<Value, String> {
    let mut merged = object(old)?;
    for list in LISTS {
        let entries = new.get(list).and_then(Value::as_array).into_iter().flatten();
        for entry in entries {
            let into = entries_of(&mut merged, list)?;
            match into.iter_mut().find(|other| name(other) == name(entry)) {
                Some(other) => *other = entry.clone(),
                None => into.push(entry.clone()),
            }
        }
    }
    merged.insert(CURRENT.to_owned(), context.into());
    Ok(Value::Object(merged))
}

/// `old` without the entries called `context`, in all three lists.
pub(crate) fn remove(old: Value, context: &str) -> Result<Value, String> {
    let mut rest = object(old)?;
    for list in LISTS {
        if rest.get(list).is_some_and(Value::is_array) {
            entries_of(&mut rest, list)?.retain(|entry| name(entry) != Some(context));
        }
    }
    if rest.get(CURRENT).and_then(Value::as_str) == Some(context) {
        rest.insert(CURRENT.to_owned(), "".into());
    }
    Ok(Value::Object(rest))
}

fn object(document: Value) -> Result<Map<String, Value>, String> {
    match document {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(json!({"apiVersion": "v1", "kind": "Config", "preferences": {}})
            .as_object()
            .cloned()
            .expect("it is one")),
        _ => Err("it isn't a kubeconfig".to_owned()),
    }
}

fn entries_of<'a>(map: &'a mut Map<String, Value>, list: &str) -> Result<&'a mut Vec<Value>, String> {
    let entries = map.entry(list).or_insert(Value::Null);
    if entries.is_null() {
        *entries = Value::Array(Vec::new());
    }
    entries
        .as_array_mut()
        .ok_or_else(|| format!("its `{list}` isn't a list"))
}

fn name(entry: &Value) -> Option<&str> {
    entry.get("name").and_then(Value::as_str)
}
