//! `fieldPath`: which field a broken rule is about, as in `.spec.ports['http']`.

use crate::check::errors::Field;
use crate::custom::schema::{Additional, Schema};

/// A step of a path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Key(String),
}

/// The steps of a path; none where it isn't one.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix("['") {
            let (name, after) = inner.split_once("']")?;
            steps.push(Step::Key(name.replace("\\'", "'")));
            rest = after;
        } else {
            let inner = rest.strip_prefix('.')?;
            let end = inner.find(['.', '[']).unwrap_or(inner.len());
            let name = &inner[..end];
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain) {
                return None;
            }
            steps.push(Step::Field(name.to_owned()));
            rest = &inner[end..];
        }
    }
    Some(steps)
}

/// Whether a path leads to a field of a schema.
pub(super) fn is_valid(schema: Schema<'_>, path: &str) -> bool {
    let Some(steps) = steps(path.trim()).filter(|steps| !steps.is_empty()) else {
        return false;
    };
    let found = steps.iter().try_fold(schema, |schema, step| {
        let (Step::Field(name) | Step::Key(name)) = step;
        match (schema.property(name), schema.additional()) {
            (Some(property), _) => Some(property),
            (None, Additional::Of(values)) => Some(values),
            _ => None,
        }
    });
    found.is_some()
}

/// The field at a path below another.
pub(super) fn within(path: &Field, below: &str) -> Field {
    let steps = steps(below).unwrap_or_default();
    steps.into_iter().fold(path.clone(), |path, step| match step {
        Step::Field(name) => path.child(&name),
        Step::Key(name) => path.key(&name),
    })
}
