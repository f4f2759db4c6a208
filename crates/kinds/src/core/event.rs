//! Event (core/v1).

use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::columns::{self, column, wide};
use crate::entry::Entry;
use crate::json::{at, int, text};
use crate::kind::Column;

pub(crate) const KIND: Entry = Entry {
    short_names: &["ev"],
    rules,
    columns: COLUMNS,
    row,
    fields: &[
        ("involvedObject.kind", |event| {
            text(event, "/involvedObject/kind").to_owned()
        }),
        ("involvedObject.namespace", |event| {
            text(event, "/involvedObject/namespace").to_owned()
        }),
        ("involvedObject.name", |event| {
            text(event, "/involvedObject/name").to_owned()
        }),
        ("involvedObject.uid", |event| {
            text(event, "/involvedObject/uid").to_owned()
        }),
        ("involvedObject.apiVersion", |event| {
            text(event, "/involvedObject/apiVersion").to_owned()
        }),
        ("involvedObject.resourceVersion", |event| {
            text(event, "/involvedObject/resourceVersion").to_owned()
        }),
        ("involvedObject.fieldPath", |event| {
            text(event, "/involvedObject/fieldPath").to_owned()
        }),
        ("reason", |event| text(event, "/reason").to_owned()),
        ("reportingComponent", |event| {
            text(event, "/reportingComponent").to_owned()
        }),
        ("source", |event| source_component(event).to_owned()),
        ("type", |event| text(event, "/type").to_owned()),
    ],
    ..Entry::namespaced::<Event>("event")
};

/// Kubernetes is as strict with events as it was when their form was new: what has an `eventTime` must say who
/// reports it and why.
pub(crate) fn rules(errors: &mut Errors, event: &Value, _old: Option<&Value>) {
    let about = text(event, "/involvedObject/namespace");
    let namespace = text(event, "/metadata/namespace");
    let root = Field::root();
    let has_time = at(event, "/eventTime").is_some();
    // Events live where the object they are about does; about a cluster-wide one, in `default`.
    let misplaced = match (about, has_time) {
        ("", false) => !matches!(namespace, "" | "default"),
        ("", true) => !matches!(namespace, "" | "default" | "kube-system"),
        (about, false) => about != namespace,
        (_, true) => false,
    };
    if misplaced {
        let field = root.child("involvedObject").child("namespace");
        errors.invalid(&field, about, "does not match event.namespace");
    }
    if !has_time {
        return;
    }
    let controller = text(event, "/reportingComponent");
    let path = root.child("reportingController");
    if controller.is_empty() {
        errors.required(&path, "");
    }
    errors.invalid_all(&path, controller, names::qualified(controller));
    for (field, most) in [("reportingInstance", 128), ("action", 128), ("reason", 128)] {
        let found = text(event, &format!("/{field}"));
        if found.is_empty() {
            errors.required(&root.child(field), "");
        }
        at_most(errors, found, &root.child(field), most);
    }
    at_most(errors, text(event, "/message"), &root.child("message"), 1024);
}

fn at_most(errors: &mut Errors, text: &str, path: &Field, most: usize) {
    if text.len() > most {
        errors.invalid(path, "", &format!("can have at most {most} characters"));
    }
}

pub(crate) const COLUMNS: &[Column] = &[
    column(
        "Last Seen",
        "string",
        "The time at which the most recent occurrence of this event was recorded.",
    ),
    column(
        "Type",
        "string",
        "Type of this event (Normal, Warning), new types could be added in the future",
    ),
    column(
        "Reason",
        "string",
        "Why the event happened, as a short word for programs.",
    ),
    column("Object", "string", "The object that this event is about."),
    wide(
        "Subobject",
        "string",
        "The part of the object that the event is about.",
    ),
    wide("Source", "string", "The component that reports the event."),
    column("Message", "string", "What happened, for people."),
    wide(
        "First Seen",
        "string",
        "The time at which the event was first recorded.",
    ),
    wide("Count", "string", "The number of times this event has occurred."),
    Column {
        priority: 1,
        ..columns::NAME
    },
];

pub(crate) fn row(event: &Value, now: i64) -> Vec<Value> {
    let first = columns::since(first_of(event, &["/firstTimestamp", "/eventTime"]), now);
    let last = match first_of(event, &["/series/lastObservedTime", "/lastTimestamp"]) {
        "" => first.clone(),
        time => columns::since(time, now),
    };
    let count = match at(event, "/series") {
        Some(series) => int(series, "/count").unwrap_or_default(),
        None => int(event, "/count").filter(|count| *count != 0).unwrap_or(1),
    };
    vec![
        last.into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        target(event).into(),
        text(event, "/involvedObject/fieldPath").into(),
        source(event).into(),
        text(event, "/message").trim().into(),
        first.into(),
        count.into(),
        columns::name(event),
    ]
}

fn first_of<'a>(event: &'a Value, pointers: &[&str]) -> &'a str {
    pointers
        .iter()
        .map(|pointer| text(event, pointer))
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

fn target(event: &Value) -> String {
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    match text(event, "/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source_component(event: &Value) -> &str {
    first_of(event, &["/source/component", "/reportingComponent"])
}

fn source(event: &Value) -> String {
    match first_of(event, &["/source/host", "/reportingInstance"]) {
        "" => source_component(event).to_owned(),
        host => format!("{}, {host}", source_component(event)),
    }
}
