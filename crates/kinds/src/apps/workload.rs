//! What the workloads have in common: replicas, a selector, and a template that it fits.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::selector;
use crate::columns::wide;
use crate::json::{at, int, text};
use crate::kind::{Column, DecodeError, Decoded, Scale};
use crate::{columns, decode, labels, pod};

/// Where workloads keep their scale.
pub(crate) const SCALE: Scale = Scale {
    spec_replicas: "/spec/replicas",
    status_replicas: "/status/replicas",
    selector: "/spec/selector",
};

pub(crate) const CONTAINERS: Column<'static> =
    wide("Containers", "string", "Names of each container in the template.");
pub(crate) const IMAGES: Column<'static> = wide(
    "Images",
    "string",
    "Images referenced by each container in the template.",
);
pub(crate) const SELECTOR: Column<'static> = wide("Selector", "string", "Label selector for pods.");

/// The cells of [`CONTAINERS`], [`IMAGES`] and [`SELECTOR`].
pub(crate) fn wide_cells(workload: &Value) -> [Value; 3] {
    let (names, images) = columns::containers(&workload["spec"]["template"]);
    let selector = labels::format_selector(&workload["spec"]["selector"]);
    [names, images, selector.into()]
}

/// Reads a kind that has a pod template in its spec.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(raw: &Value) -> Result<Decoded, DecodeError> {
    let mut decoded = decode::typed::<T>(raw)?;
    if let Some(spec) = decoded.object.pointer_mut("/spec/template/spec") {
        pod::quantities::pod_spec(spec, "spec.template.spec")?;
    }
    Ok(decoded)
}

/// Checks `spec.replicas`, `selector`, `template` and `minReadySeconds` of Deployments and ReplicaSets.
pub(crate) fn replicated(errors: &mut Errors, new: &Value, old: Option<&Value>, path: &Field) {
    let spec = &new["spec"];
    errors.not_negative(&path.child("replicas"), int(spec, "/replicas"));
    errors.not_negative(&path.child("minReadySeconds"), int(spec, "/minReadySeconds"));
    required_selector(errors, spec, &path.child("selector"));
    let path_of_template = path.child("template");
    fits(errors, spec, &path_of_template);
    pod::validation::template(errors, &spec["template"], &path_of_template);
    always_running(errors, &spec["template"], "ReplicaSet", &path_of_template);
    selector_stays(errors, spec, old, path);
}

/// A selector that must be there. Types don't tell an empty one from none, and none is the usual mistake.
pub(crate) fn required_selector(errors: &mut Errors, spec: &Value, path: &Field) {
    let selector = &spec["selector"];
    if selector::is_empty(selector) {
        errors.required(path, "");
    } else {
        selector::selector(errors, selector, path);
    }
}

/// The pods that the template makes must be the workload's own.
pub(crate) fn fits(errors: &mut Errors, spec: &Value, path: &Field) {
    let template_labels = at(spec, "/template/metadata/labels").cloned().unwrap_or_default();
    let selector = &spec["selector"];
    if selector::is_empty(selector) || !labels::selects(selector, &template_labels) {
        errors.invalid(
            &path.child("metadata").child("labels"),
            template_labels,
            "`selector` does not match template `labels`",
        );
    }
}

/// Pods of these workloads run until they are told to stop.
pub(crate) fn always_running(errors: &mut Errors, template: &Value, kind: &str, path: &Field) {
    let path = path.child("spec");
    let restart_policy = text(template, "/spec/restartPolicy");
    if matches!(restart_policy, "OnFailure" | "Never") {
        errors.not_supported(&path.child("restartPolicy"), restart_policy, &["Always"]);
    }
    if at(template, "/spec/activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&path.child("activeDeadlineSeconds"), &detail);
    }
}

/// A workload's pods are found by its selector, so it can't change.
pub(crate) fn selector_stays(errors: &mut Errors, spec: &Value, old: Option<&Value>, path: &Field) {
    if let Some(old) = old {
        let old = at(old, "/spec/selector");
        errors.immutable(&path.child("selector"), at(spec, "/selector"), old);
    }
}

/// Counts in `status`: none negative, and none of these above `replicas`.
pub(crate) fn status_counts(errors: &mut Errors, object: &Value, fields: &[&str]) {
    let path = Field::root().child("status");
    let count = |field: &str| int(object, &format!("/status/{field}")).unwrap_or_default();
    for field in [
        "replicas",
        "observedGeneration",
        "collisionCount",
        "terminatingReplicas",
    ] {
        errors.not_negative(&path.child(field), Some(count(field)));
    }
    for field in fields {
        errors.not_negative(&path.child(field), Some(count(field)));
        if count(field) > count("replicas") {
            let detail = "cannot be greater than status.replicas";
            errors.invalid(&path.child(field), count(field), detail);
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        errors.invalid(
            &path.child("availableReplicas"),
            count("availableReplicas"),
            "cannot be greater than readyReplicas",
        );
    }
}
