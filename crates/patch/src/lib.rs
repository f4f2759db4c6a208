//! JSON patch, merge patch and strategic merge patch of Kubernetes objects.
//!
//! All three are pure: an object and a patch in, the changed object out. Strategic merge needs to know more
//! than the two documents say (which lists merge, and by which key); the [`schema`] table holds these facts,
//! type by type, and `openapi` publishes the same ones.

pub mod schema;
mod strategic;

use serde_json::Value;

pub use strategic::strategic;

/// A patch can't be read or can't be applied to this object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch isn't a well-formed one of its type (HTTP 400).
    #[error("{0}")]
    Malformed(String),
    /// The patch is well-formed, but not for this object: a JSON patch's test or path (HTTP 422).
    #[error("{0}")]
    Unprocessable(String),
}

/// Applies a JSON patch (RFC 6902).
pub fn json(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|error| {
        PatchError::Malformed(format!(
            "the patch is not a list of JSON patch operations: {error}"
        ))
    })?;
    let mut changed = object.clone();
    json_patch::patch(&mut changed, &patch).map_err(|error| PatchError::Unprocessable(error.to_string()))?;
    Ok(changed)
}

/// Applies a JSON merge patch (RFC 7386).
pub fn merge(object: &Value, patch: &Value) -> Value {
    let mut changed = object.clone();
    json_patch::merge(&mut changed, patch);
    changed
}
