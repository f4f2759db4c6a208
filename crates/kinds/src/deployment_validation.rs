//! The rules of Deployments.

use serde_json::{Value, json};

use crate::errors::{Errors, Field};
use crate::json::{at, int, text};
use crate::kind::FieldError;
use crate::{meta_validation, names, workload_validation};

pub(crate) fn validate(deployment: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta_validation::object(&mut errors, deployment, old, true, names::subdomain);
    let path = Field::root().child("spec");
    let spec = &deployment["spec"];
    workload_validation::workload(&mut errors, spec, old.map(|old| &old["spec"]), &path);
    strategy(&mut errors, spec, &path.child("strategy"));
    errors.not_negative(
        &path.child("revisionHistoryLimit"),
        int(spec, "/revisionHistoryLimit"),
    );
    if let Some(deadline) = int(spec, "/progressDeadlineSeconds") {
        errors.not_negative(&path.child("progressDeadlineSeconds"), Some(deadline));
        if deadline <= int(spec, "/minReadySeconds").unwrap_or_default() {
            errors.invalid(
                &path.child("progressDeadlineSeconds"),
                deadline,
                "must be greater than minReadySeconds",
            );
        }
    }
    errors.into_list()
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
        (other, _) => errors.not_supported(&path.child("type"), other, &["Recreate", "RollingUpdate"]),
    }
}

fn rolling(errors: &mut Errors, update: &Value, path: &Field) {
    for field in ["maxUnavailable", "maxSurge"] {
        int_or_percent(errors, &update[field], &path.child(field));
    }
    let unavailable = &update["maxUnavailable"];
    let field = path.child("maxUnavailable");
    if is_zero(unavailable) && is_zero(&update["maxSurge"]) {
        errors.invalid(&field, unavailable.clone(), "may not be 0 when `maxSurge` is 0");
    }
    if percent(unavailable).is_some_and(|percent| percent > 100) {
        errors.invalid(&field, unavailable.clone(), "must not be greater than 100%");
    }
}

fn int_or_percent(errors: &mut Errors, value: &Value, path: &Field) {
    match value {
        Value::String(_) if percent(value).is_none() => errors.invalid(
            path,
            value.clone(),
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ),
        _ => errors.not_negative(path, value.as_i64()),
    }
}

fn percent(value: &Value) -> Option<u32> {
    let digits = value.as_str()?.strip_suffix('%')?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

fn is_zero(value: &Value) -> bool {
    *value == json!(0) || percent(value) == Some(0)
}
