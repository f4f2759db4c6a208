//! JSON patch, merge patch, strategic merge patch and server-side apply of Kubernetes objects.
//!
//! All of it is pure: an object and a patch in, the changed object out. Strategic merge and [`apply`] need to
//! know more than the two documents say (which lists merge, and by which key); the [`schema`] table holds these
//! facts, type by type, and `openapi` publishes the same ones.

pub mod apply;
mod facts;
mod json;
mod lists;
pub mod schema;
mod strategic;

use serde_json::Value;

pub use json::json;
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

/// Applies a JSON merge patch (RFC 7386).
pub fn merge(object: &Value, patch: &Value) -> Value {
    let mut changed = object.clone();
    json_patch::merge(&mut changed, patch);
    changed
}
