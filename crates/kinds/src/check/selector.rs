//! Label selectors: `matchLabels` and `matchExpressions`.

use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::{meta, names};
use crate::json::{list, text};

/// Checks a label selector.
pub(crate) fn selector(errors: &mut Errors, selector: &Value, path: &Field) {
    meta::labels(errors, selector, "/matchLabels", &path.child("matchLabels"));
    for (index, requirement) in list(selector, "/matchExpressions").iter().enumerate() {
        expression(errors, requirement, &path.child("matchExpressions").index(index));
    }
}

/// Whether a selector asks for nothing, so that it fits everything.
pub(crate) fn is_empty(selector: &Value) -> bool {
    let labels = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .is_none_or(serde_json::Map::is_empty);
    labels && list(selector, "/matchExpressions").is_empty()
}

fn expression(errors: &mut Errors, requirement: &Value, path: &Field) {
    let values = list(requirement, "/values");
    match text(requirement, "/operator") {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            );
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    let key = text(requirement, "/key");
    errors.invalid_all(&path.child("key"), key, names::qualified(key));
    for (index, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        errors.invalid_all(
            &path.child("values").index(index),
            value,
            names::label_value(value),
        );
    }
}
