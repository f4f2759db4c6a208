//! The taints that a node's conditions give it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const NO_SCHEDULE: &str = "NoSchedule";
pub(super) const NO_EXECUTE: &str = "NoExecute";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Conditions that keep pods away while they are true.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// Whether this taint is one that conditions give and take.
fn is_ours(taint: &Taint) -> bool {
    let by_condition = [NOT_READY, UNREACHABLE, UNSCHEDULABLE];
    let by_pressure = PRESSURES.iter().map(|(_, key)| *key);
    match taint.effect.as_str() {
        NO_SCHEDULE => by_condition
            .into_iter()
            .chain(by_pressure)
            .any(|key| key == taint.key),
        NO_EXECUTE => [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()),
        _ => false,
    }
}

/// Whether a node isn't ready, whoever says so. One that never posted a status has nothing to lose.
pub(super) fn is_lost(node: &Node) -> bool {
    super::condition(node, "Ready").is_some_and(|ready| ready.status != "True")
}

/// Whether pods are being driven from a node, for it is lost.
pub(super) fn is_driven_out(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| taint.effect == NO_EXECUTE && [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()))
}

/// The taints as they should be; nothing when they are so. With `evict` false, as when no node at
/// all is ready and there is nowhere to go, pods are left where they are.
pub(super) fn wanted(node: &Node, evict: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let spec = node.spec.as_ref();
    let old = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let ready = super::condition(node, "Ready").map_or("Unknown", |ready| ready.status.as_str());
    let unready = match ready {
        "True" => None,
        "False" => Some(NOT_READY),
        _ if super::condition(node, "Ready").is_none() => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    };
    if let Some(key) = unready {
        wanted.push((key, NO_SCHEDULE));
        if evict {
            wanted.push((key, NO_EXECUTE));
        }
    }
    for (kind, key) in PRESSURES {
        if super::condition(node, kind).is_some_and(|condition| condition.status == "True") {
            wanted.push((key, NO_SCHEDULE));
        }
    }
    if spec.and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = old
        .iter()
        .filter(|taint| !is_ours(taint) || is_wanted(taint))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !taints
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect)
        {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    (taints != old).then_some(taints)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn node(ready: &str, spec: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": "a" },
            "spec": spec,
            "status": { "conditions": [{ "type": "Ready", "status": ready }] },
        }))
        .unwrap()
    }

    fn wanted_of(node: &Node, evict: bool) -> Option<Vec<String>> {
        let taints = wanted(node, evict, Timestamp::UNIX_EPOCH)?;
        Some(taints.iter().map(|t| format!("{}:{}", t.key, t.effect)).collect())
    }

    #[rstest]
    #[case("False", "node.kubernetes.io/not-ready")]
    #[case("Unknown", "node.kubernetes.io/unreachable")]
    fn a_node_that_is_not_ready_keeps_pods_away_and_drives_them_out(#[case] ready: &str, #[case] key: &str) {
        let both = Some(vec![format!("{key}:NoSchedule"), format!("{key}:NoExecute")]);
        assert_eq!(wanted_of(&node(ready, json!({})), true), both);
        let one = Some(vec![format!("{key}:NoSchedule")]);
        assert_eq!(wanted_of(&node(ready, json!({})), false), one);
    }

    #[test]
    fn a_ready_node_loses_our_taints_and_keeps_others() {
        assert_eq!(wanted_of(&node("True", json!({})), true), None);
        let taints = json!({ "taints": [
            { "key": "node.kubernetes.io/unreachable", "effect": "NoExecute" },
            { "key": "node.kubernetes.io/unreachable", "effect": "PreferNoSchedule" },
            { "key": "example/dedicated", "effect": "NoSchedule" },
        ] });
        let left = [
            "node.kubernetes.io/unreachable:PreferNoSchedule",
            "example/dedicated:NoSchedule",
        ];
        assert_eq!(wanted_of(&node("True", taints), true).unwrap(), left);
    }

    #[test]
    fn a_taint_keeps_the_time_at_which_it_came() {
        let mut node = node("Unknown", json!({}));
        let taints = wanted(&node, true, Timestamp::UNIX_EPOCH);
        node.spec.as_mut().unwrap().taints = taints;
        assert_eq!(wanted(&node, true, Timestamp::MAX), None);
    }

    #[test]
    fn cordoned_nodes_and_nodes_under_pressure_keep_pods_away() {
        let mut node = node("True", json!({ "unschedulable": true }));
        let pressure = json!({ "type": "DiskPressure", "status": "True" });
        let conditions = node.status.as_mut().unwrap().conditions.as_mut().unwrap();
        conditions.push(serde_json::from_value(pressure).unwrap());
        let expected = [
            "node.kubernetes.io/disk-pressure",
            "node.kubernetes.io/unschedulable",
        ];
        assert_eq!(
            wanted_of(&node, true).unwrap(),
            expected.map(|key| format!("{key}:NoSchedule"))
        );
    }

    #[test]
    fn a_node_that_never_spoke_is_not_ready() {
        let expected = ["node.kubernetes.io/not-ready:NoSchedule"];
        assert_eq!(wanted_of(&Node::default(), false).unwrap(), expected);
    }
}
