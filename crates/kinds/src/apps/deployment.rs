//! Deployment.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use crate::apps::workload;
use crate::check::errors::{Errors, Field};
use crate::check::numbers;
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, int, set_default, set_default_text, text};
use crate::kind::{Column, Generation};
use crate::pod;

pub(crate) const KIND: Entry = Entry {
    short_names: &["deploy"],
    categories: &["all"],
    status: true,
    scale: Some(workload::SCALE),
    generation: Generation::ContentAndAnnotations,
    decode: workload::decode::<Deployment>,
    default,
    rules,
    columns: COLUMNS,
    row,
    ..Entry::namespaced::<Deployment>("deployment")
};

fn default(deployment: &mut Value) {
    set_default(deployment, "spec", json!({}));
    let spec = &mut deployment["spec"];
    set_default(spec, "replicas", 1);
    set_default(spec, "revisionHistoryLimit", 10);
    set_default(spec, "progressDeadlineSeconds", 600);
    set_default(spec, "strategy", json!({}));
    let strategy = &mut spec["strategy"];
    set_default_text(strategy, "type", "RollingUpdate");
    if text(strategy, "/type") == "RollingUpdate" {
        set_default(strategy, "rollingUpdate", json!({}));
        let rolling_update = &mut strategy["rollingUpdate"];
        set_default(rolling_update, "maxUnavailable", "25%");
        set_default(rolling_update, "maxSurge", "25%");
    }
    set_default(spec, "template", json!({}));
    pod::defaults::template(&mut spec["template"]);
}

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Ready", "string", "Number of the pod with ready state"),
    column(
        "Up-to-date",
        "string",
        "Total number of pods that have the desired template.",
    ),
    column(
        "Available",
        "string",
        "Total number of pods that are available, ready for minReadySeconds.",
    ),
    columns::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    workload::SELECTOR,
];

fn row(deployment: &Value, now: i64) -> Vec<Value> {
    let count = |pointer| int(deployment, pointer).unwrap_or_default();
    let mut cells = vec![
        columns::name(deployment),
        format!("{}/{}", count("/status/readyReplicas"), count("/spec/replicas")).into(),
        count("/status/updatedReplicas").into(),
        count("/status/availableReplicas").into(),
        columns::age(deployment, now),
    ];
    cells.extend(workload::wide_cells(deployment));
    cells
}

fn rules(errors: &mut Errors, deployment: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &deployment["spec"];
    workload::replicated(errors, deployment, old, &path);
    strategy(errors, spec, &path.child("strategy"));
    errors.not_negative(
        &path.child("revisionHistoryLimit"),
        int(spec, "/revisionHistoryLimit"),
    );
    if let Some(deadline) = int(spec, "/progressDeadlineSeconds") {
        let path = path.child("progressDeadlineSeconds");
        errors.not_negative(&path, Some(deadline));
        if deadline <= int(spec, "/minReadySeconds").unwrap_or_default() {
            errors.invalid(&path, deadline, "must be greater than minReadySeconds");
        }
    }
    let counts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    workload::status_counts(errors, deployment, &counts);
}

fn strategy(errors: &mut Errors, spec: &Value, path: &Field) {
    let rolling_update = at(spec, "/strategy/rollingUpdate");
    match (text(spec, "/strategy/type"), rolling_update) {
        ("Recreate", Some(_)) => errors.forbidden(
            &path.child("rollingUpdate"),
            "may not be specified when strategy `type` is 'Recreate'",
        ),
        ("Recreate", None) => {}
        ("RollingUpdate", Some(update)) => rolling(errors, update, &path.child("rollingUpdate")),
        ("RollingUpdate", None) => errors.required(&path.child("rollingUpdate"), ""),
        _ => errors.not_supported(path, spec["strategy"].clone(), &["Recreate", "RollingUpdate"]),
    }
}

fn rolling(errors: &mut Errors, update: &Value, path: &Field) {
    for field in ["maxUnavailable", "maxSurge"] {
        numbers::int_or_percent(errors, &update[field], &path.child(field));
    }
    let unavailable = &update["maxUnavailable"];
    let field = path.child("maxUnavailable");
    if numbers::is_zero(unavailable) && numbers::is_zero(&update["maxSurge"]) {
        errors.invalid(&field, unavailable.clone(), "may not be 0 when `maxSurge` is 0");
    }
    numbers::at_most_all(errors, unavailable, &field);
}
