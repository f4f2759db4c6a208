//! What must hold of an autoscaler, in the version that is kept.

use quantity::Quantity;
use serde_json::Value;

use crate::autoscaling::metrics::{self, SOURCES};
use crate::check::errors::{Errors, Field};
use crate::check::{names, reference};
use crate::json::{at, int, list, text};

/// The longest period that a policy may look at, in seconds.
const LONGEST_PERIOD: i64 = 1800;
/// The longest window of stabilization, in seconds.
const LONGEST_WINDOW: i64 = 3600;

pub(crate) fn rules(errors: &mut Errors, autoscaler: &Value, _old: Option<&Value>) {
    let (spec, path) = (&autoscaler["spec"], Field::root().child("spec"));
    let (least, most) = (
        int(spec, "/minReplicas"),
        int(spec, "/maxReplicas").unwrap_or_default(),
    );
    if let Some(least) = least.filter(|least| *least < 1) {
        let detail = "must be greater than or equal to 1";
        errors.invalid(&path.child("minReplicas"), least, detail);
    }
    if most < 1 {
        errors.invalid(&path.child("maxReplicas"), most, "must be greater than 0");
    }
    if least.is_some_and(|least| most < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.invalid(&path.child("maxReplicas"), most, detail);
    }
    scaled(errors, &spec["scaleTargetRef"], &path.child("scaleTargetRef"));
    for (index, metric) in list(spec, "/metrics").iter().enumerate() {
        self::metric(errors, metric, &path.child("metrics").index(index));
    }
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = at(spec, &format!("/behavior/{direction}")) {
            behavior(errors, rules, &path.child("behavior").child(direction));
        }
    }
    let status = Field::root().child("status");
    for field in ["currentReplicas", "desiredReplicas"] {
        let count = int(autoscaler, &format!("/status/{field}"));
        errors.not_negative(&status.child(field), count);
    }
}

/// A reference to something else of the namespace.
fn scaled(errors: &mut Errors, target: &Value, path: &Field) {
    for field in ["kind", "name"] {
        reference::segment(errors, target, field, &path.child(field));
    }
}

fn metric(errors: &mut Errors, metric: &Value, path: &Field) {
    const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    let kind = text(metric, "/type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric source type");
    }
    errors.one_of(&path.child("type"), kind, &TYPES);
    // In Kubernetes' order: only the first one that is there is looked into.
    let present = ["object", "external", "pods", "resource", "containerResource"]
        .into_iter()
        .filter(|field| at(metric, &format!("/{field}")).is_some());
    let present: Vec<_> = present.collect();
    if let Some(first) = present.first() {
        source(errors, first, &metric[*first], &path.child(first));
    }
    let expected = metrics::source(metric);
    if let Some(expected) = expected.filter(|expected| !present.contains(expected)) {
        let detail = "must populate information for the given metric source";
        errors.required(&path.child(expected), detail);
    }
    if present.len() > 1 {
        for other in SOURCES {
            if present.contains(&other) && Some(other) != expected {
                let detail = "must populate the given metric source only";
                errors.forbidden(&path.child(other), detail);
            }
        }
    }
}

/// What one type of metric has.
fn source(errors: &mut Errors, name: &str, source: &Value, path: &Field) {
    match name {
        "object" => {
            scaled(errors, &source["describedObject"], &path.child("describedObject"));
            identifier(errors, source, path);
        }
        "external" | "pods" => identifier(errors, source, path),
        _ => {
            if text(source, "/name").is_empty() {
                errors.required(&path.child("name"), "must specify a resource name");
            }
        }
    }
    if name == "containerResource" {
        match text(source, "/container") {
            "" => errors.required(&path.child("container"), "must specify a container"),
            container => errors.invalid_all(&path.child("container"), container, names::label(container)),
        }
    }
    let (target, path) = (&source["target"], path.child("target"));
    amounts(errors, target, &path);
    let has = |field: &str| at(target, &format!("/{field}")).is_some();
    let (value, average, share) = (has("value"), has("averageValue"), has("averageUtilization"));
    match name {
        "object" if !value && !average => {
            let detail = "must set either a target value or averageValue";
            errors.required(&path.child("averageValue"), detail);
        }
        "external" if !value && !average => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.required(&path.child("averageValue"), detail);
        }
        "external" if value && average => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&path.child("value"), detail);
        }
        "pods" if !average => {
            let detail = "must specify a positive target averageValue";
            errors.required(&path.child("averageValue"), detail);
        }
        "resource" | "containerResource" if !share && !average => {
            let detail = "must set either a target raw value or a target utilization";
            errors.required(&path.child("averageUtilization"), detail);
        }
        "resource" | "containerResource" if share && average => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.forbidden(&path.child("averageValue"), detail);
        }
        _ => {}
    }
}

fn identifier(errors: &mut Errors, source: &Value, path: &Field) {
    let path = path.child("metric").child("name");
    match text(source, "/metric/name") {
        "" => errors.required(&path, "must specify a metric name"),
        name => errors.invalid_all(&path, name, names::path_segment(name)),
    }
}

fn amounts(errors: &mut Errors, target: &Value, path: &Field) {
    let kind = text(target, "/type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.invalid(&path.child("type"), kind, detail);
    }
    for field in ["value", "averageValue"] {
        let amount = at(target, &format!("/{field}")).and_then(Value::as_str);
        let parsed = amount.and_then(|amount| Quantity::parse(amount).ok());
        if parsed.is_some_and(|parsed| parsed.is_negative() || parsed.is_zero()) {
            errors.invalid(&path.child(field), amount.unwrap_or_default(), "must be positive");
        }
    }
    if let Some(share) = int(target, "/averageUtilization").filter(|share| *share < 1) {
        let path = path.child("averageUtilization");
        errors.invalid(&path, share, "must be greater than 0");
    }
}

fn behavior(errors: &mut Errors, rules: &Value, path: &Field) {
    let window = int(rules, "/stabilizationWindowSeconds").unwrap_or_default();
    let at_window = path.child("stabilizationWindowSeconds");
    if window < 0 {
        errors.invalid(&at_window, window, "must be greater than or equal to zero");
    }
    if window > LONGEST_WINDOW {
        let detail = format!("must be less than or equal to {LONGEST_WINDOW}");
        errors.invalid(&at_window, window, &detail);
    }
    if let Some(select) = at(rules, "/selectPolicy").and_then(Value::as_str) {
        errors.one_of(&path.child("selectPolicy"), select, &["Disabled", "Max", "Min"]);
    }
    let tolerance = text(rules, "/tolerance");
    if Quantity::parse(tolerance).is_ok_and(Quantity::is_negative) {
        let path = path.child("tolerance");
        errors.invalid(&path, tolerance, "must be greater than or equal to 0");
    }
    let policies = list(rules, "/policies");
    if policies.is_empty() {
        errors.required(&path.child("policies"), "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        let path = path.child("policies").index(index);
        errors.one_of(&path.child("type"), text(policy, "/type"), &["Percent", "Pods"]);
        for field in ["value", "periodSeconds"] {
            let number = int(policy, &format!("/{field}")).unwrap_or_default();
            if number <= 0 {
                errors.invalid(&path.child(field), number, "must be greater than zero");
            }
        }
        if let Some(period) = int(policy, "/periodSeconds").filter(|period| *period > LONGEST_PERIOD) {
            let detail = format!("must be less than or equal to {LONGEST_PERIOD}");
            errors.invalid(&path.child("periodSeconds"), period, &detail);
        }
    }
}
