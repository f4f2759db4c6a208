//! HorizontalPodAutoscaler in `autoscaling/v2`, the version that is kept.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Map, Value, json};

use crate::autoscaling::{columns, metrics, rules};
use crate::decode;
use crate::entry::Entry;
use crate::json::{list, list_mut, object_mut, set, set_default};
use crate::kind::{DecodeError, Decoded};
use crate::pod::quantities;

pub(crate) const KIND: Entry = Entry {
    short_names: &["hpa"],
    categories: &["all"],
    status: true,
    decode,
    default,
    rules: rules::rules,
    columns: columns::COLUMNS,
    row: columns::row,
    ..Entry::namespaced::<HorizontalPodAutoscaler>("horizontalpodautoscaler")
};

fn decode(raw: &Value) -> Result<Decoded, DecodeError> {
    let mut decoded = decode::typed::<HorizontalPodAutoscaler>(raw)?;
    quantities(&mut decoded.object)?;
    Ok(decoded)
}

/// Every quantity in its canonical form.
pub(crate) fn quantities(autoscaler: &mut Value) -> Result<(), DecodeError> {
    for (pointer, place, amounts) in [
        ("/spec/metrics", "spec.metrics", "target"),
        ("/status/currentMetrics", "status.currentMetrics", "current"),
    ] {
        for (index, metric) in list_mut(autoscaler, pointer).enumerate() {
            for source in metrics::SOURCES {
                for amount in ["value", "averageValue"] {
                    let path = format!("{place}[{index}].{source}.{amounts}.{amount}");
                    quantities::field(metric, &format!("/{source}/{amounts}/{amount}"), &path)?;
                }
            }
        }
    }
    for direction in ["scaleUp", "scaleDown"] {
        let path = format!("spec.behavior.{direction}.tolerance");
        quantities::field(
            autoscaler,
            &format!("/spec/behavior/{direction}/tolerance"),
            &path,
        )?;
    }
    Ok(())
}

fn default(autoscaler: &mut Value) {
    set_default(autoscaler, "spec", json!({}));
    set_default(&mut autoscaler["spec"], "minReplicas", 1);
    if list(autoscaler, "/spec/metrics").is_empty() {
        set(&mut autoscaler["spec"], "metrics", json!([metrics::cpu_of(80)]));
    }
    let behavior = object_mut(autoscaler, "/spec/behavior");
    let behavior = behavior.filter(|behavior| !behavior.is_empty());
    if let Some(behavior) = behavior {
        rules_of(
            behavior,
            "scaleUp",
            json!({
                "stabilizationWindowSeconds": 0,
                "selectPolicy": "Max",
                "policies": [
                    { "type": "Pods", "value": 4, "periodSeconds": 15 },
                    { "type": "Percent", "value": 100, "periodSeconds": 15 },
                ],
            }),
        );
        // How long to wait with scaling down is the controller's to say.
        rules_of(
            behavior,
            "scaleDown",
            json!({
                "selectPolicy": "Max",
                "policies": [{ "type": "Percent", "value": 100, "periodSeconds": 15 }],
            }),
        );
    }
    set_default(autoscaler, "status", json!({}));
    for field in ["desiredReplicas", "currentReplicas"] {
        set_default(&mut autoscaler["status"], field, 0);
    }
}

/// Fills in the rules of a direction.
fn rules_of(behavior: &mut Map<String, Value>, direction: &str, defaults: Value) {
    let rules = behavior
        .entry(direction)
        .or_insert_with(|| Value::Object(Map::new()));
    if rules.is_null() {
        *rules = Value::Object(Map::new());
    }
    for (field, value) in defaults.as_object().into_iter().flatten() {
        set_default(rules, field, value.clone());
    }
}
