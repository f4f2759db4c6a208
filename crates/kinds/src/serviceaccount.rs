//! ServiceAccount.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::kind::Kind;
use crate::{columns, decode, meta_validation};

pub(crate) const KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    categories: &[],
    namespaced: true,
    status: false,
    scale: None,
    generation: false,
    subresources: &[],
    decode: decode::typed::<ServiceAccount>,
    default: |_| {},
    validate: meta_validation::service_account,
    columns: &[columns::NAME, columns::AGE],
    row: columns::name_and_age,
    fields: &[],
};
