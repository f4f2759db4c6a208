//! What is inside of lists and objects, read like the whole.

use std::fmt;

use serde::de::value::UnitDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use crate::Go;

/// Visits a value so that what is inside of it is read by [`Go`].
pub(crate) struct Within<V> {
    pub(crate) visitor: V,
    /// Those of the struct, where it is one.
    pub(crate) fields: &'static [&'static str],
}

impl<V> Within<V> {
    pub(crate) fn new(visitor: V) -> Within<V> {
        Within { visitor, fields: &[] }
    }
}

/// A scalar has nothing inside.
macro_rules! as_it_is {
    ($($method:ident: $kind:ty;)*) => {$(
        fn $method<E: Error>(self, value: $kind) -> Result<V::Value, E> {
            self.visitor.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Within<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(formatter)
    }

    as_it_is! {
        visit_bool: bool;
        visit_i64: i64;
        visit_u64: u64;
        visit_f64: f64;
        visit_str: &str;
        visit_borrowed_str: &'de str;
        visit_string: String;
        visit_bytes: &[u8];
        visit_borrowed_bytes: &'de [u8];
        visit_byte_buf: Vec<u8>;
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, there: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Go(there))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Go(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_seq(Elements(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Entries::new(map, self.fields))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(variant)
    }
}

struct Inside<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Inside<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Go(deserializer))
    }
}

struct Elements<A>(A);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Inside(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

/// The entries of an object, and after them the times that it hasn't, as if they were null.
pub(crate) struct Entries<A> {
    map: A,
    /// Times that haven't been seen. Types have no zero of their own for these alone.
    owed: Vec<&'static str>,
    /// The map has come to its end.
    ended: bool,
}

impl<A> Entries<A> {
    pub(crate) fn new(map: A, fields: &[&'static str]) -> Entries<A> {
        let times = fields.iter().filter(|field| field.ends_with("Time"));
        Entries {
            map,
            owed: times.copied().collect(),
            ended: false,
        }
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        if self.owed.is_empty() && !self.ended {
            return self.map.next_key_seed(seed);
        }
        if !self.ended {
            if let Some(key) = self.map.next_key::<String>()? {
                self.owed.retain(|field| *field != key);
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.ended = true;
        }
        let owed = self.owed.pop();
        owed.map(|field| seed.deserialize(field.into_deserializer()))
            .transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        if self.ended {
            return seed.deserialize(Go(UnitDeserializer::new()));
        }
        self.map.next_value_seed(Inside(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.map.size_hint()
    }
}
