//! How a value merges: what the table of types says about the place where it stands.

use serde_json::{Map, Value};

use crate::schema::{self, Field, List, Type};

use super::element::Element;

/// What is known about a place in an object. What isn't known is the default: objects merge field by field,
/// lists are replaced whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    /// The type of the object that stands here, or of the list's elements.
    ty: Option<&'static Type>,
    /// The field by which one comes here; none at the root and for elements.
    field: Option<&'static Field>,
}

/// How a list merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elements {
    Atomic,
    Values,
    /// Objects, matched by their keys.
    Keyed,
}

impl Shape {
    /// Of the objects of a kind.
    pub fn of(group: &str, version: &str, kind: &str) -> Shape {
        Shape {
            ty: schema::find(&schema::definition_name(group, version, kind)),
            field: None,
        }
    }

    pub(crate) fn field(self, name: &str) -> Shape {
        let field = self.ty.and_then(|ty| ty.field(name));
        Shape {
            ty: field.and_then(Field::ty),
            field,
        }
    }

    /// Of the list's elements.
    pub(crate) fn element(self) -> Shape {
        Shape {
            ty: self.ty,
            field: None,
        }
    }

    /// Whether the object that stands here is replaced whole.
    pub(crate) fn is_atomic(self) -> bool {
        self.ty.is_some_and(|ty| ty.map_atomic) || self.field.is_some_and(|field| field.map_atomic)
    }

    pub(crate) fn elements(self) -> Elements {
        match self.field.and_then(|field| field.list) {
            Some(List::Map(_)) => Elements::Keyed,
            Some(List::Set) => Elements::Values,
            Some(List::Atomic) | None => Elements::Atomic,
        }
    }

    /// The step to an element of the list that stands here.
    pub(crate) fn step(self, element: &Value) -> Result<Element, String> {
        let Some(List::Map(names)) = self.field.and_then(|field| field.list) else {
            return match element {
                Value::Object(_) | Value::Array(_) => Err("a set's values must be scalars".to_owned()),
                value => Ok(Element::value(value)),
            };
        };
        let Value::Object(object) = element else {
            return Err("associative list with keys may not have an element that isn't an object".to_owned());
        };
        let mut keys = Map::new();
        for name in names {
            let value = match object.get(*name) {
                Some(value) if !value.is_null() => value.clone(),
                _ => self.default_of(name)?,
            };
            keys.insert((*name).to_owned(), value);
        }
        Ok(Element::keys(keys))
    }

    /// What a key is when it is left out.
    fn default_of(self, name: &str) -> Result<Value, String> {
        match self.field.and_then(|field| field.key_default) {
            Some((key, value)) if key == name => Ok(value.into()),
            _ => Err(format!(
                "associative list with keys has an element that omits key field {name:?} (and doesn't have default value)"
            )),
        }
    }
}
