//! Service.

use k8s_openapi::api::core::v1::Service;

use crate::columns;
use crate::decode;
use crate::kind::Kind;

pub(crate) const KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    namespaced: true,
    status: true,
    scale: None,
    generation: false,
    subresources: &[],
    decode: decode::typed::<Service>,
    default: |_| {},
    validate: |_, _| Vec::new(),
    columns: &[columns::NAME, columns::AGE],
    row: columns::name_and_age,
    fields: &[],
};
