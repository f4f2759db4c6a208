//! The rules of Ingresses.

use std::net::IpAddr;

use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::{addresses, names, numbers, reference};
use crate::json::{at, int, list, text};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(crate) fn rules(errors: &mut Errors, ingress: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &ingress["spec"];
    let paths_of_rules = path.child("rules");
    let backend_of_all = at(spec, "/defaultBackend");
    if list(spec, "/rules").is_empty() && backend_of_all.is_none() {
        errors.invalid(
            &path,
            Value::Null,
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if let Some(value) = backend_of_all {
        backend(errors, value, &path.child("defaultBackend"));
    }
    for (index, rule) in list(spec, "/rules").iter().enumerate() {
        let path = paths_of_rules.index(index);
        host(errors, text(rule, "/host"), &path.child("host"));
        if let Some(http) = at(rule, "/http") {
            http_paths(errors, http, &path.child("http").child("paths"));
        }
    }
    tls(errors, spec, &path.child("tls"));
    let class = at(spec, "/ingressClassName").and_then(Value::as_str);
    if let Some(class) = class {
        errors.invalid_all(&path.child("ingressClassName"), class, names::subdomain(class));
    }
    let annotation = ingress["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
    if let (Some(annotation), Some(class), None) = (annotation, class, old)
        && annotation != class
    {
        errors.invalid(
            &Field::root().child("annotations").child(CLASS_ANNOTATION),
            annotation,
            "must match `ingressClassName` when both are specified",
        );
    }
    status(errors, ingress);
}

/// A host name, perhaps with a wildcard as its first label.
fn host(errors: &mut Errors, host: &str, path: &Field) {
    if host.is_empty() {
        return;
    }
    if host.parse::<IpAddr>().is_ok() {
        errors.invalid(path, host, "must be a DNS name, not an IP address");
    }
    errors.invalid_all(path, host, names::host(host));
}

fn http_paths(errors: &mut Errors, http: &Value, path: &Field) {
    if list(http, "/paths").is_empty() {
        errors.required(path, "");
    }
    for (index, entry) in list(http, "/paths").iter().enumerate() {
        http_path(errors, entry, &path.index(index));
    }
}

fn http_path(errors: &mut Errors, entry: &Value, path: &Field) {
    let (kind, value) = (text(entry, "/pathType"), text(entry, "/path"));
    let field = path.child("path");
    match kind {
        "" => return errors.required(&path.child("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                errors.invalid(&field, value, "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if value.contains(part) {
                    errors.invalid(&field, value, &format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if value.ends_with(end) {
                    errors.invalid(&field, value, &format!("cannot end with '{end}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                errors.invalid(&field, value, "must be an absolute path");
            }
        }
        _ => {
            let supported = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.not_supported(&path.child("pathType"), kind, &supported);
        }
    }
    backend(errors, &entry["backend"], &path.child("backend"));
}

fn backend(errors: &mut Errors, backend: &Value, path: &Field) {
    match (at(backend, "/resource"), at(backend, "/service")) {
        (Some(_), Some(_)) => {
            errors.invalid(path, "", "cannot set both resource and service backends");
        }
        (Some(resource), None) => reference::typed(errors, resource, &path.child("resource")),
        (None, Some(service)) => service_backend(errors, service, path),
        (None, None) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn service_backend(errors: &mut Errors, service: &Value, path: &Field) {
    let field = path.child("service");
    match text(service, "/name") {
        "" => errors.required(&field.child("name"), ""),
        name => errors.invalid_all(&field.child("name"), name, names::label(name)),
    }
    let port = field.child("port");
    match (
        text(service, "/port/name"),
        int(service, "/port/number").unwrap_or_default(),
    ) {
        ("", 0) => errors.required(path, "port name or number is required"),
        ("", number) => numbers::port(errors, Some(number), &port.child("number")),
        (name, 0) => errors.invalid_all(&port.child("name"), name, names::port(name)),
        _ => errors.invalid(path, "", "cannot set both port name & port number"),
    }
}

fn tls(errors: &mut Errors, spec: &Value, path: &Field) {
    for (index, tls) in list(spec, "/tls").iter().enumerate() {
        let path = path.index(index);
        for (index, host) in list(tls, "/hosts").iter().enumerate() {
            let host = host.as_str().unwrap_or_default();
            errors.invalid_all(&path.child("hosts").index(index), host, names::host(host));
        }
        let secret = text(tls, "/secretName");
        if !secret.is_empty() {
            errors.invalid_all(&path.child("secretName"), secret, names::subdomain(secret));
        }
    }
}

fn status(errors: &mut Errors, ingress: &Value) {
    let path = Field::root()
        .child("status")
        .child("loadBalancer")
        .child("ingress");
    for (index, entry) in list(ingress, "/status/loadBalancer/ingress").iter().enumerate() {
        let path = path.index(index);
        let (ip, name) = (text(entry, "/ip"), text(entry, "/hostname"));
        if !ip.is_empty() {
            errors.invalid_all(&path.child("ip"), ip, addresses::ip(ip));
        }
        if !name.is_empty() {
            let path = path.child("hostname");
            errors.invalid_all(&path, name, names::subdomain(name));
            if name.parse::<IpAddr>().is_ok() {
                errors.invalid(&path, name, "must be a DNS name, not an IP address");
            }
        }
    }
}
