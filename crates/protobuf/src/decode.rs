//! From bytes to JSON, message by message.

use serde_json::{Map, Value};

use crate::envelope;
use crate::error::Error;
use crate::messages::ListMeta;
use crate::scalars;
use crate::table::{Field, Message, Or, Root, Shape, Type};
use crate::wire::{Item, Reader};

/// Values that one object may have: two bytes of protobuf can become hundreds in memory.
const MAX_VALUES: usize = 1 << 19;
/// Most kinds have a dozen levels; schemas in definitions of kinds have more.
const MAX_DEPTH: usize = 96;

/// Decodes one object, with what it may still hold.
pub(crate) struct Decoder {
    values: usize,
    depth: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder {
            values: MAX_VALUES,
            depth: MAX_DEPTH,
        }
    }
}

impl Decoder {
    /// An object or a list of its kind.
    pub(crate) fn root(&mut self, root: Root, bytes: &[u8]) -> Result<Map<String, Value>, Error> {
        let mut object = Map::new();
        match root {
            Root::Object(message) => self.message(message, bytes, &mut object)?,
            Root::List(message) => self.list(message, bytes, &mut object)?,
        }
        Ok(object)
    }

    /// A list: all of them have their metadata and items under the same numbers.
    fn list(
        &mut self,
        message: &'static Message,
        bytes: &[u8],
        into: &mut Map<String, Value>,
    ) -> Result<(), Error> {
        let malformed = |why| malformed("List", "items", why);
        let mut metadata = Map::new();
        let mut items = Vec::new();
        let mut reader = Reader::new(bytes);
        while let Some((number, item)) = reader.next().map_err(malformed)? {
            match (number, item) {
                (1, Item::Bytes(bytes)) => self.message(&ListMeta, bytes, &mut metadata)?,
                (2, Item::Bytes(bytes)) => items.push(self.object(message, bytes)?),
                (1 | 2, _) => return Err(malformed("the field has another wire type")),
                _ => {}
            }
        }
        into.insert("metadata".into(), metadata.into());
        into.insert("items".into(), items.into());
        Ok(())
    }

    fn object(&mut self, message: &'static Message, bytes: &[u8]) -> Result<Value, Error> {
        let mut object = Map::new();
        self.spend()?;
        self.message(message, bytes, &mut object)?;
        Ok(Value::Object(object))
    }

    /// A message's fields, beside those that are there already: proto2 merges what comes in parts.
    pub(crate) fn message(
        &mut self,
        message: &'static Message,
        bytes: &[u8],
        into: &mut Map<String, Value>,
    ) -> Result<(), Error> {
        self.depth = self.depth.checked_sub(1).ok_or(Error::TooComplex)?;
        let mut reader = Reader::new(bytes);
        while let Some((number, item)) = reader.next().map_err(|why| malformed(message.name, "", why))? {
            if let Some(field) = message.field(number) {
                self.field(message, field, item, into)?;
            }
        }
        for field in message.fields {
            if field.shape == Shape::Always && !into.contains_key(field.name) {
                self.spend()?;
                into.insert(field.name.to_owned(), scalars::zero(field.value));
            }
        }
        self.depth += 1;
        Ok(())
    }

    fn field(
        &mut self,
        message: &Message,
        field: &'static Field,
        item: Item<'_>,
        into: &mut Map<String, Value>,
    ) -> Result<(), Error> {
        let malformed = |why| malformed(message.name, field.name, why);
        match (field.shape, field.value, item) {
            (Shape::Inline, Type::Message(inner), Item::Bytes(bytes)) => self.message(inner, bytes, into),
            (Shape::List, Type::Int32 | Type::Int64, Item::Bytes(packed)) => {
                let mut numbers = Reader::new(packed);
                while !numbers.is_empty() {
                    let number = Item::Varint(numbers.varint().map_err(malformed)?);
                    let value = scalars::read(field.value, number).map_err(malformed)?;
                    self.push(field, value, into)?;
                }
                Ok(())
            }
            (Shape::List, ..) => {
                let value = self.value(field, item, Map::new(), malformed)?;
                self.push(field, value, into)
            }
            (Shape::Map, _, Item::Bytes(entry)) => self.entry(field, entry, into, malformed),
            (Shape::Plain | Shape::Always | Shape::Optional, ..) => {
                let earlier = match into.remove(field.name) {
                    Some(Value::Object(earlier)) if matches!(field.value, Type::Message(_)) => earlier,
                    _ => Map::new(),
                };
                let value = self.value(field, item, earlier, malformed)?;
                // Null is a time or a piece of JSON that isn't set.
                if !(value.is_null() || field.shape == Shape::Plain && scalars::is_zero(&value)) {
                    into.insert(field.name.to_owned(), value);
                }
                Ok(())
            }
            _ => Err(malformed("the field has another wire type")),
        }
    }

