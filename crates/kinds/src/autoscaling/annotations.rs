//! What `autoscaling/v1` has no fields for: annotations, whose text is JSON, as Kubernetes writes it. They are
//! there in this version alone.

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerCondition, MetricSpec, MetricStatus,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::autoscaling::{metrics, v2};
use crate::json::{at, list, object_mut, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// What annotations say, in the form of `autoscaling/v2`.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) metrics: Option<Vec<Value>>,
    pub(crate) current_metrics: Option<Vec<Value>>,
    pub(crate) conditions: Option<Vec<Value>>,
    pub(crate) behavior: Option<Value>,
}

/// Takes the annotations off an object; what can't be read says nothing.
pub(crate) fn take(own: &mut Value) -> Said {
    let mut taken = |name: &str| {
        let annotations = object_mut(own, "/metadata/annotations")?;
        let text = annotations.remove(name)?;
        serde_json::from_str::<Value>(text.as_str()?).ok()
    };
    let said = Said {
        metrics: taken(METRICS).and_then(|list| fitting(&list, read_metric, metric_of_spec)),
        current_metrics: taken(CURRENT_METRICS)
            .and_then(|list| fitting(&list, read_current, metric_of_status)),
        conditions: taken(CONDITIONS)
            .and_then(|list| fitting(&list, Value::clone, typed::<HorizontalPodAutoscalerCondition>)),
        behavior: taken(BEHAVIOR)
            .and_then(|behavior| behavior_of_spec(&recase(&behavior, lower)))
            .filter(|behavior| behavior.as_object().is_some_and(|fields| !fields.is_empty())),
    };
    drop_empty(own);
    said
}

/// The elements of a list, if all of them are what they should be.
fn fitting(list: &Value, read: fn(&Value) -> Value, check: fn(Value) -> Option<Value>) -> Option<Vec<Value>> {
    let elements = list.as_array()?.iter();
    elements.map(|element| check(read(element))).collect()
}

/// A value that a type's fields can hold.
fn typed<T: Serialize + DeserializeOwned>(value: Value) -> Option<Value> {
    serde_json::to_value(serde_json::from_value::<T>(value).ok()?).ok()
}

fn metric_of_spec(metric: Value) -> Option<Value> {
    let mut object = json!({ "spec": { "metrics": [typed::<MetricSpec>(metric)?] } });
    v2::quantities(&mut object).ok()?;
    Some(object["spec"]["metrics"][0].take())
}

fn metric_of_status(metric: Value) -> Option<Value> {
    let mut object = json!({ "status": { "currentMetrics": [typed::<MetricStatus>(metric)?] } });
    v2::quantities(&mut object).ok()?;
    Some(object["status"]["currentMetrics"][0].take())
}

fn behavior_of_spec(behavior: &Value) -> Option<Value> {
    let behavior = typed::<HorizontalPodAutoscalerBehavior>(behavior.clone())?;
    let mut object = json!({ "spec": { "behavior": behavior } });
    v2::quantities(&mut object).ok()?;
    Some(object["spec"]["behavior"].take())
}

/// Puts what `autoscaling/v1` can't say into annotations.
pub(crate) fn write(kept: &mut Value) {
    let others = list(kept, "/spec/metrics")
        .iter()
        .filter(|metric| metrics::cpu_share(metric, "target").is_none());
    let others: Vec<_> = others.map(write_metric).collect();
    let current: Vec<_> = list(kept, "/status/currentMetrics")
        .iter()
        .map(write_current)
        .collect();
    let conditions = list(kept, "/status/conditions").to_vec();
    let behavior = at(kept, "/spec/behavior").map(|behavior| recase(behavior, upper));
    let lists = [
        (METRICS, others),
        (CURRENT_METRICS, current),
        (CONDITIONS, conditions),
    ];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let texts: Vec<_> = lists
        .map(|(name, list)| (name, Value::from(list).to_string()))
        .chain(behavior.map(|behavior| (BEHAVIOR, behavior.to_string())))
        .collect();
    for name in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
        if let Some(annotations) = object_mut(kept, "/metadata/annotations") {
            annotations.remove(name);
        }
    }
    for (name, text) in texts {
        if !kept["metadata"]["annotations"].is_object() {
            kept["metadata"]["annotations"] = json!({});
        }
        kept["metadata"]["annotations"][name] = text.into();
    }
    drop_empty(kept);
}

fn drop_empty(object: &mut Value) {
    let empty = at(object, "/metadata/annotations").is_some_and(|annotations| *annotations == json!({}));
    if let Some(metadata) = object_mut(object, "/metadata").filter(|_| empty) {
        metadata.remove("annotations");
    }
}

/// The fields of an object that are there, under other names.
fn renamed(from: &Value, names: &[(&str, &str)]) -> Value {
    let found = names
        .iter()
        .filter_map(|(pointer, name)| Some(((*name).to_owned(), at(from, pointer)?.clone())));
    Value::Object(found.collect())
}

