//! StorageClass.

use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::columns::{self, column, or_none};
use crate::entry::Entry;
use crate::json::{at, entries, flag, list, set_default, text};
use crate::kind::Column;

pub(crate) const KIND: Entry = Entry {
    short_names: &["sc"],
    default: |class| {
        set_default(class, "reclaimPolicy", "Delete");
        set_default(class, "volumeBindingMode", "Immediate");
    },
    rules,
    columns: COLUMNS,
    row: |class, now| {
        vec![
            columns::default_name(class, "storageclass.kubernetes.io/is-default-class"),
            text(class, "/provisioner").into(),
            or_none(text(class, "/reclaimPolicy")),
            or_none(text(class, "/volumeBindingMode")),
            flag(class, "/allowVolumeExpansion").into(),
            columns::age(class, now),
        ]
    },
    ..Entry::cluster::<StorageClass>("storageclass")
};

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Provisioner", "string", "Who makes the volumes."),
    column(
        "ReclaimPolicy",
        "string",
        "What becomes of a volume when its claim is gone.",
    ),
    column("VolumeBindingMode", "string", "When claims get their volumes."),
    column("AllowVolumeExpansion", "string", "Whether volumes may grow."),
    columns::AGE,
];

fn rules(errors: &mut Errors, class: &Value, old: Option<&Value>) {
    const MOST_PARAMETERS: usize = 512;
    let root = Field::root();
    match text(class, "/provisioner") {
        "" => errors.required(&root.child("provisioner"), ""),
        name => {
            let messages = names::qualified(&name.to_lowercase());
            errors.invalid_all(&root.child("provisioner"), name, messages);
        }
    }
    let parameters = root.child("parameters");
    if entries(class, "/parameters").count() > MOST_PARAMETERS {
        errors.too_long(&parameters, MOST_PARAMETERS);
    }
    if entries(class, "/parameters").any(|(name, _)| name.is_empty()) {
        errors.invalid(&parameters, "", "field can not be empty.");
    }
    let policy = text(class, "/reclaimPolicy");
    errors.one_of(&root.child("reclaimPolicy"), policy, &["Delete", "Retain"]);
    let mode = text(class, "/volumeBindingMode");
    let modes = ["Immediate", "WaitForFirstConsumer"];
    errors.one_of(&root.child("volumeBindingMode"), mode, &modes);
    topologies(errors, class, &root.child("allowedTopologies"));
    if let Some(old) = old {
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            let pointer = format!("/{field}");
            errors.immutable(&root.child(field), at(class, &pointer), at(old, &pointer));
        }
    }
}

fn topologies(errors: &mut Errors, class: &Value, path: &Field) {
    for (index, topology) in list(class, "/allowedTopologies").iter().enumerate() {
        let path = path.index(index).child("matchLabelExpressions");
        for (index, expression) in list(topology, "/matchLabelExpressions").iter().enumerate() {
            let path = path.index(index);
            let key = text(expression, "/key");
            errors.invalid_all(&path.child("key"), key, names::qualified(key));
            if list(expression, "/values").is_empty() {
                errors.required(&path.child("values"), "");
            }
        }
    }
    let topologies = list(class, "/allowedTopologies");
    for (index, topology) in topologies.iter().enumerate() {
        if topologies[..index].contains(topology) {
            errors.duplicate(&path.index(index).child("matchLabelExpressions"), json!(""));
        }
    }
}
