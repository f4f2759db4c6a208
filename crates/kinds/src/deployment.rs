//! Deployment.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use crate::columns::{self, column, wide};
use crate::json::{int, set_default, set_default_text, text};
use crate::kind::{Column, Kind, Scale};
use crate::{decode, deployment_validation, labels, pod_defaults, pod_quantities};

pub(crate) const KIND: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
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
        let mut decoded = decode::typed::<Deployment>(raw)?;
        if let Some(spec) = decoded.object.pointer_mut("/spec/template/spec") {
            pod_quantities::pod_spec(spec, "spec.template.spec")?;
        }
        Ok(decoded)
    },
    default,
    validate: deployment_validation::validate,
    columns: COLUMNS,
    row,
    fields: &[],
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
    pod_defaults::template(&mut spec["template"]);
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
    wide("Containers", "string", "Names of each container in the template."),
    wide(
        "Images",
        "string",
        "Images referenced by each container in the template.",
    ),
    wide("Selector", "string", "Label selector for pods."),
];

fn row(deployment: &Value, now: i64) -> Vec<Value> {
    let count = |pointer| int(deployment, pointer).unwrap_or_default();
    let (names, images) = columns::containers(&deployment["spec"]["template"]);
    vec![
        columns::name(deployment),
        format!("{}/{}", count("/status/readyReplicas"), count("/spec/replicas")).into(),
        count("/status/updatedReplicas").into(),
        count("/status/availableReplicas").into(),
        columns::age(deployment, now),
        names,
        images,
        labels::format_selector(&deployment["spec"]["selector"]).into(),
    ]
}