/// Pairs of a place in `autoscaling/v2` and a field of `autoscaling/v1`, for what is wanted.
fn wanted(source: &str) -> &'static [(&'static str, &'static str)] {
    match source {
        "external" => &[
            ("/metric/name", "metricName"),
            ("/metric/selector", "metricSelector"),
            ("/target/value", "targetValue"),
            ("/target/averageValue", "targetAverageValue"),
        ],
        "object" => &[
            ("/describedObject", "target"),
            ("/metric/name", "metricName"),
            ("/metric/selector", "selector"),
            ("/target/value", "targetValue"),
            ("/target/averageValue", "averageValue"),
        ],
        "pods" => &[
            ("/metric/name", "metricName"),
            ("/metric/selector", "selector"),
            ("/target/averageValue", "targetAverageValue"),
        ],
        _ => &[
            ("/name", "name"),
            ("/container", "container"),
            ("/target/averageUtilization", "targetAverageUtilization"),
            ("/target/averageValue", "targetAverageValue"),
        ],
    }
}

/// The same for what is measured.
fn measured(source: &str) -> &'static [(&'static str, &'static str)] {
    match source {
        "external" => &[
            ("/metric/name", "metricName"),
            ("/metric/selector", "metricSelector"),
            ("/current/value", "currentValue"),
            ("/current/averageValue", "currentAverageValue"),
        ],
        "object" => &[
            ("/describedObject", "target"),
            ("/metric/name", "metricName"),
            ("/metric/selector", "selector"),
            ("/current/value", "currentValue"),
            ("/current/averageValue", "averageValue"),
        ],
        "pods" => &[
            ("/metric/name", "metricName"),
            ("/metric/selector", "selector"),
            ("/current/averageValue", "currentAverageValue"),
        ],
        _ => &[
            ("/name", "name"),
            ("/container", "container"),
            ("/current/averageUtilization", "currentAverageUtilization"),
            ("/current/averageValue", "currentAverageValue"),
        ],
    }
}

fn write_metric(metric: &Value) -> Value {
    let mut written = json!({ "type": text(metric, "/type") });
    for source in metrics::SOURCES {
        if let Some(found) = at(metric, &format!("/{source}")) {
            let mut fields = renamed(found, wanted(source));
            // Go's type has no way to leave these out.
            match source {
                "object" => default_amount(&mut fields, "targetValue"),
                "pods" => default_amount(&mut fields, "targetAverageValue"),
                _ => {}
            }
            written[source] = fields;
        }
    }
    written
}

fn write_current(metric: &Value) -> Value {
    let mut written = json!({ "type": text(metric, "/type") });
    for source in metrics::SOURCES {
        if let Some(found) = at(metric, &format!("/{source}")) {
            let mut fields = renamed(found, measured(source));
            let always = match source {
                "external" | "object" => "currentValue",
                _ => "currentAverageValue",
            };
            default_amount(&mut fields, always);
            written[source] = fields;
        }
    }
    written
}

fn default_amount(fields: &mut Value, field: &str) {
    if fields.get(field).is_none() {
        fields[field] = "0".into();
    }
}

fn read_metric(written: &Value) -> Value {
    read(written, "target", wanted, |source, target| {
        let kind = match source {
            "pods" => "AverageValue",
            "object" if target.contains_key("averageValue") => "AverageValue",
            "external" if !target.contains_key("value") => "AverageValue",
            "object" | "external" => "Value",
            _ if target.contains_key("averageUtilization") => "Utilization",
            _ => "AverageValue",
        };
        // What stands for nothing.
        if kind == "AverageValue" && target.get("value").is_some_and(|value| value == "0") {
            target.remove("value");
        }
        target.insert("type".into(), kind.into());
    })
}

fn read_current(written: &Value) -> Value {
    read(written, "current", measured, |_, _| {})
}

/// A metric of the annotation's form in that of `autoscaling/v2`, whose `amounts` are completed.
fn read(
    written: &Value,
    amounts: &str,
    names: fn(&str) -> &'static [(&'static str, &'static str)],
    complete: fn(&str, &mut Map<String, Value>),
) -> Value {
    let mut metric = json!({ "type": text(written, "/type") });
    for source in metrics::SOURCES {
        let Some(found) = at(written, &format!("/{source}")) else {
            continue;
        };
        let mut fields = json!({ amounts: {} });
        for (pointer, name) in names(source) {
            if let Some(value) = at(found, &format!("/{name}")) {
                let path: Vec<_> = pointer.split('/').skip(1).collect();
                match path[..] {
                    [field] => fields[field] = value.clone(),
                    [part, field] => fields[part][field] = value.clone(),
                    _ => {}
                }
            }
        }
        if let Some(amounts) = fields[amounts].as_object_mut() {
            complete(source, amounts);
        }
        metric[source] = fields;
    }
    metric
}

/// The annotation for behavior has the names of Go's fields, which begin with capitals.
fn recase(value: &Value, case: fn(&str) -> String) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (case(name), recase(value, case)))
            .collect(),
        Value::Array(list) => list.iter().map(|value| recase(value, case)).collect(),
        other => other.clone(),
    }
}

fn upper(name: &str) -> String {
    first(name, |c| c.to_ascii_uppercase())
}

fn lower(name: &str) -> String {
    first(name, |c| c.to_ascii_lowercase())
}

fn first(name: &str, case: fn(&char) -> char) -> String {
    let mut chars = name.chars();
    chars.next().iter().map(case).chain(chars).collect()
}
