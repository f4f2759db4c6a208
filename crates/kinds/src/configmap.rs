//! ConfigMap.

use k8s_openapi::api::core::v1::ConfigMap;

use crate::columns::{self, column};
use crate::json::entries;
use crate::kind::Kind;
use crate::{config_validation, decode};

pub(crate) const KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    categories: &[],
    namespaced: true,
    status: false,
    scale: None,
    generation: false,
    subresources: &[],
    decode: decode::typed::<ConfigMap>,
    default: |_| {},
    validate: config_validation::config_map,
    columns: &[
        columns::NAME,
        column("Data", "string", "The number of keys that hold data."),
        columns::AGE,
    ],
    row: |map, now| {
        let keys = entries(map, "/data").chain(entries(map, "/binaryData")).count();
        vec![columns::name(map), keys.into(), columns::age(map, now)]
    },
    fields: &[],
};
