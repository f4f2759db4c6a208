//! JSON documents, with a note of the fields that were there twice: the last one wins, but the author should
//! know.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// A parsed document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) value: Value,
    /// Paths of fields that were there twice, as in `spec.containers[0].image`; the first of them, if they are many.
    pub(crate) duplicates: Vec<String>,
    /// The same in the words of Kubernetes' YAML, which knows the field and its line; none for JSON.
    pub(crate) twice: Vec<String>,
}

impl Document {
    /// A document that isn't from a client's text.
    pub(crate) fn plain(value: Value) -> Document {
        Document {
            value,
            duplicates: Vec::new(),
            twice: Vec::new(),
        }
    }

    /// Parses YAML, of which JSON is a part; nesting beyond 64 levels is refused.
    pub(crate) fn parse_yaml(yaml: &[u8]) -> Result<Document, String> {
        if yaml.trim_ascii_start().starts_with(b"{")
            && let Ok(document) = Document::parse(yaml)
        {
            return Ok(document);
        }
        let options = serde_saphyr::options! {
            duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
            with_snippet: false,
        };
        let (mut duplicates, mut twice) = (Vec::new(), Vec::new());
        let value = serde_saphyr::with_deserializer_from_slice_with_options(yaml, options, |deserializer| {
            Reader {
                path: &mut String::new(),
                duplicates: &mut duplicates,
                twice: Some(&mut twice),
            }
            .deserialize(deserializer)
        })
        .map_err(|error| error.to_string())?;
        Ok(Document {
            value,
            duplicates,
            twice,
        })
    }

    /// Parses JSON; nesting beyond 128 levels is refused.
    pub(crate) fn parse(json: &[u8]) -> Result<Document, serde_json::Error> {
        let mut duplicates = Vec::new();
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let value = Reader {
            path: &mut String::new(),
            duplicates: &mut duplicates,
            twice: None,
        }
        .deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(Document {
            value,
            duplicates,
            twice: Vec::new(),
        })
    }
}

/// Reads a value at a path.
struct Reader<'a> {
    path: &'a mut String,
    duplicates: &'a mut Vec<String>,
    /// Where the text is YAML, and has lines.
    twice: Option<&'a mut Vec<String>>,
}

impl Reader<'_> {
    /// The next field of an object, and its line.
    fn key<'de, A: MapAccess<'de>>(&self, access: &mut A) -> Result<Option<(String, u64)>, A::Error> {
        if self.twice.is_none() {
            return Ok(access.next_key::<String>()?.map(|field| (field, 0)));
        }
        let key = access.next_key::<Spanned<String>>()?;
        Ok(key.map(|key| (key.value, key.referenced.line())))
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let length = self.path.len();
        let mut list = Vec::new();
        loop {
            self.path.push_str(&format!("[{}]", list.len()));
            let element = access.next_element_seed(Reader {
                path: &mut *self.path,
                duplicates: &mut *self.duplicates,
                twice: self.twice.as_deref_mut(),
            })?;
            self.path.truncate(length);
            match element {
                Some(element) => list.push(element),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let length = self.path.len();
        let mut map = Map::new();
        while let Some((field, line)) = self.key(&mut access)? {
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&field);
            let value = access.next_value_seed(Reader {
                path: &mut *self.path,
                duplicates: &mut *self.duplicates,
                twice: self.twice.as_deref_mut(),
            })?;
            let text = self.twice.is_some().then(|| field.clone());
            if map.insert(field, value).is_some() {
                kinds::note(self.duplicates, self.path);
                if let (Some(twice), Some(field)) = (self.twice.as_deref_mut(), text) {
                    kinds::note(twice, &format!("line {line}: key {field:?} already set in map"));
                }
            }
            self.path.truncate(length);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_there_twice_are_noted_and_the_last_one_wins() {
        let text = br#"{"a":1,"b":[{"c":true,"c":null}],"a":{"d":-2.5}}"#;
        let document = Document::parse(text).unwrap();
        assert_eq!(document.duplicates, ["b[0].c", "a"]);
        assert_eq!(document.value, serde_json::from_slice::<Value>(text).unwrap());
    }

    #[test]
    fn yaml_is_read_as_json_is() {
        let document =
            Document::parse_yaml(b"a: 1\nb:\n- c: true\n  80: x\na: [m, null, 1.5, 'y']\n").unwrap();
        assert_eq!(document.duplicates, ["a"]);
        assert_eq!(document.twice, ["line 5: key \"a\" already set in map"]);
        assert_eq!(
            document.value,
            serde_json::json!({ "a": ["m", null, 1.5, "y"], "b": [{ "c": true, "80": "x" }] })
        );
        let json = Document::parse_yaml(br#" {"a":{"b":1,"b":2}}"#).unwrap();
        assert_eq!(json.duplicates, ["a.b"]);
        let nested = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        assert!(Document::parse_yaml(nested.as_bytes()).is_err());
        assert!(Document::parse_yaml(b"a: [").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_document_panics(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            let _ = Document::parse(&text);
            let _ = Document::parse_yaml(&text);
        }

        #[test]
        fn no_text_of_marks_panics(text in "[-{}:,&*!|>'\"%@#? a1\\[\\]\n]{0,40}") {
            let _ = Document::parse(text.as_bytes());
            let _ = Document::parse_yaml(text.as_bytes());
        }
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        assert!(Document::parse(b"{} {}").is_err());
        assert!(Document::parse(b"{\"a\":}").is_err());
        assert!(Document::parse("[".repeat(200).as_bytes()).is_err());
    }
}
