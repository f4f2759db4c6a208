//! How a value merges: what the table of types says about the place where it stands.

use serde_json::{Map, Value};

use crate::schema::{self, Field, List, Type};

use super::element::Element;

/// What is known about a place in an object. What isn't known is the default: objects merge field by field,
/// lists are replaced whole.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a>(Known<'a>);

/// Who knows it.
#[derive(Debug, Clone, Copy)]
enum Known<'a> {
    /// The table of types.
    Table {
        /// The type of the object that stands here, or of the list's elements.
        ty: Option<&'static Type>,
        /// The field by which one comes here; none at the root and for elements.
        field: Option<&'static Field>,
    },
    /// The schema of a CustomResourceDefinition.
    Schema {
        schema: &'a Value,
        /// Whether a whole object stands here: it has metadata, which the schema doesn't speak of.
        is_resource: bool,
    },
}

const UNKNOWN: Shape<'static> = Shape(Known::Table {
    ty: None,
    field: None,
});

const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// How a list merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elements {
    Atomic,
    Values,
    /// Objects, matched by their keys.
    Keyed,
}

impl<'a> Shape<'a> {
    /// Of the objects of a kind.
    pub fn of(group: &str, version: &str, kind: &str) -> Shape<'static> {
        Shape(Known::Table {
            ty: schema::find(&schema::definition_name(group, version, kind)),
            field: None,
        })
    }

    /// Of the objects of a kind that isn't in the table, by its schema (`openAPIV3Schema`).
    pub fn of_schema(schema: &'a Value) -> Shape<'a> {
        Shape(Known::Schema {
            schema,
            is_resource: true,
        })
    }

    fn below(schema: Option<&'a Value>) -> Shape<'a> {
        match schema.filter(|schema| schema.is_object()) {
            Some(schema) => Shape(Known::Schema {
                schema,
                is_resource: schema["x-kubernetes-embedded-resource"] == true,
            }),
            None => UNKNOWN,
        }
    }

    pub(crate) fn field(self, name: &str) -> Shape<'a> {
        match self.0 {
            Known::Table { ty, .. } => {
                let field = ty.and_then(|ty| ty.field(name));
                Shape(Known::Table {
                    ty: field.and_then(Field::ty),
                    field,
                })
            }
            Known::Schema {
                is_resource: true, ..
            } if name == "metadata" => Shape(Known::Table {
                ty: schema::find(METADATA),
                field: None,
            }),
            Known::Schema { schema, .. } => {
                let property = schema
                    .get("properties")
                    .and_then(|properties| properties.get(name));
                Shape::below(property.or_else(|| schema.get("additionalProperties")))
            }
        }
    }

    /// Of the list's elements.
    pub(crate) fn element(self) -> Shape<'a> {
        match self.0 {
            Known::Table { ty, .. } => Shape(Known::Table { ty, field: None }),
            Known::Schema { schema, .. } => Shape::below(schema.get("items")),
        }
    }

    /// Whether the object that stands here is replaced whole.
    pub(crate) fn is_atomic(self) -> bool {
        match self.0 {
            Known::Table { ty, field } => {
                ty.is_some_and(|ty| ty.map_atomic) || field.is_some_and(|field| field.map_atomic)
            }
            Known::Schema { schema, .. } => schema["x-kubernetes-map-type"] == "atomic",
        }
    }

    pub(crate) fn elements(self) -> Elements {
        match self.0 {
            Known::Table { field, .. } => match field.and_then(|field| field.list) {
                Some(List::Map(_)) => Elements::Keyed,
                Some(List::Set) => Elements::Values,
                Some(List::Atomic) | None => Elements::Atomic,
            },
            Known::Schema { schema, .. } => match schema["x-kubernetes-list-type"].as_str() {
                Some("map") => Elements::Keyed,
                Some("set") => Elements::Values,
                _ => Elements::Atomic,
            },
        }
    }

    /// The keys of the list that stands here.
    fn keys(self) -> Vec<&'a str> {
        match self.0 {
            Known::Table { field, .. } => match field.and_then(|field| field.list) {
                Some(List::Map(names)) => names.to_vec(),
                _ => Vec::new(),
            },
            Known::Schema { schema, .. } => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array();
                keys.into_iter().flatten().filter_map(Value::as_str).collect()
            }
        }
    }

    /// The step to an element of the list that stands here.
    pub(crate) fn step(self, element: &Value) -> Result<Element, String> {
        if self.elements() != Elements::Keyed {
            return match (self.0, element) {
                (Known::Table { .. }, Value::Object(_) | Value::Array(_)) => {
                    Err("a set's values must be scalars".to_owned())
                }
                (_, value) => Ok(Element::value(value)),
            };
        }
        let Value::Object(object) = element else {
            return Err("associative list with keys may not have an element that isn't an object".to_owned());
        };
        let mut keys = Map::new();
        for name in self.keys() {
            let value = match object.get(name) {
                Some(value) if !value.is_null() => value.clone(),
                _ => self.default_of(name)?,
            };
            keys.insert(name.to_owned(), value);
        }
        Ok(Element::keys(keys))
    }

    /// What a key is when it is left out.
    fn default_of(self, name: &str) -> Result<Value, String> {
        let default = match self.0 {
            Known::Table { field, .. } => match field.and_then(|field| field.key_default) {
                Some((key, value)) if key == name => Some(value.into()),
                _ => None,
            },
            Known::Schema { schema, .. } => schema["items"]["properties"][name].get("default").cloned(),
        };
        default.ok_or_else(|| {
            format!(
                "associative list with keys has an element that omits key field {name:?} (and doesn't have default value)"
            )
        })
    }
}
