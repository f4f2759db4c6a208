//! What PersistentVolumes and claims to them have in common.

use quantity::Quantity;
use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::json::{entries, list, text};

const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// Checks `accessModes`.
pub(crate) fn access_modes(errors: &mut Errors, spec: &Value, required: &str, path: &Field) {
    let path = path.child("accessModes");
    let modes: Vec<_> = list(spec, "/accessModes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if modes.is_empty() {
        errors.required(&path, required);
    }
    for mode in &modes {
        errors.one_of(&path, mode, &ACCESS_MODES);
    }
    let alone = |mode: &&str| *mode == "ReadWriteOncePod";
    let known = |mode: &&str| ACCESS_MODES.contains(mode);
    if modes.iter().any(alone) && modes.iter().any(|mode| known(mode) && !alone(mode)) {
        errors.forbidden(&path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// A size must be something.
pub(crate) fn positive(errors: &mut Errors, amount: &Value, path: &Field) {
    let text = amount.as_str().unwrap_or_default();
    if Quantity::parse(text).is_ok_and(|amount| amount.is_negative() || amount.is_zero()) {
        errors.invalid(path, text, "must be greater than zero");
    }
}

/// Access modes as kubectl shows them, as in `RWO,RWX`.
pub(crate) fn modes_text(value: &Value, pointer: &str) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |mode: &str| list(value, pointer).iter().any(|found| found == mode);
    let found = short
        .into_iter()
        .filter(|(mode, _)| has(mode))
        .map(|(_, short)| short);
    found.collect::<Vec<_>>().join(",")
}

/// The storage class, under its old name in an annotation or its new one.
pub(crate) fn class(object: &Value) -> &str {
    let annotations = entries(object, "/metadata/annotations");
    let mut old = annotations.filter(|(key, _)| *key == "volume.beta.kubernetes.io/storage-class");
    match old.next().and_then(|(_, value)| value.as_str()) {
        Some(class) => class,
        None => text(object, "/spec/storageClassName"),
    }
}

/// The phase, or that the object is about to go.
pub(crate) fn phase(object: &Value) -> &str {
    if text(object, "/metadata/deletionTimestamp").is_empty() {
        text(object, "/status/phase")
    } else {
        "Terminating"
    }
}

/// A text, or kubectl's `<unset>` in place of none.
pub(crate) fn or_unset<'a>(object: &'a Value, pointer: &str) -> &'a str {
    match text(object, pointer) {
        "" => "<unset>",
        text => text,
    }
}
