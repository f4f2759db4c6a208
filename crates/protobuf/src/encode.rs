//! From JSON to bytes, message by message.

use serde_json::{Map, Value};

use crate::envelope;
use crate::error::Error;
use crate::messages::ListMeta;
use crate::scalars;
use crate::table::{self, Field, Message, Or, Root, Shape, Type};
use crate::wire;

/// A list that is encoded item by item, so that its items need not be there as JSON all at once.
#[derive(Debug)]
pub struct List {
    api_version: String,
    kind: String,
    item: &'static Message,
    raw: Vec<u8>,
}

impl List {
    /// Begins a list of objects of a kind, as in `apps/v1` and `Deployment`.
    pub fn new(api_version: &str, item_kind: &str, metadata: &Value) -> Result<List, Error> {
        let kind = format!("{item_kind}List");
        let Some(Root::List(item)) = table::find(api_version, &kind) else {
            return Err(Error::UnknownKind {
                api_version: api_version.to_owned(),
                kind,
            });
        };
        let mut raw = Vec::new();
        metadata_of_list(metadata, &mut raw)?;
        Ok(List {
            api_version: api_version.to_owned(),
            kind,
            item,
            raw,
        })
    }

    /// Adds an object.
    pub fn push(&mut self, object: &Value) -> Result<(), Error> {
        nested(2, self.item, object, ("List", "items"), &mut self.raw)
    }

    /// The list.
    pub fn finish(self) -> Vec<u8> {
        envelope::close(&self.api_version, &self.kind, &self.raw)
    }
}

/// An object or a list of its kind, without its envelope.
pub(crate) fn root(root: Root, object: &Value) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let fields = object
        .as_object()
        .ok_or_else(|| wrong(("object", ""), "an object"))?;
    match root {
        Root::Object(of) => message(of, fields, &mut out)?,
        Root::List(of) => {
            metadata_of_list(fields.get("metadata").unwrap_or(&Value::Null), &mut out)?;
            for item in items(fields.get("items"), ("List", "items"))? {
                nested(2, of, item, ("List", "items"), &mut out)?;
            }
        }
    }
    Ok(out)
}

fn metadata_of_list(metadata: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    match metadata {
        Value::Null => Ok(()),
        metadata => nested(1, &ListMeta, metadata, ("List", "metadata"), out),
    }
}

/// A message's fields; what the message doesn't have is left out.
fn message(of: &Message, object: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), Error> {
    for field in of.fields {
        if let (Shape::Inline, Type::Message(inner)) = (field.shape, field.value) {
            let mut fields = Vec::new();
            message(inner, object, &mut fields)?;
            if !fields.is_empty() {
                wire::bytes(field.number, &fields, out);
            }
            continue;
        }
        let place = (of.name, field.name);
        match (field.shape, object.get(field.name)) {
            (_, None | Some(Value::Null)) => {}
            (Shape::List, list) => {
                for element in items(list, place)? {
                    value(field.number, field, element, place, out)?;
                }
            }
            (Shape::Map, Some(map)) => {
                let map = map.as_object().ok_or_else(|| wrong(place, "an object"))?;
                entries(field, map, place, out)?;
            }
            (_, Some(single)) => value(field.number, field, single, place, out)?,
        }
    }
    Ok(())
}

fn items<'a>(list: Option<&'a Value>, place: (&str, &str)) -> Result<&'a [Value], Error> {
    match list {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(wrong(place, "a list")),
    }
}

fn entries(
    field: &Field,
    map: &Map<String, Value>,
    place: (&str, &str),
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut entry = Vec::new();
    for (key, of_key) in map.iter().filter(|(_, value)| !value.is_null()) {
        entry.clear();
        wire::bytes(1, key.as_bytes(), &mut entry);
        value(2, field, of_key, place, &mut entry)?;
        wire::bytes(field.number, &entry, out);
    }
    Ok(())
}

fn value(
    number: u32,
    field: &Field,
    value: &Value,
    place: (&str, &str),
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    match field.value {
        Type::Message(of) => nested(number, of, value, place, out),
        Type::SchemaOr(of, or) => {
            let mut fields = Vec::new();
            schema_or(of, or, value, place, &mut fields)?;
            wire::bytes(number, &fields, out);
            Ok(())
        }
        kind => scalars::write(number, kind, value, out).map_err(|expected| wrong(place, expected)),
    }
}

/// Either a schema or what stands in place of it.
fn schema_or(
    of: &Message,
    or: Or,
    value: &Value,
    place: (&str, &str),
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    match (or, value) {
        (Or::Bool, Value::Bool(allowed)) => wire::number(1, i64::from(*allowed), out),
        (Or::Bool, schema) => {
            wire::number(1, 1, out);
            nested(2, of, schema, place, out)?;
        }
        (Or::List, Value::Array(schemas)) => {
            for schema in schemas {
                nested(2, of, schema, place, out)?;
            }
        }
        (Or::Strings, Value::Array(texts)) => {
            for text in texts {
                let text = text.as_str().ok_or_else(|| wrong(place, "a list of strings"))?;
                wire::bytes(2, text.as_bytes(), out);
            }
        }
        (Or::List | Or::Strings, schema) => nested(1, of, schema, place, out)?,
    }
    Ok(())
}

fn nested(
    number: u32,
    of: &Message,
    value: &Value,
    place: (&str, &str),
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let object = value.as_object().ok_or_else(|| wrong(place, "an object"))?;
    let mut fields = Vec::new();
    message(of, object, &mut fields)?;
    wire::bytes(number, &fields, out);
    Ok(())
}

fn wrong((message, field): (&str, &str), expected: &'static str) -> Error {
    Error::Type {
        place: format!("{message}.{field}"),
        expected,
    }
}
