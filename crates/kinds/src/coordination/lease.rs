//! Lease.

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{int, set_default, text};

pub(crate) const KIND: Entry = Entry {
    default: |lease| set_default(lease, "spec", json!({})),
    rules,
    columns: &[
        columns::NAME,
        column(
            "Holder",
            "string",
            "The identity of the holder of a current lease.",
        ),
        columns::AGE,
    ],
    row: |lease, now| {
        vec![
            columns::name(lease),
            text(lease, "/spec/holderIdentity").into(),
            columns::age(lease, now),
        ]
    },
    ..Entry::namespaced::<Lease>("lease")
};

fn rules(errors: &mut Errors, lease: &Value, _old: Option<&Value>) {
    let spec = Field::root().child("spec");
    for (field, least) in [("leaseDurationSeconds", 1), ("leaseTransitions", 0)] {
        if let Some(value) = int(lease, &format!("/spec/{field}")).filter(|value| *value < least) {
            let detail = if least == 0 {
                "must be greater than or equal to 0"
            } else {
                "must be greater than 0"
            };
            errors.invalid(&spec.child(field), value, detail);
        }
    }
    let strategy = text(lease, "/spec/strategy");
    if !text(lease, "/spec/preferredHolder").is_empty() && strategy.is_empty() {
        errors.forbidden(
            &spec.child("preferredHolder"),
            "may only be specified if `strategy` is defined",
        );
    }
}
