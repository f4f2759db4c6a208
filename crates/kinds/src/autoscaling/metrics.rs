//! What both versions know of metrics.

use serde_json::{Value, json};

use crate::json::{at, text};

/// The fields of a metric, one for each type.
pub(crate) const SOURCES: [&str; 5] = ["containerResource", "external", "object", "pods", "resource"];

/// The field that goes with a metric's type.
pub(crate) fn source(metric: &Value) -> Option<&'static str> {
    Some(match text(metric, "/type") {
        "ContainerResource" => "containerResource",
        "External" => "external",
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        _ => return None,
    })
}

/// The metric that `autoscaling/v1` has a field for.
pub(crate) fn cpu_of(percent: i64) -> Value {
    json!({
        "type": "Resource",
        "resource": {
            "name": "cpu",
            "target": { "type": "Utilization", "averageUtilization": percent },
        },
    })
}

/// The share of CPU that a metric is about: what `amounts` (`target` or `current`) says.
pub(crate) fn cpu_share<'a>(metric: &'a Value, amounts: &str) -> Option<&'a Value> {
    let is_cpu = text(metric, "/type") == "Resource" && text(metric, "/resource/name") == "cpu";
    at(metric, &format!("/resource/{amounts}/averageUtilization")).filter(|_| is_cpu)
}
