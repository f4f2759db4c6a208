//! Node selectors and node affinity.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PreferredSchedulingTerm,
};

/// Whether a node is one that the pod insists on.
pub(crate) fn is_required_match(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let labels = node.metadata.labels.as_ref();
    let has = |(key, value): (&String, &String)| labels.is_some_and(|labels| labels.get(key) == Some(value));
    if !spec.node_selector.iter().flatten().all(has) {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| {
        affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    required.is_none_or(|required| {
        required
            .node_selector_terms
            .iter()
            .any(|term| matches(term, node))
    })
}

/// The weights of the pod's preferences that a node meets.
pub(crate) fn preference(pod: &Pod, node: &Node) -> i64 {
    let affinity = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let preferred = affinity.and_then(|affinity| {
        affinity
            .preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let met = |term: &&PreferredSchedulingTerm| matches(&term.preference, node);
    preferred
        .into_iter()
        .flatten()
        .filter(met)
        .map(|term| i64::from(term.weight))
        .sum()
}

/// A term without any requirement matches nothing.
fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    expressions
        .iter()
        .all(|r| meets(r, labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| {
            let name = node.metadata.name.as_deref();
            meets(r, name.filter(|_| r.key == "metadata.name"))
        })
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|listed| listed == value);
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = || values.first().and_then(|text| number(text));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value
            .and_then(number)
            .zip(bound())
            .is_some_and(|(value, bound)| value > bound),
        "Lt" => value
            .and_then(number)
            .zip(bound())
            .is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn node() -> Node {
        serde_json::from_value(json!({ "metadata": {
            "name": "node-1", "labels": { "zone": "a", "disks": "4" } } }))
        .unwrap()
    }

    fn is_match(spec: Value) -> bool {
        let mut pod = json!({ "spec": { "containers": [] } });
        json_patch::merge(&mut pod["spec"], &spec);
        is_required_match(&serde_json::from_value(pod).unwrap(), &node())
    }

    fn required(terms: Value) -> Value {
        json!({ "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } } })
    }

    #[rstest]
    #[case(json!({ "zone": "a" }), true)]
    #[case(json!({ "zone": "a", "disks": "5" }), false)]
    #[case(json!({ "other": "a" }), false)]
    fn a_node_selector_wants_every_label(#[case] selector: Value, #[case] expected: bool) {
        assert_eq!(is_match(json!({ "nodeSelector": selector })), expected);
    }

    #[rstest]
    #[case("zone", "In", json!(["a", "b"]), true)]
    #[case("zone", "In", json!(["b"]), false)]
    #[case("zone", "NotIn", json!(["b"]), true)]
    #[case("other", "NotIn", json!(["b"]), true)]
    #[case("zone", "Exists", json!(null), true)]
    #[case("zone", "DoesNotExist", json!(null), false)]
    #[case("disks", "Gt", json!(["3"]), true)]
    #[case("disks", "Lt", json!(["4"]), false)]
    #[case("zone", "Gt", json!(["3"]), false)]
    fn every_operator_is_understood(
        #[case] key: &str,
        #[case] operator: &str,
        #[case] values: Value,
        #[case] expected: bool,
    ) {
        let expression = json!({ "key": key, "operator": operator, "values": values });
        assert_eq!(
            is_match(required(json!([{ "matchExpressions": [expression] }]))),
            expected
        );
    }

    #[test]
    fn one_term_is_enough_and_an_empty_one_is_none() {
        let named = |name: &str| {
            let field = json!({ "key": "metadata.name", "operator": "In", "values": [name] });
            json!({ "matchFields": [field] })
        };
        assert!(is_match(required(json!([named("other"), named("node-1")]))));
        assert!(!is_match(required(json!([named("other")]))));
        assert!(!is_match(required(json!([{}]))));
    }

    #[test]
    fn the_weights_of_preferences_add_up() {
        let term = |weight: i32, zone: &str| {
            let expression = json!({ "key": "zone", "operator": "In", "values": [zone] });
            json!({ "weight": weight, "preference": { "matchExpressions": [expression] } })
        };
        let terms = json!([term(10, "a"), term(5, "b"), term(1, "a")]);
        let affinity = json!({ "preferredDuringSchedulingIgnoredDuringExecution": terms });
        let spec = json!({ "containers": [], "affinity": { "nodeAffinity": affinity } });
        let pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
        assert_eq!(preference(&pod, &node()), 11);
    }
}
