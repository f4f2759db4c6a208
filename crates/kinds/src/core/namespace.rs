//! Namespace.

use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, list, set, set_default, set_default_text, text};
use crate::kind::Column;

pub(crate) const KIND: Entry = Entry {
    short_names: &["ns"],
    status: true,
    subresources: &["finalize"],
    default,
    // Its name becomes part of host names.
    name: names::label,
    rules,
    columns: &[columns::NAME, STATUS, columns::AGE],
    row: |namespace, now| {
        vec![
            columns::name(namespace),
            text(namespace, "/status/phase").into(),
            columns::age(namespace, now),
        ]
    },
    fields: &[
        ("status.phase", |namespace| {
            text(namespace, "/status/phase").to_owned()
        }),
        ("name", |namespace| text(namespace, "/metadata/name").to_owned()),
    ],
    ..Entry::cluster::<Namespace>("namespace")
};

const STATUS: Column = column("Status", "string", "The status of the namespace");

fn default(namespace: &mut Value) {
    let name = text(namespace, "/metadata/name").to_owned();
    if !name.is_empty() {
        // NetworkPolicies select namespaces by this label, so it can't be left to the user.
        set_default(&mut namespace["metadata"], "labels", json!({}));
        set(
            &mut namespace["metadata"]["labels"],
            "kubernetes.io/metadata.name",
            name,
        );
    }
    set_default(namespace, "spec", json!({}));
    // On its way out, the finalizer is what the namespace controller removes last.
    if at(namespace, "/metadata/deletionTimestamp").is_none() {
        set_default(&mut namespace["spec"], "finalizers", json!(["kubernetes"]));
    }
    set_default(namespace, "status", json!({}));
    set_default_text(&mut namespace["status"], "phase", "Active");
}

fn rules(errors: &mut Errors, namespace: &Value, _old: Option<&Value>) {
    let field = Field::root().child("spec").child("finalizers");
    for finalizer in list(namespace, "/spec/finalizers")
        .iter()
        .filter_map(Value::as_str)
    {
        errors.invalid_all(&field, finalizer, names::qualified(finalizer));
        if !finalizer.contains('/') && finalizer != "kubernetes" {
            errors.invalid(
                &field,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
}
