//! Namespace.

use k8s_openapi::api::core::v1::Namespace;

use crate::columns;
use crate::decode;
use crate::kind::Kind;

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
    default: |_| {},
    validate: |_, _| Vec::new(),
    columns: &[columns::NAME, columns::AGE],
    row: columns::name_and_age,
    fields: &[],
};
