//! HorizontalPodAutoscaler in `autoscaling/v1`: a view of what `autoscaling/v2` keeps. It has a field for the
//! share of CPU alone; everything else is in annotations.

use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler;
use serde_json::{Map, Value, json};

use crate::autoscaling::{annotations, columns, metrics, rules};
use crate::entry::{Entry, Kept};
use crate::json::{at, list, set_default};

pub(crate) const KIND: Entry = Entry {
    short_names: &["hpa"],
    categories: &["all"],
    status: true,
    default,
    rules: |errors, new, old| {
        let old = old.cloned().map(write);
        rules::rules(errors, &write(new.clone()), old.as_ref());
    },
    columns: columns::COLUMNS,
    row: |autoscaler, now| columns::row(&write(autoscaler.clone()), now),
    kept: Some(Kept {
        group: "autoscaling",
        read,
        write,
    }),
    ..Entry::namespaced::<HorizontalPodAutoscaler>("horizontalpodautoscaler")
};

const SHARE: &str = "targetCPUUtilizationPercentage";
const CURRENT_SHARE: &str = "currentCPUUtilizationPercentage";

fn default(autoscaler: &mut Value) {
    set_default(autoscaler, "spec", json!({}));
    set_default(&mut autoscaler["spec"], "minReplicas", 1);
    set_default(autoscaler, "status", json!({}));
    for field in ["desiredReplicas", "currentReplicas"] {
        set_default(&mut autoscaler["status"], field, 0);
    }
}

/// The fields of a part of an object that are the same in both versions.
fn common(part: &Value, fields: &[&str]) -> Map<String, Value> {
    let found = |field: &&str| Some(((*field).to_owned(), at(part, &format!("/{field}"))?.clone()));
    fields.iter().filter_map(found).collect()
}

const SPEC: [&str; 3] = ["maxReplicas", "minReplicas", "scaleTargetRef"];
const STATUS: [&str; 4] = [
    "currentReplicas",
    "desiredReplicas",
    "lastScaleTime",
    "observedGeneration",
];

/// From `autoscaling/v2`.
fn read(mut kept: Value) -> Value {
    let mut spec = common(&kept["spec"], &SPEC);
    let share = list(&kept, "/spec/metrics")
        .iter()
        .find_map(|metric| metrics::cpu_share(metric, "target"));
    spec.extend(share.map(|share| (SHARE.to_owned(), share.clone())));
    let mut status = common(&kept["status"], &STATUS);
    let share = list(&kept, "/status/currentMetrics")
        .iter()
        .filter_map(|metric| metrics::cpu_share(metric, "current"))
        .next_back();
    status.extend(share.map(|share| (CURRENT_SHARE.to_owned(), share.clone())));
    annotations::write(&mut kept);
    with(kept, "autoscaling/v1", spec, status)
}

/// To `autoscaling/v2`.
fn write(mut own: Value) -> Value {
    let mut spec = common(&own["spec"], &SPEC);
    let share = at(&own, &format!("/spec/{SHARE}")).and_then(Value::as_i64);
    let mut status = common(&own["status"], &STATUS);
    let current = at(&own, &format!("/status/{CURRENT_SHARE}")).cloned();
    let said = annotations::take(&mut own);
    let mut metrics = said.metrics.unwrap_or_default();
    metrics.extend(share.map(metrics::cpu_of));
    if metrics.is_empty() {
        metrics.push(metrics::cpu_of(80));
    }
    spec.insert("metrics".into(), metrics.into());
    spec.extend(said.behavior.map(|behavior| ("behavior".to_owned(), behavior)));
    // The annotation says more than the field.
    let measured = said.current_metrics.or_else(|| {
        let resource = json!({ "name": "cpu", "current": { "averageUtilization": current? } });
        Some(vec![json!({ "type": "Resource", "resource": resource })])
    });
    status.extend(measured.map(|measured| ("currentMetrics".to_owned(), measured.into())));
    status.extend(
        said.conditions
            .map(|conditions| ("conditions".to_owned(), conditions.into())),
    );
    with(own, "autoscaling/v2", spec, status)
}

fn with(mut object: Value, version: &str, spec: Map<String, Value>, status: Map<String, Value>) -> Value {
    object["apiVersion"] = version.into();
    object["spec"] = spec.into();
    object["status"] = status.into();
    object
}
