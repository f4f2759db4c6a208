//! The quantities of a pod, put in their canonical form when it is decoded.

use quantity::Quantity;
use serde_json::Value;

use crate::json::{list_mut, object_mut};
use crate::kind::DecodeError;

/// Canonical quantities in everything a pod's spec holds.
pub(crate) fn pod_spec(spec: &mut Value, path: &str) -> Result<(), DecodeError> {
    for group in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, container) in list_mut(spec, &format!("/{group}")).enumerate() {
            pod_container(container, &format!("{path}.{group}[{index}]"))?;
        }
    }
    requirements(spec, &format!("{path}.resources"))?;
    map(spec, "/overhead", &format!("{path}.overhead"))?;
    for (index, volume) in list_mut(spec, "/volumes").enumerate() {
        pod_volume(volume, &format!("{path}.volumes[{index}]"))?;
    }
    Ok(())
}

/// Canonical quantities in what the kubelet reports of containers.
pub(crate) fn pod_status(status: &mut Value, path: &str) -> Result<(), DecodeError> {
    for group in [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ] {
        for (index, container) in list_mut(status, &format!("/{group}")).enumerate() {
            let path = format!("{path}.{group}[{index}]");
            requirements(container, &format!("{path}.resources"))?;
            map(
                container,
                "/allocatedResources",
                &format!("{path}.allocatedResources"),
            )?;
        }
    }
    Ok(())
}

/// Canonical quantities in a map of them, behind a pointer. Anything finer than a thousandth is rounded up.
pub(crate) fn map(value: &mut Value, pointer: &str, path: &str) -> Result<(), DecodeError> {
    for (name, quantity) in object_mut(value, pointer).into_iter().flatten() {
        canonical(quantity, &format!("{path}.{name}"), true)?;
    }
    Ok(())
}

fn requirements(value: &mut Value, path: &str) -> Result<(), DecodeError> {
    map(value, "/resources/limits", &format!("{path}.limits"))?;
    map(value, "/resources/requests", &format!("{path}.requests"))
}

fn pod_container(container: &mut Value, path: &str) -> Result<(), DecodeError> {
    requirements(container, &format!("{path}.resources"))?;
    for (index, env) in list_mut(container, "/env").enumerate() {
        let path = format!("{path}.env[{index}].valueFrom.resourceFieldRef.divisor");
        field(env, "/valueFrom/resourceFieldRef/divisor", &path)?;
    }
    Ok(())
}

fn pod_volume(volume: &mut Value, path: &str) -> Result<(), DecodeError> {
    field(
        volume,
        "/emptyDir/sizeLimit",
        &format!("{path}.emptyDir.sizeLimit"),
    )?;
    downward_items(volume, "/downwardAPI/items", &format!("{path}.downwardAPI.items"))?;
    for (index, source) in list_mut(volume, "/projected/sources").enumerate() {
        let path = format!("{path}.projected.sources[{index}].downwardAPI.items");
        downward_items(source, "/downwardAPI/items", &path)?;
    }
    Ok(())
}

fn downward_items(value: &mut Value, pointer: &str, path: &str) -> Result<(), DecodeError> {
    for (index, item) in list_mut(value, pointer).enumerate() {
        let path = format!("{path}[{index}].resourceFieldRef.divisor");
        field(item, "/resourceFieldRef/divisor", &path)?;
    }
    Ok(())
}

/// A canonical quantity behind a pointer.
pub(crate) fn field(value: &mut Value, pointer: &str, path: &str) -> Result<(), DecodeError> {
    match value.pointer_mut(pointer) {
        Some(quantity) => canonical(quantity, path, false),
        None => Ok(()),
    }
}

fn canonical(value: &mut Value, path: &str, round: bool) -> Result<(), DecodeError> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let quantity = Quantity::parse(text).map_err(|error| DecodeError {
        path: path.to_owned(),
        message: format!(
            "json: cannot unmarshal string {text:?} into field {path} of type Quantity: {error}"
        ),
    })?;
    *value = if round {
        quantity.round_up_to_millis()
    } else {
        quantity
    }
    .canonical()
    .into();
    Ok(())
}
