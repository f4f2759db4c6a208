//! JSON as values of expressions, by its schema: a number of a schema for numbers has a fraction, a time is a
//! time, and fields have the names that expressions can write.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cel::Value;
use cel::common::types::CelString;
use cel::common::value::CowVal;
use serde_json::Value as Json;

use super::functions::ENVIRONMENT;
use super::types::escape;
use crate::custom::schema::{Additional, Schema};

/// A value that a schema describes; with what rules see of type and metadata if it is a whole resource.
pub(crate) fn value(schema: Schema<'_>, is_root: bool, json: &Json) -> Value {
    match json {
        Json::Object(_) => match schema.additional() {
            Additional::Of(values) => map(json, |name, json| {
                Some((name.to_owned(), value(values, false, json)))
            }),
            _ => object(schema, is_root, json),
        },
        Json::Array(list) => {
            let of_schema = |json| match schema.items() {
                Some(items) => value(items, false, json),
                None => plain(json),
            };
            Value::List(Arc::new(list.iter().map(of_schema).collect()))
        }
        Json::Number(number) if schema.ty() == "number" => Value::Float(number.as_f64().unwrap_or_default()),
        Json::String(text) => match schema.text("format") {
            "byte" => match STANDARD.decode(text) {
                Ok(bytes) => Value::Bytes(Arc::new(bytes)),
                Err(_) => plain(json),
            },
            "duration" => made("duration", text.clone()).unwrap_or_else(|| plain(json)),
            "date" => made("timestamp", format!("{text}T00:00:00Z")).unwrap_or_else(|| plain(json)),
            "date-time" => made("timestamp", text.clone()).unwrap_or_else(|| plain(json)),
            _ => plain(json),
        },
        _ => plain(json),
    }
}

fn object(schema: Schema<'_>, is_root: bool, json: &Json) -> Value {
    let is_resource = is_root || schema.is_resource();
    map(json, |name, json| match (name, is_resource) {
        ("apiVersion" | "kind", true) => Some((name.to_owned(), plain(json))),
        ("metadata", true) => {
            let named = |name: &str, json: &Json| {
                matches!(name, "name" | "generateName").then(|| (name.to_owned(), plain(json)))
            };
            Some((name.to_owned(), map(json, named)))
        }
        _ => Some((escape(name)?, value(schema.property(name)?, false, json))),
    })
}

fn map(json: &Json, entry: impl Fn(&str, &Json) -> Option<(String, Value)>) -> Value {
    let entries = json.as_object().into_iter().flatten();
    let entries: HashMap<String, Value> = entries.filter_map(|(name, json)| entry(name, json)).collect();
    entries.into()
}

/// A value that no schema describes.
fn plain(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(number)) => Value::Float(number),
            (None, None) => Value::Null,
        },
        Json::String(text) => text.clone().into(),
        Json::Array(list) => Value::List(Arc::new(list.iter().map(plain).collect())),
        Json::Object(_) => map(json, |name, json| Some((name.to_owned(), plain(json)))),
    }
}

/// What a function of the language makes of a text.
fn made(function: &str, text: String) -> Option<Value> {
    let args = vec![CowVal::owned(CelString::from(text))];
    let function = ENVIRONMENT.find_overload(function, &args)?;
    Value::try_from(function(args).ok()?.as_ref()).ok()
}
