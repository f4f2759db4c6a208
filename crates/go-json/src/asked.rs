//! What a type asks for: the question that is passed on where there is something, and the zero where there isn't.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer, UnitDeserializer};
use serde::de::{Deserializer, Error, IntoDeserializer, Visitor};

use crate::access::{Entries, Within};
use crate::{Go, ZERO_TIME};

#[derive(Clone, Copy)]
pub(crate) enum Asked {
    Bool,
    Integer,
    Float,
    Text,
    List,
    Newtype(&'static str),
    /// Its name and fields; those of a map aren't known.
    Struct(&'static str, &'static [&'static str]),
}

impl Asked {
    fn ask<'de, D: Deserializer<'de>, V: Visitor<'de>>(
        self,
        there: D,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        match self {
            Asked::Bool => there.deserialize_bool(visitor),
            Asked::Integer => there.deserialize_i64(visitor),
            Asked::Float => there.deserialize_f64(visitor),
            Asked::Text => there.deserialize_str(visitor),
            Asked::List => there.deserialize_seq(Within::new(visitor)),
            Asked::Newtype(name) => there.deserialize_newtype_struct(name, Within::new(visitor)),
            Asked::Struct(name, fields) => {
                let visitor = Within { visitor, fields };
                match fields {
                    [] => there.deserialize_map(visitor),
                    fields => there.deserialize_struct(name, fields, visitor),
                }
            }
        }
    }

    fn zero<'de, V: Visitor<'de>, E: Error>(self, visitor: V) -> Result<V::Value, E> {
        match self {
            Asked::Bool => visitor.visit_bool(false),
            Asked::Integer => visitor.visit_u64(0),
            Asked::Float => visitor.visit_f64(0.0),
            Asked::Text => visitor.visit_str(""),
            Asked::List => visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<()>())),
            Asked::Newtype("Time" | "MicroTime") => {
                visitor.visit_newtype_struct(IntoDeserializer::<E>::into_deserializer(ZERO_TIME))
            }
            Asked::Newtype("Quantity") => {
                visitor.visit_newtype_struct(IntoDeserializer::<E>::into_deserializer("0"))
            }
            Asked::Newtype(_) => visitor.visit_newtype_struct(Go(UnitDeserializer::<E>::new())),
            Asked::Struct(_, fields) => {
                let nothing = MapDeserializer::new(std::iter::empty::<((), ())>());
                visitor.visit_map(Entries::new(nothing, fields))
            }
        }
    }
}

/// Visits what is there as if it had been asked for at once, and null as the zero.
pub(crate) struct OrZero<V> {
    pub(crate) asked: Asked,
    pub(crate) visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OrZero<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(formatter)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.asked.zero(self.visitor)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.asked.zero(self.visitor)
    }

    fn visit_some<D: Deserializer<'de>>(self, there: D) -> Result<V::Value, D::Error> {
        self.asked.ask(there, self.visitor)
    }
}
