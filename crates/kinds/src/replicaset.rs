//! ReplicaSet.

use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use crate::columns::{self, column, wide};
use crate::json::{int, set_default};
use crate::kind::{Column, Kind, Scale};
use crate::{decode, labels, pod_defaults, pod_quantities, replicaset_validation};

pub(crate) const KIND: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    namespaced: true,
    status: true,
    scale: Some(Scale {
        spec_replicas: "/spec/replicas",
        status_replicas: "/status/replicas",
        selector: "/spec/selector",
    }),
    generation: true,
    subresources: &[],
    decode: |raw| {
        let mut decoded = decode::typed::<ReplicaSet>(raw)?;
        if let Some(spec) = decoded.object.pointer_mut("/spec/template/spec") {
            pod_quantities::pod_spec(spec, "spec.template.spec")?;
        }
        Ok(decoded)
    },
    default,
    validate: replicaset_validation::validate,
    columns: COLUMNS,
    row,
    fields: &[("status.replicas", |set| {
        int(set, "/status/replicas").unwrap_or_default().to_string()
    })],
};

fn default(set: &mut Value) {
    set_default(set, "spec", json!({}));
    let spec = &mut set["spec"];
    set_default(spec, "replicas", 1);
    set_default(spec, "template", json!({}));
    pod_defaults::template(&mut spec["template"]);
    set_default(set, "status", json!({}));
    set_default(&mut set["status"], "replicas", 0);
}

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Desired", "integer", "The number of desired pods."),
    column("Current", "integer", "The number of pods there are."),
    column("Ready", "integer", "The number of pods that are ready."),
    columns::AGE,
    wide("Containers", "string", "Names of each container in the template."),
    wide(
        "Images",
        "string",
        "Images referenced by each container in the template.",
    ),
    wide("Selector", "string", "Label selector for pods."),
];

fn row(set: &Value, now: i64) -> Vec<Value> {
    let count = |pointer| int(set, pointer).unwrap_or_default();
    let (names, images) = columns::containers(&set["spec"]["template"]);
    vec![
        columns::name(set),
        count("/spec/replicas").into(),
        count("/status/replicas").into(),
        count("/status/readyReplicas").into(),
        columns::age(set, now),
        names,
        images,
        labels::format_selector(&set["spec"]["selector"]).into(),
    ]
}
