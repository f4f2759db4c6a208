//! Validation of values against a schema, in the words of Kubernetes' validator.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use crate::check::errors::{Errors, Field};

use super::numbers;
use super::schema::{Additional, Schema, keys_of};
use super::{expression, formats};

/// The patterns of a schema. Each is compiled when it is needed first: a definition has room for thousands.
#[derive(Debug, Default)]
pub(crate) struct Patterns(HashMap<String, OnceLock<Option<Regex>>>);

impl Patterns {
    /// Every pattern in a schema.
    pub(crate) fn of(schema: &Value) -> Patterns {
        let mut patterns = Patterns::default();
        patterns.add(schema);
        patterns
    }

    /// How much work it is to compile them all.
    pub(crate) fn size(&self) -> usize {
        self.0
            .keys()
            .map(|pattern| expression::size(pattern))
            .fold(0, usize::saturating_add)
    }

    fn add(&mut self, schema: &Value) {
        match schema {
            Value::Object(map) => {
                if let Some(Value::String(pattern)) = map.get("pattern") {
                    self.0.entry(pattern.clone()).or_default();
                }
                map.values().for_each(|value| self.add(value));
            }
            Value::Array(list) => list.iter().for_each(|value| self.add(value)),
            _ => {}
        }
    }

    /// Whether a text fits. What can't be compiled isn't let in, and everything would fit it.
    fn fits(&self, pattern: &str, text: &str) -> bool {
        let Some(compiled) = self.0.get(pattern) else {
            return true;
        };
        let expression = compiled.get_or_init(|| expression::compile(pattern).ok());
        expression.as_ref().is_none_or(|regex| regex.is_match(text))
    }
}

/// Checks a value. What an update leaves as it was is let be.
pub(crate) fn value(
    errors: &mut Errors,
    patterns: &Patterns,
    schema: Schema<'_>,
    path: &Field,
    new: &Value,
    old: Option<&Value>,
) {
    let check = Check { patterns };
    check.value(errors, schema, path, new, old);
}

struct Check<'a> {
    patterns: &'a Patterns,
}

