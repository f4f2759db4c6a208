//! Event (events.k8s.io/v1): the newer view of core/v1's Events. They are the same objects; fields have other
//! names.

use k8s_openapi::api::events::v1::Event;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::core::event;
use crate::entry::{Entry, Kept};
use crate::json::{at, int, text};

pub(crate) const KIND: Entry = Entry {
    short_names: &["ev"],
    rules,
    columns: event::COLUMNS,
    row: |event, now| event::row(&write(event.clone()), now),
    fields: &[
        ("reason", |event| text(event, "/reason").to_owned()),
        ("regarding.kind", |event| {
            text(event, "/involvedObject/kind").to_owned()
        }),
        ("regarding.namespace", |event| {
            text(event, "/involvedObject/namespace").to_owned()
        }),
        ("regarding.name", |event| {
            text(event, "/involvedObject/name").to_owned()
        }),
        ("regarding.uid", |event| {
            text(event, "/involvedObject/uid").to_owned()
        }),
        ("regarding.apiVersion", |event| {
            text(event, "/involvedObject/apiVersion").to_owned()
        }),
        ("regarding.resourceVersion", |event| {
            text(event, "/involvedObject/resourceVersion").to_owned()
        }),
        ("regarding.fieldPath", |event| {
            text(event, "/involvedObject/fieldPath").to_owned()
        }),
        ("reportingController", |event| {
            text(event, "/reportingComponent").to_owned()
        }),
        ("type", |event| text(event, "/type").to_owned()),
    ],
    kept: Some(Kept {
        group: "",
        read,
        write,
    }),
    ..Entry::namespaced::<Event>("event")
};

/// Fields of core/v1, and what they are called here.
const NAMES: [(&str, &str); 7] = [
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("involvedObject", "regarding"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
];

fn read(mut kept: Value) -> Value {
    for (core, own) in NAMES {
        rename(&mut kept, core, own);
    }
    kept["apiVersion"] = "events.k8s.io/v1".into();
    kept
}

fn write(mut own: Value) -> Value {
    for (core, name) in NAMES {
        rename(&mut own, name, core);
    }
    if own.get("involvedObject").is_none() {
        own["involvedObject"] = json!({});
    }
    own["apiVersion"] = "v1".into();
    own
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(fields) = object.as_object_mut()
        && let Some(value) = fields.remove(from)
    {
        fields.insert(to.to_owned(), value);
    }
}

/// Stricter than core/v1's, as Kubernetes is with its clients of this version.
fn rules(errors: &mut Errors, new: &Value, old: Option<&Value>) {
    let (new, old) = (write(new.clone()), old.cloned().map(write));
    event::rules(errors, &new, old.as_ref());
    let root = Field::root();
    let Some(old) = old else {
        series(errors, &new);
        if at(&new, "/eventTime").is_none() {
            errors.required(&root.child("eventTime"), "");
        }
        let kind = text(&new, "/type");
        if !matches!(kind, "Normal" | "Warning") {
            errors.invalid(&root.child("type"), "", &format!("has invalid value: {kind}"));
        }
        let set = [
            ("firstTimestamp", at(&new, "/firstTimestamp").is_some()),
            ("lastTimestamp", at(&new, "/lastTimestamp").is_some()),
            ("count", int(&new, "/count").unwrap_or_default() != 0),
            (
                "source",
                !text(&new, "/source/component").is_empty() || !text(&new, "/source/host").is_empty(),
            ),
        ];
        for (field, _) in set.iter().filter(|(_, set)| *set) {
            errors.invalid(&root.child(field), "", "needs to be unset");
        }
        return;
    };
    if new["series"] != old["series"] {
        series(errors, &new);
    }
    for field in [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingComponent",
        "reportingInstance",
    ] {
        let name = match field {
            "reportingComponent" => "reportingController",
            other => other,
        };
        errors.immutable(&root.child(name), new.get(field), old.get(field));
    }
}

fn series(errors: &mut Errors, event: &Value) {
    let Some(series) = at(event, "/series") else {
        return;
    };
    let path = Field::root().child("series");
    if int(series, "/count").unwrap_or_default() < 2 {
        errors.invalid(&path.child("count"), "", "should be at least 2");
    }
    if at(series, "/lastObservedTime").is_none() {
        errors.required(&path.child("lastObservedTime"), "");
    }
}
