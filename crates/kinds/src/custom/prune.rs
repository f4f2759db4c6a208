//! Pruning: what a schema doesn't know is dropped.

use serde_json::Value;

use super::schema::{Additional, Schema, is_meta};
use crate::notes::note;

/// Drops unknown fields of an object and collects their paths. The type and metadata of the object itself, and
/// of those in it, aren't the schema's business.
pub(crate) fn prune(schema: Schema<'_>, object: &mut Value) -> Vec<String> {
    let mut pruning = Pruning::default();
    pruning.object(Some(schema), object, true);
    pruning.dropped
}

/// The same of a value inside an object.
pub(crate) fn prune_part(schema: Schema<'_>, value: &mut Value) -> Vec<String> {
    let mut pruning = Pruning::default();
    pruning.object(Some(schema), value, schema.is_resource());
    pruning.dropped
}

#[derive(Default)]
struct Pruning {
    path: String,
    dropped: Vec<String>,
}

impl Pruning {
    /// No schema knows nothing.
    fn object(&mut self, schema: Option<Schema<'_>>, value: &mut Value, is_resource: bool) {
        match value {
            Value::Object(map) => {
                let keeps = schema.is_some_and(Schema::preserves_unknown);
                map.retain(|name, value| {
                    if is_resource && is_meta(name) {
                        return true;
                    }
                    self.field(schema, name, value, keeps)
                });
            }
            Value::Array(list) => {
                let items = schema.and_then(Schema::items);
                // Lists are no place for unknown fields; what is in their elements may be.
                if schema.is_some_and(Schema::preserves_unknown) && items.is_none() {
                    return;
                }
                for (index, element) in list.iter_mut().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    self.object(items, element, items.is_some_and(Schema::is_resource));
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }

    /// Whether a field stays; what is in it is pruned.
    fn field(&mut self, schema: Option<Schema<'_>>, name: &str, value: &mut Value, keeps: bool) -> bool {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let known = match schema.map(|schema| (schema.property(name), schema.additional())) {
            Some((Some(property), _)) => Some(Some(property)),
            Some((None, Additional::Of(schema))) => Some(Some(schema)),
            Some((None, Additional::Allowed(_))) => Some(None),
            Some((None, Additional::None)) | None => None,
        };
        match known {
            // Fields of any name and kept whole.
            Some(None) if keeps => {}
            Some(inner) => self.object(inner, value, inner.is_some_and(Schema::is_resource)),
            None if keeps => {}
            None => note(&mut self.dropped, &self.path),
        }
        self.path.truncate(length);
        known.is_some() || keeps
    }
}
