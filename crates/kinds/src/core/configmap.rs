//! ConfigMap.

use k8s_openapi::api::core::v1::ConfigMap;

use crate::columns::{self, column};
use crate::core::config_validation;
use crate::entry::Entry;
use crate::json::entries;

pub(crate) const KIND: Entry = Entry {
    short_names: &["cm"],
    rules: config_validation::config_map,
    columns: &[
        columns::NAME,
        column("Data", "string", "The number of keys that hold data."),
        columns::AGE,
    ],
    row: |map, now| {
        let keys = entries(map, "/data").chain(entries(map, "/binaryData")).count();
        vec![columns::name(map), keys.into(), columns::age(map, now)]
    },
    ..Entry::namespaced::<ConfigMap>("configmap")
};