    /// One value; a message's fields join `earlier`.
    fn value(
        &mut self,
        field: &Field,
        item: Item<'_>,
        mut earlier: Map<String, Value>,
        malformed: impl Fn(&'static str) -> Error,
    ) -> Result<Value, Error> {
        self.spend()?;
        match (field.value, item) {
            (Type::Message(message), Item::Bytes(bytes)) => {
                self.message(message, bytes, &mut earlier)?;
                Ok(Value::Object(earlier))
            }
            (Type::SchemaOr(message, or), Item::Bytes(bytes)) => {
                self.schema_or(message, or, bytes, malformed)
            }
            (Type::Json, Item::Bytes(bytes)) => {
                self.json(scalars::last(bytes, 1).map_err(&malformed)?, malformed)
            }
            (kind, item) => scalars::read(kind, item).map_err(malformed),
        }
    }

    /// Either a schema or what stands in place of it.
    fn schema_or(
        &mut self,
        message: &'static Message,
        or: Or,
        bytes: &[u8],
        malformed: impl Fn(&'static str) -> Error,
    ) -> Result<Value, Error> {
        let (schema_field, mut schema, mut list, mut allowed) = match or {
            Or::Bool => (2, None, Vec::new(), false),
            Or::List | Or::Strings => (1, None, Vec::new(), false),
        };
        let mut reader = Reader::new(bytes);
        while let Some((number, item)) = reader.next().map_err(&malformed)? {
            match (number, item) {
                (number, Item::Bytes(bytes)) if number == schema_field => {
                    schema = Some(self.object(message, bytes)?);
                }
                (1, Item::Varint(value)) if or == Or::Bool => allowed = value != 0,
                (2, Item::Bytes(bytes)) if or == Or::List => list.push(self.object(message, bytes)?),
                (2, item) if or == Or::Strings => {
                    self.spend()?;
                    list.push(scalars::read(Type::String, item).map_err(&malformed)?);
                }
                (1 | 2, _) => return Err(malformed("the field has another wire type")),
                _ => {}
            }
        }
        Ok(match (schema, or) {
            (Some(schema), _) => schema,
            (None, Or::Bool) => allowed.into(),
            (None, Or::List | Or::Strings) => list.into(),
        })
    }

    /// Any JSON, or an object that is in an envelope itself.
    fn json(&mut self, raw: &[u8], malformed: impl Fn(&'static str) -> Error) -> Result<Value, Error> {
        if raw.is_empty() {
            Ok(Value::Null)
        } else if envelope::is_enveloped(raw) {
            envelope::open(self, raw, None)
        } else {
            serde_json::from_slice(raw).map_err(|_| malformed("it isn't JSON"))
        }
    }

    fn push(&mut self, field: &Field, value: Value, into: &mut Map<String, Value>) -> Result<(), Error> {
        self.spend()?;
        let list = into.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(value);
        }
        Ok(())
    }

    /// An entry of a map is a message: key and value, each of which may be unset.
    fn entry(
        &mut self,
        field: &Field,
        entry: &[u8],
        into: &mut Map<String, Value>,
        malformed: impl Fn(&'static str) -> Error,
    ) -> Result<(), Error> {
        let (mut key, mut value) = (Value::from(""), Item::Bytes(&[]));
        let mut reader = Reader::new(entry);
        while let Some((number, item)) = reader.next().map_err(&malformed)? {
            match number {
                1 => key = scalars::read(Type::String, item).map_err(&malformed)?,
                2 => value = item,
                _ => {}
            }
        }
        let value = self.value(field, value, Map::new(), malformed)?;
        if value.is_null() {
            return Ok(());
        }
        let map = into
            .entry(field.name)
            .or_insert_with(|| Value::Object(Map::new()));
        if let (Value::Object(map), Value::String(key)) = (map, key) {
            map.insert(key, value);
        }
        Ok(())
    }

    fn spend(&mut self) -> Result<(), Error> {
        self.values = self.values.checked_sub(1).ok_or(Error::TooComplex)?;
        Ok(())
    }
}

pub(crate) fn malformed(message: &str, field: &str, why: &'static str) -> Error {
    let place = match field {
        "" => message.to_owned(),
        field => format!("{message}.{field}"),
    };
    Error::Malformed { place, why }
}
