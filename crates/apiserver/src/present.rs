//! Objects in the form that the client wants: as they are, as rows of a table, or their metadata alone.

use bytes::Bytes;
use kinds::Kind;
use serde_json::{Value, json};

use crate::negotiate::{Form, Include};
use crate::object;
use crate::status::Failure;

/// What a list says about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListMetadata {
    pub(crate) revision: u64,
    pub(crate) continuation: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl ListMetadata {
    fn json(&self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(token) = &self.continuation {
            metadata["continue"] = token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

/// One object.
pub(crate) fn one(kind: &Kind, form: Form, object: Bytes) -> Result<Bytes, Failure> {
    match form {
        Form::Objects => Ok(object),
        Form::Metadata => Ok(object::partial(&object::parse(&object)?).to_string().into()),
        Form::Table(include) => {
            let object = object::parse(&object)?;
            let metadata = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
            let rows = vec![row(kind, include, object, now())];
            Ok(table(kind, metadata, rows, true).to_string().into())
        }
    }
}

/// A list of objects.
pub(crate) fn many<'a>(
    kind: &Kind,
    form: Form,
    metadata: &ListMetadata,
    objects: impl Iterator<Item = &'a Bytes>,
) -> Result<Bytes, Failure> {
    match form {
        Form::Objects => {
            let head = (format!("{}List", kind.kind), object::api_version(kind));
            Ok(join(&head.0, &head.1, metadata, objects))
        }
        Form::Metadata => {
            let partial = |object: &Bytes| Ok(object::partial(&object::parse(object)?).to_string().into());
            let objects = objects.map(partial).collect::<Result<Vec<Bytes>, Failure>>()?;
            let name = "PartialObjectMetadataList";
            Ok(join(name, "meta.k8s.io/v1", metadata, objects.iter()))
        }
        Form::Table(include) => {
            let now = now();
            let row = |object: &Bytes| Ok(row(kind, include, object::parse(object)?, now));
            let rows = objects.map(row).collect::<Result<_, Failure>>()?;
            Ok(table(kind, metadata.json(), rows, true).to_string().into())
        }
    }
}

/// A list made of its items' bytes.
fn join<'a>(
    kind: &str,
    api_version: &str,
    metadata: &ListMetadata,
    objects: impl Iterator<Item = &'a Bytes>,
) -> Bytes {
    let mut list = format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{},\"items\":[",
        metadata.json()
    )
    .into_bytes();
    for (index, object) in objects.enumerate() {
        if index > 0 {
            list.push(b',');
        }
        list.extend_from_slice(object);
    }
    list.extend_from_slice(b"]}");
    list.into()
}

/// The object of a watch event. Only the first table of a watch carries its columns.
pub(crate) fn event(kind: &Kind, form: Form, object: &Bytes, first: bool) -> Result<Bytes, Failure> {
    match form {
        Form::Objects | Form::Metadata => one(kind, form, object.clone()),
        Form::Table(include) => {
            let object = object::parse(object)?;
            let metadata = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
            let rows = vec![row(kind, include, object, now())];
            Ok(table(kind, metadata, rows, first).to_string().into())
        }
    }
}

/// The object of a bookmark: nothing but a revision, and on the first one after the initial events, a mark.
pub(crate) fn bookmark(kind: &Kind, form: Form, revision: u64, initial_events_end: bool) -> Value {
    let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
    if initial_events_end {
        metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
    }
    match form {
        Form::Objects => json!({
            "kind": kind.kind, "apiVersion": object::api_version(kind), "metadata": metadata,
        }),
        Form::Metadata => json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        }),
        Form::Table(_) => table(kind, metadata, Vec::new(), false),
    }
}

fn table(kind: &Kind, metadata: Value, rows: Vec<Value>, columns: bool) -> Value {
    let columns: Vec<Value> = kind
        .columns
        .iter()
        .filter(|_| columns)
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

fn row(kind: &Kind, include: Include, object: Value, now: i64) -> Value {
    let cells = (kind.row)(&object, now);
    let object = match include {
        Include::None => Value::Null,
        Include::Metadata => object::partial(&object),
        Include::Object => object,
    };
    json!({ "cells": cells, "object": object })
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
