//! Defaults in a schema must be what the schema lets in.

use crate::check::errors::{Errors, Field};
use crate::custom::schema::Schema;
use crate::custom::validate::{self, Patterns};
use crate::custom::{fill, prune_part};

pub(crate) fn rules(errors: &mut Errors, schema: Schema<'_>, path: &Field) {
    inner(errors, &Patterns::of(schema.0), schema, path);
}

fn inner(errors: &mut Errors, patterns: &Patterns, schema: Schema<'_>, path: &Field) {
    if let Some(default) = schema.default() {
        let path = path.child("default");
        let mut pruned = default.clone();
        if prune_part(schema, &mut pruned).is_empty() {
            // What else it leaves out is filled in as well.
            fill(schema, &mut pruned);
            validate::value(errors, patterns, schema, &path, &pruned, None);
        } else {
            errors.invalid(&path, default.clone(), "must not have unknown fields");
        }
    }
    if let Some(items) = schema.items() {
        inner(errors, patterns, items, &path.child("items"));
    }
    for (name, property) in schema.properties() {
        inner(errors, patterns, property, &path.child("properties").key(name));
    }
}
