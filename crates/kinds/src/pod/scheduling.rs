//! The rules of what decides a pod's node: tolerations, affinity and spreading.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::{names, selector};
use crate::json::{at, int, list, text};

/// Checks tolerations, affinity and topology spread constraints.
pub(crate) fn scheduling(errors: &mut Errors, spec: &Value, path: &Field) {
    for (index, entry) in list(spec, "/tolerations").iter().enumerate() {
        toleration(errors, entry, &path.child("tolerations").index(index));
    }
    spread(errors, spec, &path.child("topologySpreadConstraints"));
    let path = path.child("affinity");
    if let Some(affinity) = at(spec, "/affinity/nodeAffinity") {
        node_affinity(errors, affinity, &path.child("nodeAffinity"));
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        if let Some(affinity) = at(spec, &format!("/affinity/{kind}")) {
            pod_affinity(errors, affinity, &path.child(kind));
        }
    }
}

/// Checks one toleration.
pub(crate) fn toleration(errors: &mut Errors, toleration: &Value, path: &Field) {
    let (key, operator) = (text(toleration, "/key"), text(toleration, "/operator"));
    let (value, effect) = (text(toleration, "/value"), text(toleration, "/effect"));
    if !key.is_empty() {
        errors.invalid_all(&path.child("key"), key, names::qualified(key));
    } else if operator != "Exists" {
        errors.invalid(
            &path.child("operator"),
            operator,
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        );
    }
    if int(toleration, "/tolerationSeconds").is_some() && effect != "NoExecute" {
        errors.invalid(
            &path.child("effect"),
            effect,
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
    match operator {
        "" | "Equal" => errors.invalid_all(&path.child("operator"), value, names::label_value(value)),
        "Exists" if !value.is_empty() => errors.invalid(
            &path.child("operator"),
            value,
            "value must be empty when `operator` is 'Exists'",
        ),
        _ => errors.one_of(&path.child("operator"), operator, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        errors.one_of(&path.child("effect"), effect, &effects);
    }
}

fn spread(errors: &mut Errors, spec: &Value, path: &Field) {
    let mut seen = BTreeSet::new();
    for (index, constraint) in list(spec, "/topologySpreadConstraints").iter().enumerate() {
        let path = path.index(index);
        let skew = int(constraint, "/maxSkew").unwrap_or_default();
        if skew <= 0 {
            errors.invalid(&path.child("maxSkew"), skew, "must be greater than zero");
        }
        let key = text(constraint, "/topologyKey");
        topology_key(errors, key, &path.child("topologyKey"));
        let otherwise = text(constraint, "/whenUnsatisfiable");
        errors.one_of(
            &path.child("whenUnsatisfiable"),
            otherwise,
            &["DoNotSchedule", "ScheduleAnyway"],
        );
        if !seen.insert((key, otherwise)) {
            errors.duplicate(
                &path.child("{topologyKey, whenUnsatisfiable}"),
                format!("{{{key}, {otherwise}}}"),
            );
        }
        if let Some(selector) = at(constraint, "/labelSelector") {
            selector::selector(errors, selector, &path.child("labelSelector"));
        }
    }
}

fn topology_key(errors: &mut Errors, key: &str, path: &Field) {
    match key {
        "" => errors.required(path, "can not be empty"),
        key => errors.invalid_all(path, key, names::qualified(key)),
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn node_affinity(errors: &mut Errors, affinity: &Value, path: &Field) {
    if let Some(required) = at(affinity, &format!("/{REQUIRED}")) {
        node_selector(errors, required, &path.child(REQUIRED));
    }
    for (index, preferred) in list(affinity, &format!("/{PREFERRED}")).iter().enumerate() {
        let path = path.child(PREFERRED).index(index);
        weight(errors, preferred, &path);
        node_term(errors, &preferred["preference"], &path.child("preference"));
    }
}

/// Checks a selector of nodes: any of its terms may hold.
pub(crate) fn node_selector(errors: &mut Errors, selector: &Value, path: &Field) {
    let path = path.child("nodeSelectorTerms");
    let terms = list(selector, "/nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        node_term(errors, term, &path.index(index));
    }
}

fn weight(errors: &mut Errors, preferred: &Value, path: &Field) {
    let weight = int(preferred, "/weight").unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_term(errors: &mut Errors, term: &Value, path: &Field) {
    for (index, requirement) in list(term, "/matchExpressions").iter().enumerate() {
        node_expression(errors, requirement, &path.child("matchExpressions").index(index));
    }
    for (index, requirement) in list(term, "/matchFields").iter().enumerate() {
        let path = path.child("matchFields").index(index);
        errors.one_of(
            &path.child("operator"),
            text(requirement, "/operator"),
            &["In", "NotIn"],
        );
        errors.one_of(&path.child("key"), text(requirement, "/key"), &["metadata.name"]);
        if list(requirement, "/values").len() != 1 {
            errors.required(
                &path.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            );
        }
    }
}

fn node_expression(errors: &mut Errors, requirement: &Value, path: &Field) {
    let values = list(requirement, "/values");
    match text(requirement, "/operator") {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            );
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
            &path.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "Gt" | "Lt" if values.len() != 1 => errors.required(
            &path.child("values"),
            "must be specified single value when `operator` is 'Lt' or 'Gt'",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    let key = text(requirement, "/key");
    errors.invalid_all(&path.child("key"), key, names::qualified(key));
}

fn pod_affinity(errors: &mut Errors, affinity: &Value, path: &Field) {
    for (index, term) in list(affinity, &format!("/{REQUIRED}")).iter().enumerate() {
        pod_term(errors, term, &path.child(REQUIRED).index(index));
    }
    for (index, preferred) in list(affinity, &format!("/{PREFERRED}")).iter().enumerate() {
        let path = path.child(PREFERRED).index(index);
        weight(errors, preferred, &path);
        pod_term(
            errors,
            &preferred["podAffinityTerm"],
            &path.child("podAffinityTerm"),
        );
    }
}

fn pod_term(errors: &mut Errors, term: &Value, path: &Field) {
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = at(term, &format!("/{field}")) {
            selector::selector(errors, selector, &path.child(field));
        }
    }
    for (index, namespace) in list(term, "/namespaces")
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        errors.invalid_all(
            &path.child("namespaces").index(index),
            namespace,
            names::label(namespace),
        );
    }
    topology_key(errors, text(term, "/topologyKey"), &path.child("topologyKey"));
}
