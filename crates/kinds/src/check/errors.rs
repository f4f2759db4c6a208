//! Collecting what is wrong with an object, in Kubernetes' words.

use std::fmt;

use serde_json::Value;

use crate::kind::{FieldError, Reason};
use crate::notes::short;

/// Path of a field, as in `spec.containers[0].ports[1].name`.
#[derive(Debug, Clone)]
pub(crate) struct Field(String);

impl Field {
    pub(crate) fn root() -> Field {
        Field(String::new())
    }

    /// Where Kubernetes puts mistakes that it has no place for.
    pub(crate) fn nowhere() -> Field {
        Field("<nil>".to_owned())
    }

    pub(crate) fn child(&self, name: &str) -> Field {
        let name = short(name);
        if self.0.is_empty() {
            Field(name)
        } else {
            Field(format!("{}.{name}", self.0))
        }
    }

    pub(crate) fn index(&self, index: usize) -> Field {
        Field(format!("{}[{index}]", self.0))
    }

    pub(crate) fn key(&self, key: &str) -> Field {
        Field(format!("{}[{}]", self.0, short(key)))
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The mistakes found so far; about as much as a request may be long, if there are more.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<FieldError>, usize);

/// How long all that is said may be.
const MOST: usize = 3 << 20;

impl Errors {
    pub(crate) fn into_list(self) -> Vec<FieldError> {
        self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one because of which rules of a schema could misunderstand the object.
    pub(crate) fn prevent_rules(&self) -> bool {
        let mut reasons = self.0.iter().map(|error| error.reason);
        reasons.any(|reason| {
            matches!(
                reason,
                Reason::Required
                    | Reason::TypeInvalid
                    | Reason::TooLong
                    | Reason::TooMany
                    | Reason::NotSupported
            )
        })
    }

    pub(crate) fn extend(&mut self, others: Errors) {
        others.0.into_iter().for_each(|error| self.add(error));
    }

    fn push(&mut self, reason: Reason, field: &Field, body: String, detail: &str) {
        let message = if detail.is_empty() {
            body
        } else {
            format!("{body}: {detail}")
        };
        self.add(FieldError {
            reason,
            field: field.0.clone(),
            message,
        });
    }

    fn add(&mut self, error: FieldError) {
        if self.1 < MOST {
            self.1 += error.field.len() + error.message.len();
            self.0.push(error);
        }
    }

    pub(crate) fn required(&mut self, field: &Field, detail: &str) {
        self.push(Reason::Required, field, "Required value".to_owned(), detail);
    }

    pub(crate) fn invalid(&mut self, field: &Field, value: impl Into<Value>, detail: &str) {
        self.invalid_text(field, &value.into().to_string(), detail);
    }

    /// A value that is shown otherwise than JSON would be.
    pub(crate) fn invalid_text(&mut self, field: &Field, shown: &str, detail: &str) {
        self.push(Reason::Invalid, field, format!("Invalid value: {shown}"), detail);
    }

    /// A value of another type than its schema's.
    pub(crate) fn wrong_type(&mut self, field: &Field, value: impl Into<Value>, detail: &str) {
        let body = format!("Invalid value: {}", value.into());
        self.push(Reason::TypeInvalid, field, body, detail);
    }

    /// One mistake for each message of a format check.
    pub(crate) fn invalid_all(&mut self, field: &Field, value: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid(field, value, &message);
        }
    }

    pub(crate) fn not_supported(&mut self, field: &Field, value: impl Into<Value>, supported: &[&str]) {
        let supported: Vec<_> = supported.iter().map(|value| format!("{value:?}")).collect();
        let detail = format!("supported values: {}", supported.join(", "));
        self.push(
            Reason::NotSupported,
            field,
            format!("Unsupported value: {}", value.into()),
            &detail,
        );
    }

    pub(crate) fn duplicate(&mut self, field: &Field, value: impl Into<Value>) {
        self.push(
            Reason::Duplicate,
            field,
            format!("Duplicate value: {}", value.into()),
            "",
        );
    }

    pub(crate) fn forbidden(&mut self, field: &Field, detail: &str) {
        self.push(Reason::Forbidden, field, "Forbidden".to_owned(), detail);
    }

    pub(crate) fn too_long(&mut self, field: &Field, most: usize) {
        let detail = format!("may not be more than {most} bytes");
        self.push(Reason::TooLong, field, "Too long".to_owned(), &detail);
    }

    pub(crate) fn too_many(&mut self, field: &Field, found: usize, most: usize) {
        let items = if most == 1 { "item" } else { "items" };
        let detail = format!("must have at most {most} {items}");
        self.push(Reason::TooMany, field, format!("Too many: {found}"), &detail);
    }

    pub(crate) fn not_found(&mut self, field: &Field, value: &str) {
        self.push(
            Reason::NotFound,
            field,
            format!("Not found: {}", Value::from(value)),
            "",
        );
    }

    /// A value that must be one of a few.
    pub(crate) fn one_of(&mut self, field: &Field, value: &str, supported: &[&str]) {
        if !supported.contains(&value) {
            self.not_supported(field, value, supported);
        }
    }

    /// A number that may not be negative; absent is fine.
    pub(crate) fn not_negative(&mut self, field: &Field, value: Option<i64>) {
        if let Some(value) = value.filter(|value| *value < 0) {
            self.invalid(field, value, "must be greater than or equal to 0");
        }
    }

    /// A number within bounds; absent is fine.
    pub(crate) fn in_range(&mut self, field: &Field, value: Option<i64>, low: i64, high: i64) {
        if let Some(value) = value.filter(|value| !(low..=high).contains(value)) {
            self.invalid(
                field,
                value,
                &format!("must be between {low} and {high}, inclusive"),
            );
        }
    }

    /// A field that can't change once it is set.
    pub(crate) fn immutable(&mut self, field: &Field, new: Option<&Value>, old: Option<&Value>) {
        if new != old {
            self.invalid(field, new.cloned().unwrap_or_default(), "field is immutable");
        }
    }
}
