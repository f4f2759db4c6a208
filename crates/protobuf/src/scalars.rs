//! Values that are one thing in JSON: texts, numbers, times, quantities.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::table::Type;
use crate::wire::{self, Item, Reader};

/// Years that RFC 3339 can write.
const YEARS: std::ops::RangeInclusive<i16> = 0..=9999;

/// Reads a value that isn't a message of the table, nor any JSON. Null is a time that isn't set.
pub(crate) fn read(kind: Type, item: Item<'_>) -> Result<Value, &'static str> {
    match (kind, item) {
        (Type::Bool, Item::Varint(value)) => Ok((value != 0).into()),
        // As in Go, what is beyond 32 bits doesn't count.
        (Type::Int32, Item::Varint(value)) => Ok((value as i32).into()),
        (Type::Int64, Item::Varint(value)) => Ok(value.cast_signed().into()),
        (Type::String, Item::Bytes(bytes)) => text(bytes).map(Value::from),
        (Type::Bytes, Item::Bytes(bytes)) => Ok(STANDARD.encode(bytes).into()),
        (Type::Time, Item::Bytes(bytes)) => read_time(bytes, "%Y-%m-%dT%H:%M:%SZ"),
        (Type::MicroTime, Item::Bytes(bytes)) => read_time(bytes, "%Y-%m-%dT%H:%M:%S.%6fZ"),
        // What JSON has no word for can't be in an object.
        (Type::Double, Item::Fixed64(bytes)) => Ok(double(f64::from_le_bytes(bytes))),
        (Type::Quantity, Item::Bytes(bytes)) => match text(last(bytes, 1)?)? {
            "" => Ok("0".into()),
            text => Ok(text.into()),
        },
        (Type::IntOrString, Item::Bytes(bytes)) => read_int_or_string(bytes),
        (Type::Strings, Item::Bytes(bytes)) => read_strings(bytes),
        _ => Err("the field has another wire type"),
    }
}

/// What is there when a field isn't set that always is.
pub(crate) fn zero(kind: Type) -> Value {
    match kind {
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::IntOrString | Type::Double => 0.into(),
        Type::String | Type::Bytes => "".into(),
        Type::Quantity => "0".into(),
        Type::Strings => Value::Array(Vec::new()),
        Type::Time | Type::MicroTime | Type::Json | Type::Message(_) | Type::SchemaOr(..) => Value::Null,
    }
}

/// Whether a value is what an unset field has. Messages in plain fields are always sent, and Go's JSON has
/// them as well when they are empty.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(_) => false,
    }
}

/// A number as JSON writes it: without a fraction where it has none.
fn double(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        (number as i64).into()
    } else {
        number.into()
    }
}

fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    str::from_utf8(bytes).map_err(|_| "a text isn't UTF-8")
}

/// The bytes of a message's field; the last one counts. Empty where there is none.
pub(crate) fn last(message: &[u8], field: u32) -> Result<&[u8], &'static str> {
    let mut reader = Reader::new(message);
    let mut found = &[][..];
    while let Some((number, item)) = reader.next()? {
        match item {
            Item::Bytes(bytes) if number == field => found = bytes,
            Item::Varint(_) | Item::Fixed64(_) | Item::Other if number == field => {
                return Err("the field has another wire type");
            }
            _ => {}
        }
    }
    Ok(found)
}

/// No seconds at all is no time; nothing is not the same as 1970.
fn read_time(bytes: &[u8], format: &str) -> Result<Value, &'static str> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, item)) = reader.next()? {
        match (number, item) {
            (1, Item::Varint(value)) => seconds = value.cast_signed(),
            (2, Item::Varint(value)) => nanos = value as i32,
            (1 | 2, _) => return Err("the field has another wire type"),
            _ => {}
        }
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| "a time is out of range")?;
    if !YEARS.contains(&time.to_zoned(jiff::tz::TimeZone::UTC).year()) {
        return Err("a time is out of range");
    }
    Ok(time.strftime(format).to_string().into())
}

fn read_int_or_string(bytes: &[u8]) -> Result<Value, &'static str> {
    let (mut is_text, mut number, mut string) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((field, item)) = reader.next()? {
        match (field, item) {
            (1, Item::Varint(value)) => is_text = value == 1,
            (2, Item::Varint(value)) => number = value as i32,
            (3, Item::Bytes(bytes)) => string = text(bytes)?,
            (1..=3, _) => return Err("the field has another wire type"),
            _ => {}
        }
    }
    Ok(if is_text { string.into() } else { number.into() })
}

fn read_strings(bytes: &[u8]) -> Result<Value, &'static str> {
    let mut reader = Reader::new(bytes);
    let mut list = Vec::new();
    while let Some((field, item)) = reader.next()? {
        match (field, item) {
            (1, Item::Bytes(bytes)) => list.push(text(bytes)?.into()),
            (1, _) => return Err("the field has another wire type"),
            _ => {}
        }
    }
    Ok(Value::Array(list))
}

