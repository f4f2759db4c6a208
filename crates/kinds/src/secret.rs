//! Secret.

use k8s_openapi::api::core::v1::Secret;

use crate::columns;
use crate::decode;
use crate::kind::Kind;

pub(crate) const KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    short_names: &[],
    categories: &[],
    namespaced: true,
    status: false,
    scale: None,
    generation: false,
    subresources: &[],
    decode: decode::typed::<Secret>,
    default: |_| {},
    validate: |_, _| Vec::new(),
    columns: &[columns::NAME, columns::AGE],
    row: columns::name_and_age,
    fields: &[],
};
