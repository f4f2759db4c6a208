//! Numbers in schemas: bounds, multiples, widths.

use serde_json::Number;

use crate::check::errors::{Errors, Field};

use super::schema::Schema;

/// Whether a number has no fraction: `1.0` counts as an integer.
pub(crate) fn is_integer(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

pub(crate) fn check(errors: &mut Errors, schema: Schema<'_>, path: &Field, number: &Number) {
    let value = number.as_f64().unwrap_or_default();
    let bound = |keyword| schema.get(keyword).and_then(serde_json::Value::as_f64);
    width(errors, schema, path, number);
    if let Some(factor) = bound("multipleOf").filter(|factor| *factor > 0.0) {
        let quotient = value / factor;
        if (quotient - quotient.round()).abs() > f64::EPSILON * quotient.abs().max(1.0) {
            let detail = format!("{path} in body should be a multiple of {}", text(factor));
            errors.invalid(path, number.clone(), &detail);
        }
    }
    if let Some(most) = bound("maximum") {
        let (fails, words) = match schema.flag("exclusiveMaximum") {
            true => (value >= most, "less than"),
            false => (value > most, "less than or equal to"),
        };
        if fails {
            let detail = format!("{path} in body should be {words} {}", text(most));
            errors.invalid(path, number.clone(), &detail);
        }
    }
    if let Some(least) = bound("minimum") {
        let (fails, words) = match schema.flag("exclusiveMinimum") {
            true => (value <= least, "greater than"),
            false => (value < least, "greater than or equal to"),
        };
        if fails {
            let detail = format!("{path} in body should be {words} {}", text(least));
            errors.invalid(path, number.clone(), &detail);
        }
    }
}

/// An integer must fit the width that its format names.
fn width(errors: &mut Errors, schema: Schema<'_>, path: &Field, number: &Number) {
    if schema.ty() != "integer" {
        return;
    }
    let format = schema.text("format");
    let fits = match format {
        "int32" => {
            number.as_i64().is_none_or(|value| i32::try_from(value).is_ok()) && !number.is_u64_beyond()
        }
        "int64" => !number.is_u64_beyond(),
        _ => true,
    };
    if !fits {
        let detail = format!("Checked value must be of type integer with format {format} in {path}");
        errors.invalid(path, number.clone(), &detail);
    }
}

trait Beyond {
    /// Whether an integer is larger than 64 bits with a sign can say.
    fn is_u64_beyond(&self) -> bool;
}

impl Beyond for Number {
    fn is_u64_beyond(&self) -> bool {
        self.is_u64() && !self.is_i64()
    }
}

/// A bound as Kubernetes prints it: without a fraction where there is none.
fn text(bound: f64) -> String {
    format!("{bound}")
}
