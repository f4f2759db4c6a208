//! One step of a path into an object, in the notation of `managedFields` (FieldsV1).

use std::fmt::{self, Write};

use serde_json::{Map, Value};

/// A step: `f:NAME` into a field, `k:{KEYS}` to the list's element with these keys, `v:VALUE` to a set's value,
/// `i:INDEX` to an element by its place. Kept in that notation, keys in order, so that equal steps are equal
/// texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element(String);

impl Element {
    pub(crate) fn field(name: &str) -> Element {
        Element(format!("f:{name}"))
    }

    pub(crate) fn keys(keys: Map<String, Value>) -> Element {
        // A map's keys are ordered already.
        Element(format!("k:{}", Value::Object(keys)))
    }

    pub(crate) fn value(value: &Value) -> Element {
        Element(format!("v:{value}"))
    }

    /// Reads the notation; spellings that mean the same become the same.
    pub(crate) fn parse(text: &str) -> Option<Element> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Element(text.to_owned())),
            "k" => match serde_json::from_str(rest).ok()? {
                Value::Object(keys) => Some(Element::keys(keys)),
                _ => None,
            },
            "v" => Some(Element::value(&serde_json::from_str(rest).ok()?)),
            "i" => rest
                .parse::<u32>()
                .ok()
                .map(|index| Element(format!("i:{index}"))),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The field's name, where the step goes into a field.
    pub(crate) fn as_field(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }
}

/// As messages spell paths: `.spec`, `[name="a"]`, `[="value"]`, `[3]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once(':') {
            Some(("f", name)) => write!(f, ".{name}"),
            Some(("k", keys)) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                f.write_char('[')?;
                for (index, (name, value)) in keys.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_char(']')
            }
            Some(("v", value)) => write!(f, "[={value}]"),
            Some((_, index)) => write!(f, "[{index}]"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_read_as_messages_spell_them() {
        let shown = |text: &str| Element::parse(text).unwrap().to_string();
        assert_eq!(shown("f:spec"), ".spec");
        assert_eq!(
            shown(r#"k:{"protocol":"TCP","containerPort":80}"#),
            r#"[containerPort=80,protocol="TCP"]"#
        );
        assert_eq!(shown(r#"v:"a/b""#), r#"[="a/b"]"#);
        assert_eq!(shown("i:3"), "[3]");
    }

    #[test]
    fn spellings_of_one_step_are_equal_and_rubbish_is_none() {
        let spaced = Element::parse(r#"k:{ "b": 1, "a": "x" }"#).unwrap();
        assert_eq!(spaced.as_str(), r#"k:{"a":"x","b":1}"#);
        for rubbish in ["", ".", "k:[]", "k:{", "v:", "i:-1", "x:y"] {
            assert_eq!(Element::parse(rubbish), None, "{rubbish}");
        }
    }
}
