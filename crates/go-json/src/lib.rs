//! JSON read as programs in Go read it, Kubernetes among them.
//!
//! In Go a null leaves a value as it was made: zero. So a client may write `null` wherever there is nothing, and
//! does for times that aren't set; as the entry of a list or a map, null is an empty text, a zero, an object
//! without fields. Types in Rust refuse that, and those with a time that they always have refuse objects without
//! it. [`Go`] stands between a type and what it is read from, whatever both are:
//!
//! ```text
//! JSON ──► Deserializer ──► Go ──► the type
//!                           null → zero, no time → 0001-01-01T00:00:00Z, which is Go's zero
//! ```
//!
//! [`Read`] is a Kubernetes object that is read so, for clients: one object with such a null would otherwise end
//! the list that it is in, and the watch.

mod access;
mod asked;
mod read;

use serde::de::{Deserializer, Visitor};

use crate::access::Within;
use crate::asked::{Asked, OrZero};

pub use read::Read;

/// The time that isn't set.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// A deserializer whose nulls are zeros.
#[derive(Debug, Clone, Copy)]
pub struct Go<D>(pub D);

/// What is asked for is read from something that may be null.
macro_rules! asking {
    ($($method:ident($($argument:ident: $kind:ty),*) => $asked:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.deserialize_option(OrZero { asked: $asked, visitor })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Go<D> {
    type Error = D::Error;

    asking! {
        deserialize_bool() => Asked::Bool;
        deserialize_i8() => Asked::Integer;
        deserialize_i16() => Asked::Integer;
        deserialize_i32() => Asked::Integer;
        deserialize_i64() => Asked::Integer;
        deserialize_u8() => Asked::Integer;
        deserialize_u16() => Asked::Integer;
        deserialize_u32() => Asked::Integer;
        deserialize_u64() => Asked::Integer;
        deserialize_f32() => Asked::Float;
        deserialize_f64() => Asked::Float;
        deserialize_char() => Asked::Text;
        deserialize_str() => Asked::Text;
        deserialize_string() => Asked::Text;
        deserialize_bytes() => Asked::Text;
        deserialize_byte_buf() => Asked::Text;
        deserialize_seq() => Asked::List;
        deserialize_map() => Asked::Struct("", &[]);
        deserialize_newtype_struct(name: &'static str) => Asked::Newtype(name);
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) => Asked::Struct(name, fields);
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Within::new(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(Within::new(visitor))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(length, Within::new(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0
            .deserialize_tuple_struct(name, length, Within::new(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_identifier(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_ignored_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, Service};
    use k8s_openapi::api::events::v1::Event;
    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    /// The object, from a text and from a value alike.
    fn read<K: DeserializeOwned + PartialEq + std::fmt::Debug>(json: &Value) -> K {
        let streamed: Read<K> = serde_json::from_str(&json.to_string()).unwrap();
        let walked = K::deserialize(Go(json)).unwrap();
        assert_eq!(streamed.0, walked);
        walked
    }

    fn written<K: serde::Serialize>(object: &K, pointer: &str) -> Value {
        let written = serde_json::to_value(object).unwrap();
        written.pointer(pointer).unwrap_or(&Value::Null).clone()
    }

    #[test]
    fn times_that_are_null_or_missing_are_the_zero_time() {
        for condition in [
            json!({ "type": "a" }),
            json!({ "type": "a", "lastTransitionTime": null }),
        ] {
            let service: Service = read(&json!({ "status": { "conditions": [condition] } }));
            assert_eq!(
                written(&service, "/status/conditions/0/lastTransitionTime"),
                ZERO_TIME
            );
            assert_eq!(written(&service, "/status/conditions/0/type"), "a");
        }
        let event: Event = read(&json!({ "series": {}, "eventTime": null }));
        assert_eq!(
            written(&event, "/series/lastObservedTime"),
            "0001-01-01T00:00:00.000000Z"
        );
        assert_eq!(written(&event, "/eventTime"), Value::Null);
    }

    #[test]
    fn entries_of_lists_and_maps_that_are_null_are_zeros() {
        let pod: Pod = read(&json!({
            "metadata": { "labels": { "a": null }, "finalizers": [null], "annotations": null },
            "spec": { "containers": [null, {
                "command": null, "args": [null], "resources": { "limits": { "cpu": null } }, "ports": [null],
            }] },
            "status": null,
        }));
        assert_eq!(
            written(&pod, "/metadata"),
            json!({ "labels": { "a": "" }, "finalizers": [""] })
        );
        let expected = json!([{ "name": "" }, {
            "name": "", "args": [""], "resources": { "limits": { "cpu": "0" } }, "ports": [{ "containerPort": 0 }],
        }]);
        assert_eq!(written(&pod, "/spec/containers"), expected);
        assert_eq!(written(&pod, "/status"), Value::Null);
    }

    #[test]
    fn what_is_there_is_read_as_ever() {
        let wrong = json!({ "spec": { "containers": [{ "ports": [{ "containerPort": "80" }] }] } });
        let error = |json: &Value| Pod::deserialize(json).unwrap_err().to_string();
        assert_eq!(
            Pod::deserialize(Go(&wrong)).unwrap_err().to_string(),
            error(&wrong)
        );
        let wrong = json!({ "spec": [] });
        assert_eq!(
            Pod::deserialize(Go(&wrong)).unwrap_err().to_string(),
            error(&wrong)
        );
    }
}