impl Check<'_> {
    fn value(&self, errors: &mut Errors, schema: Schema<'_>, path: &Field, new: &Value, old: Option<&Value>) {
        if old == Some(new) {
            return;
        }
        if !self.is_of_type(errors, schema, path, new) {
            return;
        }
        self.combinations(errors, schema, path, new);
        match new {
            Value::Null => {}
            Value::Bool(_) => {}
            Value::String(text) => self.text(errors, schema, path, text),
            Value::Number(number) => numbers::check(errors, schema, path, number),
            Value::Array(list) => self.list(errors, schema, path, list, old),
            Value::Object(_) => {}
        }
        let allowed = schema.list("enum");
        if !allowed.is_empty() && !allowed.contains(new) {
            let texts: Vec<String> = allowed.iter().map(plain).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            errors.not_supported(path, new.clone(), &texts);
        }
        if new.is_object() {
            self.object(errors, schema, path, new, old);
        }
    }

    fn is_of_type(&self, errors: &mut Errors, schema: Schema<'_>, path: &Field, value: &Value) -> bool {
        let expected = match schema.ty() {
            _ if schema.is_int_or_string() => "integer,string",
            ty => ty,
        };
        let found = type_of(value);
        let fits = match (expected, found) {
            ("", _) => true,
            (_, "null") => schema.is_nullable(),
            ("number", "integer") => true,
            ("integer,string", "integer" | "string") => true,
            (expected, found) => expected == found,
        };
        if !fits {
            let detail = format!("{path} in body must be of type {expected}: {found:?}");
            errors.wrong_type(path, found, &detail);
        }
        fits
    }

    fn text(&self, errors: &mut Errors, schema: Schema<'_>, path: &Field, text: &str) {
        let length = text.chars().count();
        if let Some(most) = size(schema, "maxLength").filter(|most| length > *most) {
            errors.too_long(path, most);
        }
        if let Some(least) = size(schema, "minLength").filter(|least| length < *least) {
            let detail = format!("{path} in body should be at least {least} chars long");
            errors.invalid(path, text, &detail);
        }
        let pattern = schema.text("pattern");
        if !self.patterns.fits(pattern, text) {
            errors.invalid(path, text, &format!("{path} in body should match '{pattern}'"));
        }
        let format = schema.text("format");
        if !formats::fits(format, text) {
            let detail = format!("{path} in body must be of type {format}: {text:?}");
            errors.wrong_type(path, text, &detail);
        }
    }

    fn list(
        &self,
        errors: &mut Errors,
        schema: Schema<'_>,
        path: &Field,
        list: &[Value],
        old: Option<&Value>,
    ) {
        if let Some(items) = schema.items() {
            for (index, element) in list.iter().enumerate() {
                let old = old.and_then(|old| counterpart(schema, old, element));
                self.value(errors, items, &path.index(index), element, old);
            }
        }
        if let Some(least) = size(schema, "minItems").filter(|least| list.len() < *least) {
            let detail = format!("{path} in body should have at least {least} items");
            errors.invalid(path, list.len(), &detail);
        }
        if let Some(most) = size(schema, "maxItems").filter(|most| list.len() > *most) {
            errors.too_many(path, list.len(), most);
        }
    }

    fn object(
        &self,
        errors: &mut Errors,
        schema: Schema<'_>,
        path: &Field,
        object: &Value,
        old: Option<&Value>,
    ) {
        let count = object.as_object().map_or(0, serde_json::Map::len);
        if let Some(least) = size(schema, "minProperties").filter(|least| count < *least) {
            let detail = format!("{path} in body should have at least {least} properties");
            errors.invalid(path, count, &detail);
        }
        if let Some(most) = size(schema, "maxProperties").filter(|most| count > *most) {
            errors.too_many(path, count, most);
        }
        for (name, value) in object.as_object().into_iter().flatten() {
            let old = old.and_then(|old| old.get(name));
            match (schema.field(name), schema.additional()) {
                (Some(field), _) => self.value(errors, field, &path.child(name), value, old),
                (None, Additional::Allowed(false)) => {
                    let detail = format!("{path}.{name} in body is a forbidden property");
                    errors.invalid(&path.child(name), "", &detail);
                }
                (None, _) => {}
            }
        }
        for name in schema.texts("required") {
            if object.get(name).is_none() {
                errors.required(&path.child(name), "");
            }
        }
    }

    /// `allOf`, `anyOf`, `oneOf` and `not`: Kubernetes' validator has no place for these mistakes.
    fn combinations(&self, errors: &mut Errors, schema: Schema<'_>, path: &Field, value: &Value) {
        let nowhere = Field::nowhere();
        let name = format!("{:?}", path.to_string());
        let verdicts = |keyword| {
            schema
                .schemas(keyword)
                .map(|schema| self.errors_of(schema, path, value))
        };
        let any: Vec<Errors> = verdicts("anyOf").collect();
        if !any.is_empty() && !any.iter().any(Errors::is_empty) {
            errors.invalid(
                &nowhere,
                "",
                &format!("{name} must validate at least one schema (anyOf)"),
            );
            errors.extend(fewest(any));
        }
        let one: Vec<Errors> = verdicts("oneOf").collect();
        let valid = one.iter().filter(|errors| errors.is_empty()).count();
        if !one.is_empty() && valid != 1 {
            let found = match valid {
                0 => "Found none valid".to_owned(),
                several => format!("Found {several} valid alternatives"),
            };
            let detail = format!("{name} must validate one and only one schema (oneOf). {found}");
            errors.invalid(&nowhere, "", &detail);
            if valid == 0 {
                errors.extend(fewest(one));
            }
        }
        let all: Vec<Errors> = verdicts("allOf").collect();
        if all.iter().any(|errors| !errors.is_empty()) {
            let none = all.iter().all(|errors| !errors.is_empty());
            let none = if none { ". None validated" } else { "" };
            all.into_iter().for_each(|one| errors.extend(one));
            errors.invalid(
                &nowhere,
                "",
                &format!("{name} must validate all the schemas (allOf){none}"),
            );
        }
        if schema
            .schema("not")
            .is_some_and(|not| self.errors_of(not, path, value).is_empty())
        {
            errors.invalid(
                &nowhere,
                "",
                &format!("{name} must not validate the schema (not)"),
            );
        }
    }

    fn errors_of(&self, schema: Schema<'_>, path: &Field, value: &Value) -> Errors {
        let mut errors = Errors::default();
        self.value(&mut errors, schema, path, value, None);
        errors
    }
}

/// The alternative that failed least: the one that was meant, most likely.
fn fewest(alternatives: Vec<Errors>) -> Errors {
    alternatives
        .into_iter()
        .min_by_key(Errors::len)
        .unwrap_or_default()
}

/// The element of a list that was there before, where elements can be told apart.
pub(crate) fn counterpart<'a>(schema: Schema<'_>, old: &'a Value, element: &Value) -> Option<&'a Value> {
    if schema.list_type() != "map" {
        return None;
    }
    let keys = keys_of(schema, element);
    old.as_array()?.iter().find(|old| keys_of(schema, old) == keys)
}

pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Number(number) if numbers::is_integer(number) => "integer",
        Value::Number(_) => "number",
    }
}

fn size(schema: Schema<'_>, keyword: &str) -> Option<usize> {
    let size = schema.get(keyword)?.as_u64()?;
    Some(usize::try_from(size).unwrap_or(usize::MAX))
}

/// A text as it is, everything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
