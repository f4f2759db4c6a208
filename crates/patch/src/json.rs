//! JSON patch (RFC 6902), with the bounds that a server needs.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::PatchError;

/// Longer patches are refused, as Kubernetes does.
const MAX_OPERATIONS: usize = 10_000;
/// `copy` can double an object each time: all copies of a patch together stay below a request's size.
const MAX_COPIED: usize = 3 << 20;

/// Applies a JSON patch.
pub fn json(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(list) = patch else {
        return Err(PatchError::Malformed(
            "a JSON patch must be a list of operations".to_owned(),
        ));
    };
    if list.len() > MAX_OPERATIONS {
        return Err(PatchError::Malformed(format!(
            "a JSON patch may have {MAX_OPERATIONS} operations, this one has {}",
            list.len()
        )));
    }
    let mut changed = object.clone();
    let mut copied = 0;
    for (index, operation) in list.iter().enumerate() {
        let parsed: PatchOperation = serde_json::from_value(operation.clone()).map_err(|error| {
            PatchError::Malformed(format!("operation {} of the JSON patch: {error}", index + 1))
        })?;
        if let PatchOperation::Copy(copy) = &parsed {
            copied += changed
                .pointer(copy.from.as_str())
                .map_or(0, |value| value.to_string().len());
            if copied > MAX_COPIED {
                return Err(PatchError::Malformed(format!(
                    "a JSON patch may copy at most {MAX_COPIED} bytes"
                )));
            }
        }
        json_patch::patch(&mut changed, std::slice::from_ref(&parsed)).map_err(|error| {
            PatchError::Unprocessable(format!(
                "operation {} of the JSON patch ({} {}): {}",
                index + 1,
                operation["op"].as_str().unwrap_or_default(),
                error.path,
                error.kind
            ))
        })?;
    }
    Ok(changed)
}
