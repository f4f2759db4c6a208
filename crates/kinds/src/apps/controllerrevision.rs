//! ControllerRevision: a state that a StatefulSet or DaemonSet can go back to.

use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, flag, int, list, text};

pub(crate) const KIND: Entry = Entry {
    rules,
    columns: &[
        columns::NAME,
        column("Controller", "string", "The object whose state this is."),
        column(
            "Revision",
            "string",
            "The number of the state, the newest the highest.",
        ),
        columns::AGE,
    ],
    row: |revision, now| {
        vec![
            columns::name(revision),
            controller(revision).into(),
            int(revision, "/revision").unwrap_or_default().into(),
            columns::age(revision, now),
        ]
    },
    ..Entry::namespaced::<ControllerRevision>("controllerrevision")
};

/// As in `statefulset.apps/web`.
fn controller(revision: &Value) -> String {
    let owners = list(revision, "/metadata/ownerReferences");
    let Some(owner) = owners.iter().find(|owner| flag(owner, "/controller")) else {
        return "<none>".to_owned();
    };
    let group = text(owner, "/apiVersion")
        .split_once('/')
        .map_or("", |(group, _)| group);
    let dot = if group.is_empty() { "" } else { "." };
    let kind = text(owner, "/kind").to_lowercase();
    format!("{kind}{dot}{group}/{}", text(owner, "/name"))
}

fn rules(errors: &mut Errors, revision: &Value, old: Option<&Value>) {
    let root = Field::root();
    errors.not_negative(&root.child("revision"), int(revision, "/revision"));
    let data = at(revision, "/data");
    match (data, old) {
        (_, Some(old)) => errors.immutable(&root.child("data"), data, at(old, "/data")),
        (None, None) => errors.required(&root.child("data"), "data is mandatory"),
        (Some(Value::Object(_)), None) => {}
        (Some(_), None) => errors.required(&root.child("data"), "data must be a valid JSON object"),
    }
}
