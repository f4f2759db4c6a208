//! ConfigMap and Secret: keys, sizes and immutability.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::json::{at, entries, flag, text};

/// All values together.
const MAX_SIZE: usize = 1 << 20;

pub(crate) fn config_map(errors: &mut Errors, map: &Value, old: Option<&Value>) {
    let root = Field::root();
    let mut size = 0;
    for (key, value) in entries(map, "/data") {
        errors.invalid_all(&root.child("data").key(key), key, names::config_key(key));
        if at(map, "/binaryData").is_some_and(|binary| binary.get(key).is_some()) {
            errors.invalid(
                &root.child("data").key(key),
                key.as_str(),
                "duplicate of key present in binaryData",
            );
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value) in entries(map, "/binaryData") {
        errors.invalid_all(&root.child("binaryData").key(key), key, names::config_key(key));
        size += decoded_length(value);
    }
    if size > MAX_SIZE {
        // Kubernetes reports it for the whole object.
        errors.too_long(&root, MAX_SIZE);
    }
    if let Some(old) = old {
        immutable(errors, map, old, &["data", "binaryData"]);
    }
}

pub(crate) fn secret(errors: &mut Errors, secret: &Value, old: Option<&Value>) {
    let data = Field::root().child("data");
    let mut size = 0;
    for (key, value) in entries(secret, "/data") {
        errors.invalid_all(&data.key(key), key, names::config_key(key));
        size += decoded_length(value);
    }
    if size > MAX_SIZE {
        errors.too_long(&data, MAX_SIZE);
    }
    of_type(errors, secret, &data);
    if let Some(old) = old {
        errors.immutable(
            &Field::root().child("type"),
            at(secret, "/type"),
            at(old, "/type"),
        );
        immutable(errors, secret, old, &["data"]);
    }
}

/// What a Secret's type promises to be in it.
fn of_type(errors: &mut Errors, secret: &Value, data: &Field) {
    let value = |key: &str| secret["data"].get(key);
    match text(secret, "/type") {
        "kubernetes.io/service-account-token" => {
            let annotation = "kubernetes.io/service-account.name";
            if secret["metadata"]["annotations"][annotation]
                .as_str()
                .unwrap_or_default()
                .is_empty()
            {
                errors.required(
                    &Field::root()
                        .child("metadata")
                        .child("annotations")
                        .key(annotation),
                    "",
                );
            }
        }
        kind @ ("kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson") => {
            let key = if kind.ends_with("json") {
                ".dockerconfigjson"
            } else {
                ".dockercfg"
            };
            match value(key) {
                None => errors.required(&data.key(key), ""),
                Some(value) if !is_json(value) => {
                    errors.invalid(
                        &data.key(key),
                        "<secret contents redacted>",
                        "invalid JSON document",
                    );
                }
                Some(_) => {}
            }
        }
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            errors.required(&data.key("username"), "");
            errors.required(&data.key("password"), "");
        }
        "kubernetes.io/ssh-auth"
            if value("ssh-privatekey").is_none_or(|value| decoded_length(value) == 0) =>
        {
            errors.required(&data.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if value(key).is_none() {
                    errors.required(&data.key(key), "");
                }
            }
        }
        _ => {}
    }
}

/// Once `immutable` is true it stays so, and the data with it.
fn immutable(errors: &mut Errors, new: &Value, old: &Value, fields: &[&str]) {
    if !flag(old, "/immutable") {
        return;
    }
    let root = Field::root();
    if !flag(new, "/immutable") {
        errors.forbidden(
            &root.child("immutable"),
            "field is immutable when `immutable` is set",
        );
    }
    for field in fields {
        let pointer = format!("/{field}");
        if entries(new, &pointer).ne(entries(old, &pointer)) {
            errors.forbidden(&root.child(field), "field is immutable when `immutable` is set");
        }
    }
}

fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.len() / 4 * 3 - text.bytes().rev().take(2).filter(|byte| *byte == b'=').count()
}

fn is_json(value: &Value) -> bool {
    STANDARD
        .decode(value.as_str().unwrap_or_default())
        .is_ok_and(|bytes| serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok())
}
