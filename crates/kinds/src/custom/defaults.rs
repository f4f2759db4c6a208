//! Defaulting: what a schema gives to whoever says nothing.

use serde_json::Value;

use super::schema::Schema;

/// Drops nulls that mean nothing, and fills in defaults. Idempotent.
pub(crate) fn fill(schema: Schema<'_>, value: &mut Value) {
    drop_nulls(Some(schema), value);
    defaults(schema, value);
}

/// A null that the schema doesn't allow is as good as no field, unless a default takes its place.
fn drop_nulls(schema: Option<Schema<'_>>, value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|name, value| {
            let field = schema.and_then(|schema| schema.field(name));
            if value.is_null() && field.is_some_and(|field| !field.is_nullable() && field.default().is_none())
            {
                return false;
            }
            drop_nulls(field, value);
            true
        }),
        Value::Array(list) => {
            let items = schema.and_then(Schema::items);
            list.iter_mut().for_each(|element| drop_nulls(items, element));
        }
        _ => {}
    }
}

fn defaults(schema: Schema<'_>, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, property) in schema.properties() {
                let Some(default) = property.default() else {
                    continue;
                };
                match map.get(name) {
                    Some(Value::Null) if property.is_nullable() => {}
                    Some(value) if !value.is_null() => {}
                    _ => _ = map.insert(name.clone(), default.clone()),
                }
            }
            for (name, value) in map {
                if let Some(field) = schema.field(name) {
                    or_default(field, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.items() {
                list.iter_mut().for_each(|element| or_default(items, element));
            }
        }
        _ => {}
    }
}

fn or_default(schema: Schema<'_>, value: &mut Value) {
    if value.is_null()
        && !schema.is_nullable()
        && let Some(default) = schema.default()
    {
        *value = default.clone();
    }
    defaults(schema, value);
}
