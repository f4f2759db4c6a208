//! What Deployments and ReplicaSets have in common: replicas, a selector and a template that it fits.

use serde_json::Value;

use crate::errors::{Errors, Field};
use crate::json::{at, int, text};
use crate::{labels, pod_validation, selector_validation};

/// Checks `spec.replicas`, `selector`, `template` and `minReadySeconds`, and that the selector stays.
pub(crate) fn workload(errors: &mut Errors, spec: &Value, old: Option<&Value>, path: &Field) {
    errors.not_negative(&path.child("replicas"), int(spec, "/replicas"));
    errors.not_negative(&path.child("minReadySeconds"), int(spec, "/minReadySeconds"));
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    if selector_validation::is_empty(selector) {
        errors.required(&path.child("selector"), "");
    } else {
        selector_validation::selector(errors, selector, &path.child("selector"));
    }
    template(errors, spec, selector, &path.child("template"));
    if let Some(old) = old {
        errors.immutable(
            &path.child("selector"),
            at(spec, "/selector"),
            at(old, "/selector"),
        );
    }
}

fn template(errors: &mut Errors, spec: &Value, selector: &Value, path: &Field) {
    let template = spec.get("template").unwrap_or(&Value::Null);
    let template_labels = at(template, "/metadata/labels").cloned().unwrap_or_default();
    if selector_validation::is_empty(selector) || !labels::selects(selector, &template_labels) {
        let field = path.child("metadata").child("labels");
        errors.invalid(
            &field,
            template_labels,
            "`selector` does not match template `labels`",
        );
    }
    pod_validation::template(errors, template, path);
    let restart_policy = text(template, "/spec/restartPolicy");
    if matches!(restart_policy, "OnFailure" | "Never") {
        errors.not_supported(
            &path.child("spec").child("restartPolicy"),
            restart_policy,
            &["Always"],
        );
    }
    if at(template, "/spec/activeDeadlineSeconds").is_some() {
        errors.forbidden(
            &path.child("spec").child("activeDeadlineSeconds"),
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        );
    }
}
