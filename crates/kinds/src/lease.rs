//! Lease.

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use crate::columns::{self, column};
use crate::errors::{Errors, Field};
use crate::json::{int, set_default, text};
use crate::kind::{FieldError, Kind};
use crate::{decode, meta_validation, names};

pub(crate) const KIND: Kind = Kind {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    short_names: &[],
    categories: &[],
    namespaced: true,
    status: false,
    scale: None,
    generation: false,
    subresources: &[],
    decode: decode::typed::<Lease>,
    default: |lease| set_default(lease, "spec", json!({})),
    validate,
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
    fields: &[],
};

fn validate(lease: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta_validation::object(&mut errors, lease, old, true, names::subdomain);
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
    errors.into_list()
}
