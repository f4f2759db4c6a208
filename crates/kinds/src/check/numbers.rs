//! Numbers, percentages and ports.

use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::names;

/// A number that isn't negative, or a percentage.
pub(crate) fn int_or_percent(errors: &mut Errors, value: &Value, path: &Field) {
    match value {
        Value::String(_) if percent(value).is_none() => errors.invalid(
            path,
            value.clone(),
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ),
        _ => errors.not_negative(path, value.as_i64()),
    }
}

/// A percentage of a whole.
pub(crate) fn at_most_all(errors: &mut Errors, value: &Value, path: &Field) {
    if percent(value).is_some_and(|percent| percent > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// Whether a number or percentage is none at all.
pub(crate) fn is_zero(value: &Value) -> bool {
    *value == json!(0) || percent(value) == Some(0)
}

fn percent(value: &Value) -> Option<u32> {
    let digits = value.as_str()?.strip_suffix('%')?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

/// A port's number.
pub(crate) fn port(errors: &mut Errors, port: Option<i64>, path: &Field) {
    errors.in_range(path, port, 1, 65_535);
}

/// A port's number, or the name of a container's port.
pub(crate) fn port_or_name(errors: &mut Errors, value: &Value, path: &Field) {
    match value {
        Value::String(name) => errors.invalid_all(path, name, names::port(name)),
        _ => port(errors, value.as_i64(), path),
    }
}
