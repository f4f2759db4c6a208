//! Endpoints.

use k8s_openapi::api::core::v1::Endpoints;

use crate::columns;
use crate::decode;
use crate::kind::Kind;

pub(crate) const KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    categories: &[],
    namespaced: true,
    status: false,
    scale: None,
    generation: false,
    subresources: &[],
    decode: decode::typed::<Endpoints>,
    default: |_| {},
    validate: |_, _| Vec::new(),
    columns: &[columns::NAME, columns::AGE],
    row: columns::name_and_age,
    fields: &[],
};
