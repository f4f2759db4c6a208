//! CSINode: the drivers on a node.

use k8s_openapi::api::storage::v1::CSINode;
use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{list, text};

pub(crate) const KIND: Entry = Entry {
    rules,
    columns: &[
        columns::NAME,
        column("Drivers", "integer", "How many drivers there are on the node."),
        columns::AGE,
    ],
    row: |node, now| {
        vec![
            columns::name(node),
            list(node, "/spec/drivers").len().into(),
            columns::age(node, now),
        ]
    },
    ..Entry::cluster::<CSINode>("csinode")
};

fn rules(errors: &mut Errors, node: &Value, _old: Option<&Value>) {
    let path = Field::root().child("spec").child("drivers");
    let drivers = list(node, "/spec/drivers");
    for (index, driver) in drivers.iter().enumerate() {
        let path = path.index(index);
        for field in ["name", "nodeID"] {
            if text(driver, &format!("/{field}")).is_empty() {
                errors.required(&path.child(field), "");
            }
        }
        let name = text(driver, "/name");
        if drivers[..index].iter().any(|other| text(other, "/name") == name) {
            errors.duplicate(&path.child("name"), name);
        }
    }
}
