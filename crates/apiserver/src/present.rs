//! Objects in the form that the client wants: as they are, as rows of a table, or their metadata alone.

use bytes::Bytes;
use kinds::{Column, Kind};
use serde_json::{Value, json};

use crate::negotiate::{Accept, Encoding, Form, Include};
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

/// An object in the form of its response.
pub(crate) fn encode(encoding: Encoding, object: &Value) -> Result<Bytes, Failure> {
    match encoding {
        Encoding::Json => Ok(object.to_string().into()),
        Encoding::Protobuf => Ok(protobuf::encode(object).map_err(Failure::internal)?.into()),
    }
}

/// One object.
pub(crate) fn one(kind: &Kind, accept: Accept, object: Bytes) -> Result<Bytes, Failure> {
    event(kind, accept, &object, true)
}

/// A list of objects.
pub(crate) fn many<'a>(
    kind: &Kind,
    accept: Accept,
    metadata: &ListMetadata,
    objects: impl Iterator<Item = &'a Bytes>,
) -> Result<Bytes, Failure> {
    let partial = |object: &Bytes| object::read(kind, object).map(|object| object::partial(&object));
    match (accept.form, accept.encoding) {
        (Form::Objects, Encoding::Json) => {
            let head = (kind.list_kind(), kind.api_version());
            if kind.is_kept_as_is() {
                return Ok(join(&head.0, &head.1, metadata, objects));
            }
            let read = |object: &Bytes| Ok(object::read(kind, object)?.to_string().into());
            let objects = objects.map(read).collect::<Result<Vec<Bytes>, Failure>>()?;
            Ok(join(&head.0, &head.1, metadata, objects.iter()))
        }
        (Form::Objects, Encoding::Protobuf) => {
            let objects = objects.map(|object| object::read(kind, object));
            collect(&kind.api_version(), kind.kind(), metadata, objects)
        }
        (Form::Metadata, Encoding::Json) => {
            let partial = |object| Ok(partial(object)?.to_string().into());
            let objects = objects.map(partial).collect::<Result<Vec<Bytes>, Failure>>()?;
            let name = "PartialObjectMetadataList";
            Ok(join(name, "meta.k8s.io/v1", metadata, objects.iter()))
        }
        (Form::Metadata, Encoding::Protobuf) => collect(
            "meta.k8s.io/v1",
            "PartialObjectMetadata",
            metadata,
            objects.map(partial),
        ),
        (Form::Table(include), encoding) => {
            let now = now();
            let row = |object: &Bytes| {
                let object = object::read(kind, object)?;
                Ok(row(kind.row(&object, now), include, object))
            };
            let rows = objects.map(row).collect::<Result<_, Failure>>()?;
            encode(encoding, &table(&kind.columns(), metadata.json(), rows))
        }
    }
}

/// A list as protobuf, one object after the other.
fn collect(
    api_version: &str,
    kind: &str,
    metadata: &ListMetadata,
    objects: impl Iterator<Item = Result<Value, Failure>>,
) -> Result<Bytes, Failure> {
    let mut list = protobuf::List::new(api_version, kind, &metadata.json()).map_err(Failure::internal)?;
    for object in objects {
        list.push(&object?).map_err(Failure::internal)?;
    }
    Ok(list.finish().into())
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
pub(crate) fn event(kind: &Kind, accept: Accept, object: &Bytes, first: bool) -> Result<Bytes, Failure> {
    let shown = match (accept.form, accept.encoding) {
        // As it is stored.
        (Form::Objects, Encoding::Json) if kind.is_kept_as_is() => return Ok(object.clone()),
        (Form::Objects, _) => object::read(kind, object)?,
        (Form::Metadata, _) => object::partial(&object::read(kind, object)?),
        (Form::Table(include), _) => {
            let object = object::read(kind, object)?;
            let columns = if first { kind.columns() } else { Vec::new() };
            table_of_one(&columns, kind.row(&object, now()), include, object)
        }
    };
    encode(accept.encoding, &shown)
}

/// A Scale, which isn't stored.
pub(crate) fn scale(accept: Accept, scale: Value) -> Result<Bytes, Failure> {
    let shown = match accept.form {
        Form::Objects => scale,
        Form::Metadata => object::partial(&scale),
        Form::Table(include) => {
            let cells = kinds::scale_row(&scale, now());
            table_of_one(kinds::SCALE_COLUMNS, cells, include, scale)
        }
    };
    encode(accept.encoding, &shown)
}

/// The object of a bookmark: nothing but a revision, and on the first one after the initial events, a mark.
pub(crate) fn bookmark(kind: &Kind, form: Form, revision: u64, initial_events_end: bool) -> Value {
    let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
    if initial_events_end {
        metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
    }
    match form {
        Form::Objects => json!({
            "kind": kind.kind(), "apiVersion": kind.api_version(), "metadata": metadata,
        }),
        Form::Metadata => json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        }),
        Form::Table(_) => table(&[], metadata, Vec::new()),
    }
}

fn table_of_one(columns: &[Column<'_>], cells: Vec<Value>, include: Include, object: Value) -> Value {
    let metadata = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
    table(columns, metadata, vec![row(cells, include, object)])
}

fn table(columns: &[Column<'_>], metadata: Value, rows: Vec<Value>) -> Value {
    let definition = |column: &Column<'_>| {
        json!({
            "name": column.name,
            "type": column.kind,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns.iter().map(definition).collect::<Vec<_>>(),
        "rows": rows,
    })
}

fn row(cells: Vec<Value>, include: Include, object: Value) -> Value {
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
