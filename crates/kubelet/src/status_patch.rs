//! The difference between the status that the API has and the one it shall
//! have, as a strategic merge patch. Conditions that others own stay theirs.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

use crate::conditions;

/// The fields that the kubelet writes, besides the conditions.
const FIELDS: [&str; 13] = [
    "observedGeneration",
    "phase",
    "reason",
    "message",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "qosClass",
];

/// Lists that merge by key, so that what is gone must be replaced outright.
const MERGED: [&str; 2] = ["hostIPs", "podIPs"];

/// What to send so that `before` becomes `after`; nothing if they agree.
pub(crate) fn patch(uid: &str, before: &PodStatus, after: &PodStatus) -> Option<Value> {
    let before = object(before);
    let after = object(after);
    let mut changes = Map::new();
    for field in FIELDS {
        let (old, new) = (before.get(field), after.get(field));
        if old == new {
            continue;
        }
        let mut value = new.cloned().unwrap_or(Value::Null);
        if let (true, Some(list), Value::Array(items)) = (MERGED.contains(&field), old, &mut value)
            && list.as_array().is_some_and(|l| !l.is_empty())
        {
            items.push(json!({"$patch": "replace"}));
        }
        changes.insert(field.to_owned(), value);
    }
    let conditions = changed_conditions(&before, &after);
    if !conditions.is_empty() {
        changes.insert("conditions".to_owned(), Value::Array(conditions));
    }
    if changes.is_empty() {
        return None;
    }
    // The uid makes sure that a pod of the same name, made since, isn't meant.
    Some(json!({"metadata": {"uid": uid}, "status": changes}))
}

fn object(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        // A status is a struct: it is an object, whatever is in it.
        _ => Map::new(),
    }
}

fn changed_conditions(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Value> {
    let list = |status: &Map<String, Value>| -> Vec<Value> {
        status
            .get("conditions")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let old = list(before);
    let of_type = |kind: &Value| old.iter().find(|c| c.get("type") == Some(kind));
    let mut changed = Vec::new();
    for mut condition in list(after) {
        let Some(kind) = condition.get("type").cloned() else {
            continue;
        };
        if !kind.as_str().is_some_and(|k| conditions::OWNED.contains(&k)) {
            continue;
        }
        let before = of_type(&kind);
        if before.is_some_and(|b| same(b, &condition)) {
            continue;
        }
        // Merging leaves what isn't mentioned: take back what is over.
        for field in ["reason", "message"] {
            let had = before.is_some_and(|b| b.get(field).is_some());
            if let (true, Value::Object(map)) = (had && condition.get(field).is_none(), &mut condition) {
                map.insert(field.to_owned(), Value::Null);
            }
        }
        changed.push(condition);
    }
    changed
}

/// Whether two conditions say the same. The generation alone is no news.
fn same(a: &Value, b: &Value) -> bool {
    ["status", "reason", "message"]
        .iter()
        .all(|field| a.get(field) == b.get(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn no_difference_is_no_patch() {
        let it = status(json!({"phase": "Running", "podIP": "10.244.1.2",
            "conditions": [{"type": "Ready", "status": "True"}]}));
        assert_eq!(patch("u", &it, &it), None);
    }

    #[test]
    fn only_differences_are_sent_and_others_conditions_left_alone() {
        let before = status(
            json!({"phase": "Pending", "hostIP": "172.30.0.11", "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"},
            {"type": "PodScheduled", "status": "True"},
            {"type": "example.com/gate", "status": "True"}]}),
        );
        let after = status(
            json!({"phase": "Running", "hostIP": "172.30.0.11", "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "PodScheduled", "status": "True"}]}),
        );
        insta::assert_snapshot!(patch("u", &before, &after).unwrap().to_string(),
            @r#"{"metadata":{"uid":"u"},"status":{"conditions":[{"message":null,"reason":null,"status":"True","type":"Ready"}],"phase":"Running"}}"#);
    }

    #[test]
    fn a_new_address_replaces_the_old_one() {
        let before = status(json!({"podIPs": [{"ip": "10.244.1.2"}]}));
        let after = status(json!({"podIPs": [{"ip": "10.244.1.9"}]}));
        insta::assert_snapshot!(patch("u", &before, &after).unwrap()["status"].to_string(),
            @r#"{"podIPs":[{"ip":"10.244.1.9"},{"$patch":"replace"}]}"#);
    }

    #[test]
    fn what_is_over_is_taken_back() {
        let before = status(json!({"reason": "Evicted", "podIP": "10.244.1.2"}));
        let after = status(json!({}));
        insta::assert_snapshot!(patch("u", &before, &after).unwrap()["status"].to_string(),
            @r#"{"podIP":null,"reason":null}"#);
    }
}
