//! What is wrong with the file, and where.

use std::path::Path;

use serde_saphyr::{Error, Location, Spanned};
use supervisor::preflight::Problem;

use crate::explain::nearest;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Line and column, from 1.
    at: Option<(u64, u64)>,
    what: String,
    cure: String,
}

impl Mistake {
    /// A mistake of a value that was read.
    pub(super) fn at<T>(value: &Spanned<T>, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            at: Some(place(&value.referenced)),
            what: what.into(),
            cure: cure.into(),
        }
    }

    /// A mistake of the whole file.
    pub(super) fn of_all(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            at: None,
            what: what.into(),
            cure: cure.into(),
        }
    }

    /// What the reader says.
    pub(super) fn of(error: &Error) -> Self {
        let at = error.location().as_ref().map(place);
        let error = error.without_snippet();
        let (what, cure) = match error {
            Error::SerdeUnknownField { field, expected, .. } => {
                (format!("unknown field `{field}`"), suggestion(field, expected))
            }
            Error::SerdeUnknownVariant {
                variant, expected, ..
            } => (
                format!("`{variant}` isn't possible here"),
                suggestion(variant, expected),
            ),
            Error::SerdeMissingField { field, .. } => (
                format!("the field `{field}` is missing"),
                "docs/config.md has an example".to_owned(),
            ),
            Error::DuplicateMappingKey { key: Some(key), .. } => {
                (format!("`{key}` is there twice"), "write it once".to_owned())
            }
            Error::Unexpected {
                expected: "sequence start",
                ..
            } => (
                "a list is expected here".to_owned(),
                "as in `[a, b]`, or each on a line of its own after `- `".to_owned(),
            ),
            other => (
                expected(other),
                "docs/config.md tells what can be written".to_owned(),
            ),
        };
        Self { at, what, cure }
    }

    /// As it is told.
    pub(crate) fn problem(&self, path: &Path) -> Problem {
        let place = self.at.map(|(line, column)| format!(":{line}:{column}"));
        Problem {
            what: format!("{}{}: {}", path.display(), place.unwrap_or_default(), self.what),
            cure: self.cure.clone(),
            fatal: true,
        }
    }
}

/// What a value should have been, or else what the reader says.
fn expected(error: &Error) -> String {
    match error {
        Error::InvalidScalar { ty: "u16", .. } => {
            "a whole number from 0 to 65535 is expected here".to_owned()
        }
        Error::InvalidScalar { ty: "u32", .. } => "a whole number is expected here".to_owned(),
        Error::InvalidScalar { ty: "boolean", .. } => "`true` or `false` is expected here".to_owned(),
        Error::Unexpected { expected, .. } if expected.contains("scalar") => {
            "one value is expected here".to_owned()
        }
        Error::Unexpected {
            expected: "mapping start",
            ..
        } => "fields are expected here, as in `name: value`".to_owned(),
        other => {
            let text = other.to_string();
            // The place is told in front; the reader says it again.
            let text = text.lines().next().unwrap_or_default();
            let text = text.strip_prefix("error: ").unwrap_or(text);
            let text = match (text.strip_prefix("line "), text.split_once(": ")) {
                (Some(_), Some((_, rest))) => rest,
                _ => text,
            };
            without_place(text).to_owned()
        }
    }
}

/// Without ` at line 3, column 7` at the end.
fn without_place(text: &str) -> &str {
    match text.rfind(" at line ") {
        Some(end) => &text[..end],
        None => text,
    }
}

fn place(location: &Location) -> (u64, u64) {
    (location.line(), location.column())
}

/// The nearest of what can be written, or all of it.
pub(super) fn suggestion(written: &str, possible: &[&str]) -> String {
    match nearest(written, possible.iter().copied()).first() {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("possible are {}", possible.join(", ")),
    }
}
