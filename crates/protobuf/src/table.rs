//! What a message is: the shape of the table.

use crate::messages::{EVERYWHERE, KINDS};

/// A message and its fields, in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    /// The field's name in JSON.
    pub(crate) name: &'static str,
    pub(crate) value: Type,
    pub(crate) shape: Shape,
}

/// How often a field is there, and what a zero in it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Once; zero is the same as unset.
    Plain,
    /// Once; unset is zero.
    Always,
    /// Once; zero and unset differ.
    Optional,
    /// A message whose fields JSON has among its parent's.
    Inline,
    List,
    /// By strings.
    Map,
}

/// What one value is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Type {
    String,
    /// Base64 in JSON.
    Bytes,
    Bool,
    Int32,
    Int64,
    /// Seconds since the epoch; RFC 3339 in JSON.
    Time,
    /// The same with microseconds.
    MicroTime,
    /// Its text, in a message.
    Quantity,
    /// A number or a text, and which of them counts.
    IntOrString,
    /// A list of strings in a message of its own.
    Strings,
    /// Any JSON, as text in a message.
    Json,
    Message(&'static Message),
    /// A schema or something simpler, in a message with a field for each.
    SchemaOr(&'static Message, Or),
    Double,
}

/// What stands in place of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Or {
    Bool,
    /// A list of schemas.
    List,
    Strings,
}

impl Message {
    pub(crate) fn field(&self, number: u32) -> Option<&'static Field> {
        let fields = self.fields;
        let index = fields.binary_search_by_key(&number, |field| field.number);
        index.ok().map(|index| &fields[index])
    }
}

