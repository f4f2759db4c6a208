//! References to other objects, by kind and name.

use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::json::{at, text};

/// A reference by group, kind and name: `apiGroup` may be left out.
pub(crate) fn typed(errors: &mut Errors, reference: &Value, path: &Field) {
    if let Some(group) = at(reference, "/apiGroup").and_then(Value::as_str) {
        errors.invalid_all(&path.child("apiGroup"), group, names::subdomain(group));
    }
    for field in ["kind", "name"] {
        segment(errors, reference, field, &path.child(field));
    }
}

/// A field that must be there, and can be part of a path.
pub(crate) fn segment(errors: &mut Errors, reference: &Value, field: &str, path: &Field) {
    match text(reference, &format!("/{field}")) {
        "" => errors.required(path, ""),
        value => errors.invalid_all(path, value, names::path_segment(value)),
    }
}
