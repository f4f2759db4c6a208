//! ReplicaSet.

use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use crate::apps::workload;
use crate::check::errors::{Errors, Field};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{int, set_default};
use crate::kind::{Column, Generation};
use crate::pod;

pub(crate) const KIND: Entry = Entry {
    short_names: &["rs"],
    categories: &["all"],
    status: true,
    scale: Some(workload::SCALE),
    generation: Generation::Content,
    decode: workload::decode::<ReplicaSet>,
    default,
    rules,
    columns: COLUMNS,
    row,
    fields: &[("status.replicas", |set| {
        int(set, "/status/replicas").unwrap_or_default().to_string()
    })],
    ..Entry::namespaced::<ReplicaSet>("replicaset")
};

/// Also a ReplicationController's, whose older template may be missing.
pub(crate) fn default(set: &mut Value) {
    set_default(set, "spec", json!({}));
    let spec = &mut set["spec"];
    set_default(spec, "replicas", 1);
    set_default(spec, "template", json!({}));
    pod::defaults::template(&mut spec["template"]);
    set_default(set, "status", json!({}));
    set_default(&mut set["status"], "replicas", 0);
}

/// Also a ReplicationController's.
pub(crate) const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Desired", "integer", "The number of desired pods."),
    column("Current", "integer", "The number of pods there are."),
    column("Ready", "integer", "The number of pods that are ready."),
    columns::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    workload::SELECTOR,
];

fn row(set: &Value, now: i64) -> Vec<Value> {
    let mut cells = counts(set, now);
    cells.extend(workload::wide_cells(set));
    cells
}

/// The cells before the wide ones.
pub(crate) fn counts(set: &Value, now: i64) -> Vec<Value> {
    let count = |pointer| int(set, pointer).unwrap_or_default();
    vec![
        columns::name(set),
        count("/spec/replicas").into(),
        count("/status/replicas").into(),
        count("/status/readyReplicas").into(),
        columns::age(set, now),
    ]
}

fn rules(errors: &mut Errors, set: &Value, old: Option<&Value>) {
    workload::replicated(errors, set, old, &Field::root().child("spec"));
    let counts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    workload::status_counts(errors, set, &counts);
}