/// Appends a field with a value that isn't a message of the table. The error is what it should have been.
pub(crate) fn write(field: u32, kind: Type, value: &Value, out: &mut Vec<u8>) -> Result<(), &'static str> {
    match kind {
        Type::Bool => wire::number(field, value.as_bool().ok_or("a boolean")?.into(), out),
        Type::Int32 => wire::number(field, int32(value)?.into(), out),
        Type::Int64 => wire::number(field, value.as_i64().ok_or("a 64-bit integer")?, out),
        Type::String => wire::bytes(field, value.as_str().ok_or("a string")?.as_bytes(), out),
        Type::Bytes => {
            let text = value.as_str().ok_or("a base64 string")?;
            let bytes = STANDARD.decode(text).map_err(|_| "a base64 string")?;
            wire::bytes(field, &bytes, out);
        }
        Type::Time => write_time(field, time(value)?.as_second(), 0, out),
        Type::MicroTime => {
            let time = time(value)?;
            let nanos = time.subsec_nanosecond();
            // Nanoseconds are counted from the full second before.
            let (seconds, nanos) = match nanos {
                0.. => (time.as_second(), nanos),
                _ => (time.as_second() - 1, nanos + 1_000_000_000),
            };
            write_time(field, seconds, nanos / 1000 * 1000, out);
        }
        Type::Quantity => wire::bytes(field, &quantity(value)?, out),
        Type::IntOrString => wire::bytes(field, &int_or_string(value)?, out),
        Type::Strings => {
            let mut list = Vec::new();
            for text in value.as_array().ok_or("a list of strings")? {
                wire::bytes(1, text.as_str().ok_or("a list of strings")?.as_bytes(), &mut list);
            }
            wire::bytes(field, &list, out);
        }
        Type::Json => {
            let mut raw = Vec::new();
            wire::bytes(1, value.to_string().as_bytes(), &mut raw);
            wire::bytes(field, &raw, out);
        }
        Type::Double => {
            let number = value.as_f64().ok_or("a number")?;
            wire::fixed64(field, number.to_le_bytes(), out);
        }
        Type::Message(_) | Type::SchemaOr(..) => return Err("an object"),
    }
    Ok(())
}

fn int32(value: &Value) -> Result<i32, &'static str> {
    let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
    number.ok_or("a 32-bit integer")
}

fn time(value: &Value) -> Result<Timestamp, &'static str> {
    let time = value.as_str().and_then(|text| text.parse().ok());
    time.ok_or("a time, as in 2006-01-02T15:04:05Z")
}

fn write_time(field: u32, seconds: i64, nanos: i32, out: &mut Vec<u8>) {
    let mut time = Vec::new();
    wire::number(1, seconds, &mut time);
    wire::number(2, nanos.into(), &mut time);
    wire::bytes(field, &time, out);
}

fn quantity(value: &Value) -> Result<Vec<u8>, &'static str> {
    let mut message = Vec::new();
    match value {
        Value::String(text) => wire::bytes(1, text.as_bytes(), &mut message),
        Value::Number(number) => wire::bytes(1, number.to_string().as_bytes(), &mut message),
        _ => return Err("a quantity, as in 500m"),
    }
    Ok(message)
}

fn int_or_string(value: &Value) -> Result<Vec<u8>, &'static str> {
    let mut message = Vec::new();
    match value {
        Value::String(text) => {
            wire::number(1, 1, &mut message);
            wire::bytes(3, text.as_bytes(), &mut message);
        }
        Value::Number(_) => {
            wire::number(1, 0, &mut message);
            wire::number(2, int32(value)?.into(), &mut message);
        }
        _ => return Err("an integer or a string"),
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn there_and_back(kind: Type, value: Value) -> Value {
        let mut out = Vec::new();
        write(1, kind, &value, &mut out).unwrap();
        let (_, item) = Reader::new(&out).next().unwrap().unwrap();
        read(kind, item).unwrap()
    }

    #[test]
    fn every_type_survives() {
        for (kind, value) in [
            (Type::Bool, json!(true)),
            (Type::Int32, json!(-7)),
            (Type::Int64, json!(i64::MIN)),
            (Type::String, json!("käse")),
            (Type::Bytes, json!("AAECAw==")),
            (Type::Time, json!("2024-02-29T23:59:59Z")),
            (Type::Time, json!("1969-12-31T23:59:59Z")),
            (Type::MicroTime, json!("2024-02-29T23:59:59.000007Z")),
            (Type::MicroTime, json!("1969-12-31T23:59:59.500000Z")),
            (Type::Quantity, json!("1500m")),
            (Type::IntOrString, json!(8080)),
            (Type::IntOrString, json!("25%")),
            (Type::Strings, json!(["a", "b"])),
            (Type::Double, json!(0.5)),
            (Type::Double, json!(-7)),
        ] {
            assert_eq!(there_and_back(kind, value.clone()), value, "{kind:?}");
        }
    }

    #[test]
    fn a_time_loses_what_its_type_does_not_have() {
        let time = there_and_back(Type::Time, json!("2024-01-01T02:00:00.75+02:00"));
        assert_eq!(time, "2024-01-01T00:00:00Z");
        let time = there_and_back(Type::MicroTime, json!("2024-01-01T00:00:00.123456789Z"));
        assert_eq!(time, "2024-01-01T00:00:00.123456Z");
    }

    #[test]
    fn an_unset_time_is_null_and_a_zero_one_is_1970() {
        assert_eq!(read(Type::Time, Item::Bytes(&[])), Ok(Value::Null));
        let zero = read(Type::Time, Item::Bytes(&[0x08, 0, 0x10, 0]));
        assert_eq!(zero, Ok("1970-01-01T00:00:00Z".into()));
        let mut far = Vec::new();
        wire::number(1, i64::MAX, &mut far);
        assert!(read(Type::Time, Item::Bytes(&far)).is_err());
    }

    #[test]
    fn what_is_not_of_its_type_is_refused() {
        for (kind, value) in [
            (Type::Bool, json!(1)),
            (Type::Int32, json!(1_i64 << 40)),
            (Type::Int64, json!(0.5)),
            (Type::String, json!(7)),
            (Type::Bytes, json!("?")),
            (Type::Time, json!("yesterday")),
            (Type::Quantity, json!({})),
            (Type::IntOrString, json!([])),
            (Type::Strings, json!([1])),
        ] {
            assert!(write(1, kind, &value, &mut Vec::new()).is_err(), "{kind:?}");
        }
    }
}
