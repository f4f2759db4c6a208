//! ResourceQuota.

use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, entries, list, set_default, text};
use crate::{decode, pod};

pub(crate) const KIND: Entry = Entry {
    short_names: &["quota"],
    status: true,
    decode: |raw| {
        let mut decoded = decode::typed::<ResourceQuota>(raw)?;
        for (pointer, path) in [
            ("/spec/hard", "spec.hard"),
            ("/status/hard", "status.hard"),
            ("/status/used", "status.used"),
        ] {
            pod::quantities::map(&mut decoded.object, pointer, path)?;
        }
        Ok(decoded)
    },
    default: |quota| {
        set_default(quota, "spec", json!({}));
        set_default(quota, "status", json!({}));
    },
    rules,
    columns: &[
        columns::NAME,
        column("Request", "string", "What is used and what may be requested."),
        column("Limit", "string", "What is used and what limits may add up to."),
        columns::AGE,
    ],
    row: |quota, now| {
        let [requests, limits] = [false, true].map(|limits| usage(quota, limits));
        vec![
            columns::name(quota),
            requests.into(),
            limits.into(),
            columns::age(quota, now),
        ]
    },
    ..Entry::namespaced::<ResourceQuota>("resourcequota")
};

/// As in `pods: 2/10, services: 1/5`: requests, or limits.
fn usage(quota: &Value, limits: bool) -> String {
    let of_kind = entries(quota, "/status/hard").filter(|(name, _)| name.starts_with("limits.") == limits);
    let amounts = of_kind.map(|(name, hard)| {
        let used = quota["status"]["used"][name].as_str().unwrap_or("0");
        format!("{name}: {used}/{}", hard.as_str().unwrap_or_default())
    });
    amounts.collect::<Vec<_>>().join(", ")
}

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

fn rules(errors: &mut Errors, quota: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let hard = path.child("hard");
    for (name, amount) in entries(quota, "/spec/hard") {
        resource(errors, name, &hard.key(name));
        pod::resources::quantity(errors, name, amount, &hard.key(name));
    }
    let scopes = path.child("scopes");
    for scope in list(quota, "/spec/scopes").iter().filter_map(Value::as_str) {
        if !SCOPES.contains(&scope) {
            errors.invalid(&scopes, scope, "unsupported scope");
        }
    }
    for requirement in list(quota, "/spec/scopeSelector/matchExpressions") {
        let path = path.child("scopeSelector").child("matchExpressions");
        let scope = text(requirement, "/scopeName");
        if !SCOPES.contains(&scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        operator(errors, requirement, &path);
    }
    if let Some(old) = old {
        let sorted = |quota: &Value| {
            let mut scopes: Vec<_> = list(quota, "/spec/scopes").iter().map(Value::to_string).collect();
            scopes.sort_unstable();
            scopes
        };
        if sorted(quota) != sorted(old) {
            let found = at(quota, "/spec/scopes").cloned().unwrap_or_default();
            errors.invalid(&scopes, found, "field is immutable");
        }
    }
}

fn operator(errors: &mut Errors, requirement: &Value, path: &Field) {
    let none = list(requirement, "/values").is_empty();
    match text(requirement, "/operator") {
        "In" | "NotIn" if none => errors.required(
            &path.child("values"),
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        "Exists" | "DoesNotExist" if !none => errors.invalid(
            &path.child("values"),
            requirement["values"].clone(),
            "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
}

/// What can be counted without saying whose it is.
fn resource(errors: &mut Errors, name: &str, path: &Field) {
    const STANDARD: [&str; 20] = [
        "configmaps",
        "cpu",
        "ephemeral-storage",
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "memory",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
        "requests.storage",
        "resourcequotas",
        "secrets",
        "services",
        "services.loadbalancers",
        "services.nodeports",
        "storage",
    ];
    errors.invalid_all(path, name, names::qualified(name));
    let huge = name.starts_with("hugepages-") || name.starts_with("requests.hugepages-");
    if !name.contains('/') && !huge && !STANDARD.contains(&name) {
        errors.invalid(path, name, "must be a standard resource for quota");
    }
}
