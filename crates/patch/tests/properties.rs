//! What holds for every object and every patch.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// RFC 7386, section 2, word by word.
fn merge_model(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut result = target.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        if value.is_null() {
            result.remove(name);
        } else {
            let merged = merge_model(result.get(name).unwrap_or(&Value::Null), value);
            result.insert(name.clone(), merged);
        }
    }
    Value::Object(result)
}

fn element(key: &'static str, value: impl Into<Value>) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value.into())]))
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set("[a-f]", 0..6)
        .prop_map(|names| names.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

fn container(name: String) -> impl Strategy<Value = Value> {
    (
        names(),
        prop::collection::btree_set(1..100u16, 0..3),
        prop::option::of("[a-z]{1,4}"),
    )
        .prop_map(move |(env, ports, image)| {
            let mut container = json!({
                "name": name,
                "env": env.into_iter().map(|name| element("name", name)).collect::<Vec<_>>(),
                "ports": ports.into_iter().map(|port| element("containerPort", port)).collect::<Vec<_>>(),
            });
            if let Some(image) = image {
                container["image"] = image.into();
            }
            container
        })
}

fn pod() -> impl Strategy<Value = Value> {
    (
        names().prop_flat_map(|names| names.into_iter().map(container).collect::<Vec<_>>()),
        names(),
    )
        .prop_map(|(containers, finalizers)| {
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"finalizers": finalizers},
                "spec": {"containers": containers},
            })
        })
}

/// Ports of a container, several of one number among them.
fn ports(with_directives: bool) -> impl Strategy<Value = Vec<Value>> {
    let port = (
        1..4u16,
        prop::option::of(prop::sample::select(vec!["TCP", "UDP"])),
        prop::option::of("[ab]"),
        prop::bool::weighted(if with_directives { 0.2 } else { 0.0 }),
    );
    let port = port.prop_map(|(number, protocol, name, deleted)| {
        let mut port = element("containerPort", number);
        for (field, value) in [("protocol", protocol.map(str::to_owned)), ("name", name)] {
            if let Some(value) = value {
                port[field] = value.into();
            }
        }
        if deleted {
            port["$patch"] = "delete".into();
        }
        port
    });
    prop::collection::vec(port, 0..6)
}

/// What the patch of a list comes to, looked up one by one.
fn list_model(before: &[Value], patch: &[Value]) -> Vec<Value> {
    let number = |port: &Value| port["containerPort"].clone();
    let (deleted, merged): (Vec<&Value>, Vec<&Value>) =
        patch.iter().partition(|port| port.get("$patch").is_some());
    let mut list = before.to_vec();
    list.retain(|port| deleted.iter().all(|other| number(other) != number(port)));
    for change in merged {
        let same: Vec<usize> = (0..list.len())
            .filter(|i| number(&list[*i]) == number(change))
            .collect();
        let agrees = |i: &&usize| change["protocol"].is_null() || list[**i]["protocol"] == change["protocol"];
        match same.iter().find(agrees).or(same.first()) {
            Some(index) => {
                for (field, value) in change.as_object().unwrap() {
                    list[*index][field] = value.clone();
                }
            }
            None => list.push(change.clone()),
        }
    }
    let place = |list: &[Value], port: &Value| list.iter().position(|other| number(other) == number(port));
    let (mut named, others): (Vec<_>, Vec<_>) =
        list.into_iter().partition(|port| place(patch, port).is_some());
    named.sort_by_key(|port| place(patch, port));
    let mut result = Vec::new();
    let mut others = others.into_iter().peekable();
    for port in named {
        let own = place(before, &port);
        let precedes =
            |other: &Value| own.is_some_and(|own| place(before, other).is_some_and(|one| one < own));
        while let Some(other) = others.next_if(precedes) {
            result.push(other);
        }
        result.push(port);
    }
    result.extend(others);
    result
}

fn container_names(pod: &Value) -> Vec<&str> {
    pod["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect()
}

proptest! {
    #[test]
    fn merge_is_rfc_7386(target in any_json(), patch in any_json()) {
        prop_assert_eq!(patch::merge(&target, &patch), merge_model(&target, &patch));
    }

    #[test]
    fn an_empty_patch_changes_nothing(pod in pod()) {
        prop_assert_eq!(patch::strategic(&pod, &json!({})).unwrap(), pod.clone());
        prop_assert_eq!(patch::json(&pod, &json!([])).unwrap(), pod);
    }

    #[test]
    fn an_object_as_its_own_patch_changes_nothing(pod in pod()) {
        prop_assert_eq!(patch::strategic(&pod, &pod).unwrap(), pod);
    }

    #[test]
    fn patching_twice_is_patching_once(pod in pod(), other in pod()) {
        let once = patch::strategic(&pod, &other).unwrap();
        prop_assert_eq!(patch::strategic(&once, &other).unwrap(), once);
    }

    #[test]
    fn merged_lists_hold_both_sides_each_key_once(pod in pod(), other in pod()) {
        let merged = patch::strategic(&pod, &other).unwrap();
        let names = container_names(&merged);
        let unique: BTreeSet<_> = names.iter().copied().collect();
        let both: BTreeSet<_> = container_names(&pod).into_iter().chain(container_names(&other)).collect();
        prop_assert_eq!(names.len(), unique.len());
        prop_assert_eq!(unique, both);
    }

    #[test]
    fn the_order_directive_orders_and_loses_nothing(pod in pod(), order in names()) {
        let directive: Vec<Value> = order.iter().map(|name| element("name", name.as_str())).collect();
        let patch = json!({"spec": {"$setElementOrder/containers": directive}});
        let changed = patch::strategic(&pod, &patch).unwrap();
        let names = container_names(&changed);
        let ordered: Vec<_> = names.iter().filter(|name| order.iter().any(|other| other == *name)).collect();
        let expected: Vec<_> = order.iter().filter(|name| names.contains(&name.as_str())).collect();
        prop_assert_eq!(ordered, expected);
        let mut sorted = names.clone();
        let mut before = container_names(&pod);
        sorted.sort_unstable();
        before.sort_unstable();
        prop_assert_eq!(sorted, before);
    }

    #[test]
    fn a_lists_elements_are_found_as_by_looking_at_each(before in ports(false), patch in ports(true)) {
        let pod = |ports: &[Value]| json!({"apiVersion": "v1", "kind": "Pod",
            "spec": {"containers": [{"name": "a", "ports": ports}]}});
        let changed = patch::strategic(&pod(&before), &pod(&patch)).unwrap();
        prop_assert_eq!(
            &changed["spec"]["containers"][0]["ports"],
            &Value::from(list_model(&before, &patch))
        );
    }

    #[test]
    fn no_patch_panics(pod in pod(), patch in any_json()) {
        let _ = patch::strategic(&pod, &patch);
        let _ = patch::json(&pod, &patch);
    }
}
