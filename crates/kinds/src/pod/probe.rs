//! The rules of probes and lifecycle hooks.

use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::{names, numbers};
use crate::json::{at, int, list, text};

/// Checks a container's probes and hooks.
pub(crate) fn probes(errors: &mut Errors, container: &Value, path: &Field) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(value) = at(container, &format!("/{name}")) {
            probe(errors, value, name, &path.child(name));
        }
    }
    for name in ["postStart", "preStop"] {
        if let Some(hook) = at(container, &format!("/lifecycle/{name}")) {
            handler(
                errors,
                hook,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                &path.child("lifecycle").child(name),
            );
        }
    }
}

fn probe(errors: &mut Errors, probe: &Value, name: &str, path: &Field) {
    handler(errors, probe, &["exec", "httpGet", "tcpSocket", "grpc"], path);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.not_negative(&path.child(field), int(probe, &format!("/{field}")));
    }
    let successes = int(probe, "/successThreshold").unwrap_or(1);
    if name != "readinessProbe" && successes != 1 {
        errors.invalid(&path.child("successThreshold"), successes, "must be 1");
    }
    if let Some(grace) = int(probe, "/terminationGracePeriodSeconds") {
        let field = path.child("terminationGracePeriodSeconds");
        if name == "readinessProbe" {
            errors.invalid(&field, grace, "must not be set for readinessProbes");
        } else if grace <= 0 {
            errors.invalid(&field, grace, "must be greater than 0");
        }
    }
}

fn handler(errors: &mut Errors, value: &Value, kinds: &[&str], path: &Field) {
    let mut present = kinds.iter().filter(|kind| value.get(kind).is_some());
    let Some(first) = present.next() else {
        return errors.required(path, "must specify a handler type");
    };
    for second in present {
        errors.forbidden(&path.child(second), "may not specify more than 1 handler type");
    }
    let path = path.child(first);
    let action = &value[*first];
    match *first {
        "exec" if list(action, "/command").is_empty() => errors.required(&path.child("command"), ""),
        "httpGet" => http_get(errors, action, &path),
        "tcpSocket" => numbers::port_or_name(errors, &action["port"], &path.child("port")),
        "grpc" => errors.in_range(&path.child("port"), int(action, "/port"), 1, 65_535),
        "sleep" => errors.not_negative(&path.child("seconds"), int(action, "/seconds")),
        _ => {}
    }
}

fn http_get(errors: &mut Errors, action: &Value, path: &Field) {
    if text(action, "/path").is_empty() {
        errors.required(&path.child("path"), "");
    }
    numbers::port_or_name(errors, &action["port"], &path.child("port"));
    errors.one_of(&path.child("scheme"), text(action, "/scheme"), &["HTTP", "HTTPS"]);
    for header in list(action, "/httpHeaders") {
        let name = text(header, "/name");
        errors.invalid_all(&path.child("httpHeaders"), name, names::http_header(name));
    }
}