/// What a kind is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Root {
    Object(&'static Message),
    /// A list of such objects.
    List(&'static Message),
}

/// The kind of a group and version, as in (`apps/v1`, `Deployment`).
pub(crate) fn find(api_version: &str, kind: &str) -> Option<Root> {
    // Clients give options the group and version of what they are for.
    if let Some(message) = EVERYWHERE.iter().find(|message| message.name == kind) {
        return Some(Root::Object(message));
    }
    let (_, kinds) = KINDS.iter().find(|(version, _)| *version == api_version)?;
    let find = |name: &str| kinds.iter().find(|message| message.name == name).copied();
    let list = || kind.strip_suffix("List").and_then(find).map(Root::List);
    find(kind).map(Root::Object).or_else(list)
}

/// Makes a `static` of every message; see the module `messages` for the notation.
macro_rules! messages {
    ($($message:ident { $($number:literal $name:tt: $value:tt $($flag:ident)?,)* })*) => {
        $(
            #[expect(non_upper_case_globals, reason = "messages have their API's names")]
            pub(crate) static $message: $crate::table::Message = $crate::table::Message {
                name: stringify!($message),
                fields: &[$($crate::table::field!($number $name $value $($flag)?)),*],
            };
        )*
    };
}

/// A name, or a text where a name can't be spelt so.
macro_rules! name {
    ($name:literal) => {
        $name
    };
    ($name:tt) => {
        stringify!($name)
    };
}

macro_rules! field {
    ($number:literal _ $value:ident) => {
        $crate::table::field!(@ $number ("") $value Inline)
    };
    ($number:literal $name:tt [$value:ident]) => {
        $crate::table::field!(@ $number ($crate::table::name!($name)) $value List)
    };
    ($number:literal $name:tt {$value:ident}) => {
        $crate::table::field!(@ $number ($crate::table::name!($name)) $value Map)
    };
    ($number:literal $name:tt $value:ident) => {
        $crate::table::field!(@ $number ($crate::table::name!($name)) $value Plain)
    };
    ($number:literal $name:tt $value:ident always) => {
        $crate::table::field!(@ $number ($crate::table::name!($name)) $value Always)
    };
    ($number:literal $name:tt $value:ident optional) => {
        $crate::table::field!(@ $number ($crate::table::name!($name)) $value Optional)
    };
    (@ $number:literal ($name:expr) $value:ident $shape:ident) => {
        $crate::table::Field {
            number: $number,
            name: $name,
            value: $crate::table::value!($value),
            shape: $crate::table::Shape::$shape,
        }
    };
}

macro_rules! value {
    (string) => {
        $crate::table::Type::String
    };
    (bytes) => {
        $crate::table::Type::Bytes
    };
    (bool) => {
        $crate::table::Type::Bool
    };
    (int32) => {
        $crate::table::Type::Int32
    };
    (int64) => {
        $crate::table::Type::Int64
    };
    (Time) => {
        $crate::table::Type::Time
    };
    (MicroTime) => {
        $crate::table::Type::MicroTime
    };
    (Quantity) => {
        $crate::table::Type::Quantity
    };
    (IntOrString) => {
        $crate::table::Type::IntOrString
    };
    (Strings) => {
        $crate::table::Type::Strings
    };
    (Json) => {
        $crate::table::Type::Json
    };
    (double) => {
        $crate::table::Type::Double
    };
    (SchemaOrBool) => {
        $crate::table::Type::SchemaOr(&JSONSchemaProps, $crate::table::Or::Bool)
    };
    (SchemaOrList) => {
        $crate::table::Type::SchemaOr(&JSONSchemaProps, $crate::table::Or::List)
    };
    (SchemaOrStrings) => {
        $crate::table::Type::SchemaOr(&JSONSchemaProps, $crate::table::Or::Strings)
    };
    ($message:ident) => {
        $crate::table::Type::Message(&$message)
    };
}

pub(crate) use {field, messages, name, value};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn every_message() -> Vec<&'static Message> {
        let kinds = KINDS.iter().flat_map(|(_, kinds)| kinds.iter());
        let mut left: Vec<_> = kinds.chain(EVERYWHERE).copied().collect();
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        while let Some(message) = left.pop() {
            if seen.insert(std::ptr::from_ref(message)) {
                all.push(message);
                left.extend(message.fields.iter().filter_map(|field| match field.value {
                    Type::Message(message) => Some(message),
                    _ => None,
                }));
            }
        }
        all
    }

    /// The names that a message's fields have in JSON, those in place among them.
    fn names(message: &Message, names: &mut Vec<&'static str>) {
        for field in message.fields {
            match (field.shape, field.value) {
                (Shape::Inline, Type::Message(inner)) => self::names(inner, names),
                _ => names.push(field.name),
            }
        }
    }

    #[test]
    fn numbers_rise_and_names_are_unique_in_every_message() {
        for message in every_message() {
            let rising = message.fields.is_sorted_by(|a, b| a.number < b.number);
            assert!(rising, "{}", message.name);
            let mut all = Vec::new();
            names(message, &mut all);
            let unique: HashSet<_> = all.iter().collect();
            assert_eq!(unique.len(), all.len(), "{}: {all:?}", message.name);
        }
    }

    #[test]
    fn only_messages_stand_in_place_and_only_scalars_are_always_there() {
        for message in every_message() {
            for field in message.fields {
                let is_message = matches!(field.value, Type::Message(_));
                match field.shape {
                    Shape::Inline => assert!(is_message, "{}", message.name),
                    Shape::Always => assert!(!is_message, "{}.{}", message.name, field.name),
                    _ => assert!(!field.name.is_empty(), "{}", message.name),
                }
            }
        }
    }

    #[test]
    fn every_served_kind_and_its_list_have_a_protobuf_form() {
        for kind in kinds::all() {
            let version = match kind.group() {
                "" => kind.version().to_owned(),
                group => format!("{group}/{}", kind.version()),
            };
            assert!(crate::knows(&version, kind.kind()), "{version} {}", kind.kind());
            assert!(crate::knows(&version, &format!("{}List", kind.kind())));
            assert!(crate::knows(&version, "DeleteOptions"));
        }
        assert!(!crate::knows("v1", "List") && !crate::knows("v1", "Nonsense") && !crate::knows("v9", "Pod"));
    }
}
