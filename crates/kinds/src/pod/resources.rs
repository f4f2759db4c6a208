//! The rules of resource requests and limits.

use quantity::Quantity;
use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::json::entries;

/// Checks `resources` of a container or of a pod as a whole.
pub(crate) fn requirements(errors: &mut Errors, value: &Value, path: &Field) {
    for kind in ["limits", "requests"] {
        let path = path.child(kind);
        for (name, amount) in entries(value, &format!("/resources/{kind}")) {
            resource_name(errors, name, &path.key(name));
            quantity(errors, name, amount, &path.key(name));
        }
    }
    for (name, request) in entries(value, "/resources/requests") {
        let limit = value["resources"]
            .get("limits")
            .and_then(|limits| limits.get(name));
        compare(errors, name, request, limit, path);
    }
}

fn compare(errors: &mut Errors, name: &str, request: &Value, limit: Option<&Value>, path: &Field) {
    let Some(request) = parse(request) else { return };
    let Some(limit) = limit.and_then(parse) else {
        if !is_overcommittable(name) {
            errors.required(
                &path.child("limits"),
                "Limit must be set for non overcommitable resources",
            );
        }
        return;
    };
    let rule = match is_overcommittable(name) {
        false if request != limit => "equal to",
        true if request > limit => "less than or equal to",
        _ => return,
    };
    let detail = format!("must be {rule} {name} limit of {}", limit.canonical());
    errors.invalid(&path.child("requests"), request.canonical(), &detail);
}

fn resource_name(errors: &mut Errors, name: &str, path: &Field) {
    let messages = names::qualified(name);
    if !messages.is_empty() {
        return errors.invalid_all(path, name, messages);
    }
    if !name.contains('/') && !is_native(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
        errors.invalid(path, name, "must be a standard resource for containers");
    }
}

/// An amount of something: not negative, and whole where it is counted.
pub(crate) fn quantity(errors: &mut Errors, name: &str, amount: &Value, path: &Field) {
    let Some(quantity) = parse(amount) else { return };
    if quantity.is_negative() {
        errors.invalid(path, quantity.canonical(), "must be greater than or equal to 0");
    }
    if name.contains('/') && !quantity.is_whole() {
        errors.invalid(path, quantity.canonical(), "must be an integer");
    }
}

fn parse(amount: &Value) -> Option<Quantity> {
    Quantity::parse(amount.as_str()?).ok()
}

fn is_native(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

/// Devices and huge pages can't be promised twice.
fn is_overcommittable(name: &str) -> bool {
    is_native(name) && !name.starts_with("hugepages-")
}
