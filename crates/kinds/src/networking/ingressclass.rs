//! IngressClass.

use k8s_openapi::api::networking::v1::IngressClass;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::{names, reference};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, set_default, text};
use crate::kind::Generation;

pub(crate) const KIND: Entry = Entry {
    generation: Generation::Content,
    default: |class| {
        set_default(class, "spec", json!({}));
        if let Some(parameters) = class.pointer_mut("/spec/parameters") {
            set_default(parameters, "scope", "Cluster");
        }
    },
    rules,
    columns: &[
        columns::NAME,
        column("Controller", "string", "The controller that serves this class."),
        column("Parameters", "string", "An object with more parameters."),
        columns::AGE,
    ],
    row,
    ..Entry::cluster::<IngressClass>("ingressclass")
};

fn row(class: &Value, now: i64) -> Vec<Value> {
    let parameters = match at(class, "/spec/parameters") {
        None => "<none>".to_owned(),
        Some(parameters) => {
            let (kind, name) = (text(parameters, "/kind"), text(parameters, "/name"));
            match at(parameters, "/apiGroup").and_then(Value::as_str) {
                Some(group) => format!("{kind}.{group}/{name}"),
                None => format!("{kind}/{name}"),
            }
        }
    };
    vec![
        columns::default_name(class, "ingressclass.kubernetes.io/is-default-class"),
        text(class, "/spec/controller").into(),
        parameters.into(),
        columns::age(class, now),
    ]
}

fn rules(errors: &mut Errors, class: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &class["spec"];
    if let Some(old) = old {
        let (new, old) = (at(spec, "/controller"), at(old, "/spec/controller"));
        errors.immutable(&path.child("controller"), new, old);
    }
    controller(errors, text(spec, "/controller"), &path.child("controller"));
    if let Some(parameters) = at(spec, "/parameters") {
        self::parameters(errors, parameters, &path.child("parameters"));
    }
}

/// A controller's name: a domain, a slash and a path.
fn controller(errors: &mut Errors, name: &str, path: &Field) {
    const MOST: usize = 250;
    if name.len() > MOST {
        errors.too_long(path, MOST);
    }
    let (domain, rest) = match name.split_once('/') {
        _ if name.is_empty() => return errors.required(path, ""),
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => (domain, rest),
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            return errors.invalid(path, name, detail);
        }
    };
    errors.invalid_all(path, domain, names::subdomain(domain));
    errors.invalid_all(path, rest, names::http_path(rest));
}

fn parameters(errors: &mut Errors, parameters: &Value, path: &Field) {
    reference::typed(errors, parameters, path);
    let namespace = at(parameters, "/namespace").and_then(Value::as_str);
    let field = path.child("namespace");
    match (text(parameters, "/scope"), namespace) {
        ("Namespace", None) => errors.required(&field, "`parameters.scope` is set to 'Namespace'"),
        ("Namespace", Some(namespace)) => {
            errors.invalid_all(&field, namespace, names::label(namespace));
        }
        ("Cluster", Some(_)) => errors.forbidden(&field, "`parameters.scope` is set to 'Cluster'"),
        ("Cluster", None) => {}
        (other, _) => errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]),
    }
}
