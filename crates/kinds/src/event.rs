//! Event.

use k8s_openapi::api::core::v1::Event;

use crate::columns;
use crate::decode;
use crate::kind::Kind;

pub(crate) const KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    categories: &[],
    namespaced: true,
    status: false,
    scale: None,
    generation: false,
    subresources: &[],
    decode: decode::typed::<Event>,
    default: |_| {},
    validate: |_, _| Vec::new(),
    columns: &[columns::NAME, columns::AGE],
    row: columns::name_and_age,
    fields: &[],
};
