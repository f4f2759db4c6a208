//! Strategic merge patch.

use serde_json::Value;

use crate::PatchError;

/// Applies a strategic merge patch to an object, by the list keys of its `apiVersion` and `kind`.
pub fn strategic(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    Ok(crate::merge(object, patch))
}
