//! Namespace.

use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};

use crate::columns::{self, column};
use crate::json::{at, set, set_default, set_default_text, text};
use crate::kind::{Column, Kind};
use crate::{decode, meta_validation};

pub(crate) const KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    categories: &[],
    namespaced: false,
    status: true,
    scale: None,
    generation: false,
    subresources: &["finalize"],
    decode: decode::typed::<Namespace>,
    default,
    validate: meta_validation::namespace,
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
