//! ReplicationController: what ReplicaSets were before they had selectors of their own.

use k8s_openapi::api::core::v1::ReplicationController;
use serde_json::{Value, json};

use crate::apps::{replicaset, workload};
use crate::check::errors::{Errors, Field};
use crate::check::meta;
use crate::columns;
use crate::entry::Entry;
use crate::json::{at, entries, int, set};
use crate::kind::Generation;
use crate::{labels, pod};

pub(crate) const KIND: Entry = Entry {
    short_names: &["rc"],
    categories: &["all"],
    status: true,
    scale: Some(workload::SCALE),
    generation: Generation::Content,
    decode: workload::decode::<ReplicationController>,
    default,
    rules,
    columns: replicaset::COLUMNS,
    row: |controller, now| {
        let mut cells = replicaset::counts(controller, now);
        let (names, images) = columns::containers(&controller["spec"]["template"]);
        let selector = labels::format_map(controller, "/spec/selector");
        cells.extend([names, images, selector.into()]);
        cells
    },
    fields: replicaset::KIND.fields,
    ..Entry::namespaced::<ReplicationController>("replicationcontroller")
};

fn default(controller: &mut Value) {
    replicaset::default(controller);
    let labels = at(controller, "/spec/template/metadata/labels").cloned();
    let Some(labels) = labels.filter(|labels| *labels != json!({})) else {
        return;
    };
    for (parent, field) in [("spec", "selector"), ("metadata", "labels")] {
        if entries(&controller[parent], &format!("/{field}"))
            .next()
            .is_none()
        {
            set(&mut controller[parent], field, labels.clone());
        }
    }
}

fn rules(errors: &mut Errors, controller: &Value, _old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &controller["spec"];
    errors.not_negative(&path.child("minReadySeconds"), int(spec, "/minReadySeconds"));
    let selector = entries(spec, "/selector").next().is_some();
    if !selector {
        errors.required(&path.child("selector"), "");
    }
    meta::labels(errors, spec, "/selector", &path.child("selector"));
    errors.not_negative(&path.child("replicas"), int(spec, "/replicas"));
    let template = path.child("template");
    let found = at(spec, "/template/metadata/labels").cloned().unwrap_or_default();
    if selector && !labels::selects(&json!({"matchLabels": spec["selector"]}), &found) {
        errors.invalid(
            &template.child("metadata").child("labels"),
            found,
            "`selector` does not match template `labels`",
        );
    }
    pod::validation::template(errors, &spec["template"], &template);
    workload::always_running(errors, &spec["template"], "ReplicationController", &template);
    let counts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    workload::status_counts(errors, controller, &counts);
}
