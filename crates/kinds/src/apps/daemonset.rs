//! DaemonSet.

use k8s_openapi::api::apps::v1::DaemonSet;
use serde_json::{Value, json};

use crate::apps::workload;
use crate::check::errors::{Errors, Field};
use crate::check::numbers;
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, int, object_mut, set_default, set_default_text, text};
use crate::kind::{Column, Generation};
use crate::{labels, pod};

pub(crate) const KIND: Entry = Entry {
    short_names: &["ds"],
    categories: &["all"],
    status: true,
    generation: Generation::Content,
    decode: workload::decode::<DaemonSet>,
    default,
    prepare: count_templates,
    rules,
    columns: COLUMNS,
    row,
    ..Entry::namespaced::<DaemonSet>("daemonset")
};

/// Always there in a status.
const COUNTS: [&str; 4] = [
    "currentNumberScheduled",
    "desiredNumberScheduled",
    "numberMisscheduled",
    "numberReady",
];

fn default(daemons: &mut Value) {
    set_default(daemons, "spec", json!({}));
    let spec = &mut daemons["spec"];
    set_default(spec, "revisionHistoryLimit", 10);
    set_default(spec, "updateStrategy", json!({}));
    let strategy = &mut spec["updateStrategy"];
    set_default_text(strategy, "type", "RollingUpdate");
    if text(strategy, "/type") == "RollingUpdate" {
        set_default(strategy, "rollingUpdate", json!({}));
        set_default(&mut strategy["rollingUpdate"], "maxUnavailable", 1);
        set_default(&mut strategy["rollingUpdate"], "maxSurge", 0);
    }
    set_default(spec, "template", json!({}));
    pod::defaults::template(&mut spec["template"]);
    set_default(daemons, "status", json!({}));
    for field in COUNTS {
        set_default(&mut daemons["status"], field, 0);
    }
}

/// An annotation counts the template's versions, as the field did that the first API had for it.
fn count_templates(new: &mut Value, old: Option<&Value>) {
    const ANNOTATION: &str = "deprecated.daemonset.template.generation";
    let generation = match old {
        None => 1,
        Some(old) => {
            let before = old["metadata"]["annotations"][ANNOTATION].as_str();
            let before = before
                .and_then(|text| text.parse::<i64>().ok())
                .unwrap_or_default();
            before.saturating_add(i64::from(old["spec"]["template"] != new["spec"]["template"]))
        }
    };
    set_default(&mut new["metadata"], "annotations", json!({}));
    if let Some(annotations) = object_mut(new, "/metadata/annotations") {
        annotations.insert(ANNOTATION.to_owned(), generation.to_string().into());
    }
}

const COLUMNS: &[Column] = &[
    columns::NAME,
    column(
        "Desired",
        "integer",
        "The number of nodes that should run the pod.",
    ),
    column(
        "Current",
        "integer",
        "The number of nodes that run the pod and should.",
    ),
    column(
        "Ready",
        "integer",
        "The number of nodes on which the pod is ready.",
    ),
    column(
        "Up-to-date",
        "integer",
        "The number of nodes with a pod of the current template.",
    ),
    column(
        "Available",
        "integer",
        "The number of nodes on which the pod is available.",
    ),
    column(
        "Node Selector",
        "string",
        "The labels of the nodes that should run the pod.",
    ),
    columns::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    workload::SELECTOR,
];

fn row(daemons: &Value, now: i64) -> Vec<Value> {
    let mut cells = vec![columns::name(daemons)];
    for field in [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ] {
        cells.push(
            int(daemons, &format!("/status/{field}"))
                .unwrap_or_default()
                .into(),
        );
    }
    cells.push(labels::format_map(daemons, "/spec/template/spec/nodeSelector").into());
    cells.push(columns::age(daemons, now));
    cells.extend(workload::wide_cells(daemons));
    cells
}

fn rules(errors: &mut Errors, daemons: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &daemons["spec"];
    workload::selector_stays(errors, spec, old, &path);
    workload::required_selector(errors, spec, &path.child("selector"));
    let template = path.child("template");
    workload::fits(errors, spec, &template);
    pod::validation::template(errors, &spec["template"], &template);
    workload::always_running(errors, &spec["template"], "DaemonSet", &template);
    for field in ["minReadySeconds", "revisionHistoryLimit"] {
        errors.not_negative(&path.child(field), int(spec, &format!("/{field}")));
    }
    strategy(errors, spec, &path.child("updateStrategy"));
    let status = Field::root().child("status");
    for field in COUNTS.into_iter().chain([
        "collisionCount",
        "numberAvailable",
        "numberUnavailable",
        "observedGeneration",
        "updatedNumberScheduled",
    ]) {
        errors.not_negative(&status.child(field), int(daemons, &format!("/status/{field}")));
    }
}

fn strategy(errors: &mut Errors, spec: &Value, path: &Field) {
    match text(spec, "/updateStrategy/type") {
        "OnDelete" => {}
        "RollingUpdate" => match at(spec, "/updateStrategy/rollingUpdate") {
            Some(update) => rolling(errors, update, &path.child("rollingUpdate")),
            None => errors.required(&path.child("rollingUpdate"), ""),
        },
        _ => errors.not_supported(
            path,
            spec["updateStrategy"].clone(),
            &["RollingUpdate", "OnDelete"],
        ),
    }
}

fn rolling(errors: &mut Errors, update: &Value, path: &Field) {
    let (unavailable, surge) = (&update["maxUnavailable"], &update["maxSurge"]);
    let fields = [
        (unavailable, path.child("maxUnavailable")),
        (surge, path.child("maxSurge")),
    ];
    for (value, path) in &fields {
        numbers::int_or_percent(errors, value, path);
    }
    for (value, path) in &fields {
        numbers::at_most_all(errors, value, path);
    }
    match (numbers::is_zero(unavailable), numbers::is_zero(surge)) {
        (false, false) => errors.invalid(
            &path.child("maxSurge"),
            surge.clone(),
            "may not be set when maxUnavailable is non-zero",
        ),
        (true, true) => {
            errors.required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
        }
        _ => {}
    }
}
