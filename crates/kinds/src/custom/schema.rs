//! Structural schemas: a short way to ask a node of one.

use serde_json::{Map, Value};

/// A node of a schema, as the CustomResourceDefinition has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema<'a>(pub(crate) &'a Value);

/// What a schema says of properties that it doesn't name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Additional<'a> {
    /// Nothing: there are none.
    None,
    /// They are refused, or taken without a schema.
    Allowed(bool),
    Of(Schema<'a>),
}

impl<'a> Schema<'a> {
    pub(crate) fn get(self, keyword: &str) -> Option<&'a Value> {
        self.0.get(keyword).filter(|value| !value.is_null())
    }

    pub(crate) fn text(self, keyword: &str) -> &'a str {
        self.get(keyword).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn list(self, keyword: &str) -> &'a [Value] {
        self.get(keyword)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    pub(crate) fn flag(self, keyword: &str) -> bool {
        self.get(keyword).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The texts of a list.
    pub(crate) fn texts(self, keyword: &str) -> impl Iterator<Item = &'a str> {
        self.list(keyword).iter().filter_map(Value::as_str)
    }

    /// The schemas of a list, as in `allOf`.
    pub(crate) fn schemas(self, keyword: &str) -> impl Iterator<Item = Schema<'a>> {
        self.list(keyword).iter().map(Schema)
    }

    pub(crate) fn schema(self, keyword: &str) -> Option<Schema<'a>> {
        self.get(keyword).filter(|value| value.is_object()).map(Schema)
    }

    pub(crate) fn ty(self) -> &'a str {
        self.text("type")
    }

    pub(crate) fn properties(self) -> impl Iterator<Item = (&'a String, Schema<'a>)> {
        let map = self.get("properties").and_then(Value::as_object);
        map.into_iter()
            .flatten()
            .map(|(name, schema)| (name, Schema(schema)))
    }

    pub(crate) fn property(self, name: &str) -> Option<Schema<'a>> {
        self.get("properties")?.get(name).map(Schema)
    }

    pub(crate) fn additional(self) -> Additional<'a> {
        match self.get("additionalProperties") {
            None => Additional::None,
            Some(Value::Bool(allowed)) => Additional::Allowed(*allowed),
            Some(schema) => Additional::Of(Schema(schema)),
        }
    }

    /// The schema of a field, by its name or because any name has it.
    pub(crate) fn field(self, name: &str) -> Option<Schema<'a>> {
        self.property(name).or_else(|| match self.additional() {
            Additional::Of(schema) => Some(schema),
            Additional::None | Additional::Allowed(_) => None,
        })
    }

    pub(crate) fn items(self) -> Option<Schema<'a>> {
        self.schema("items")
    }

    pub(crate) fn is_nullable(self) -> bool {
        self.flag("nullable")
    }

    pub(crate) fn preserves_unknown(self) -> bool {
        self.flag("x-kubernetes-preserve-unknown-fields")
    }

    /// Whether a whole object with type and metadata stands here.
    pub(crate) fn is_resource(self) -> bool {
        self.flag("x-kubernetes-embedded-resource")
    }

    pub(crate) fn is_int_or_string(self) -> bool {
        self.flag("x-kubernetes-int-or-string")
    }

    pub(crate) fn list_type(self) -> &'a str {
        self.text("x-kubernetes-list-type")
    }

    pub(crate) fn map_keys(self) -> impl Iterator<Item = &'a str> {
        self.texts("x-kubernetes-list-map-keys")
    }

    /// The default; a null isn't one.
    pub(crate) fn default(self) -> Option<&'a Value> {
        self.get("default")
    }
}

/// The fields that every object has beside its kind's own.
pub(crate) fn is_meta(field: &str) -> bool {
    matches!(field, "apiVersion" | "kind" | "metadata")
}

/// The keys of a list's element, as far as it has them.
pub(crate) fn keys_of(schema: Schema<'_>, element: &Value) -> Value {
    let keys = schema
        .map_keys()
        .filter_map(|key| Some((key.to_owned(), element.get(key)?.clone())));
    Value::Object(keys.collect::<Map<_, _>>())
}
