//! JSON patch (RFC 6902), with the bounds that a server needs.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::PatchError;

/// Longer patches are refused, as Kubernetes does.
const MAX_OPERATIONS: usize = 10_000;
/// `copy` can double an object each time: all copies of a patch together stay below a request's size.
const MAX_COPIED: usize = 3 << 20;

/// Whether an operation tests that a field isn't there: a null is as good as no field in Kubernetes, and clients
/// ask so before they add the first finalizer.
fn is_absent(object: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else {
        return false;
    };
    let Some((parent, field)) = test.path.split_back() else {
        return false;
    };
    let parent = object.pointer(parent.as_str()).and_then(Value::as_object);
    test.value.is_null() && parent.is_some_and(|parent| !parent.contains_key(field.decoded().as_ref()))
}

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
        if is_absent(&changed, &parsed) {
            continue;
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
