//! Selections: label and field selectors together.

use std::collections::HashMap;

use kinds::{FieldText, Kind};
use serde::Deserialize;
use serde_json::Value;

use crate::labels;
use crate::path::Query;
use crate::status::Failure;

/// Which objects a request is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    labels: Vec<labels::Requirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Debug, Clone)]
struct FieldRequirement {
    field: Field,
    value: String,
    equal: bool,
}

#[derive(Debug, Clone)]
enum Field {
    Name,
    Namespace,
    /// Of the kind's own: label and text.
    Other(String, FieldText),
}

/// What label selectors need of an object: the rest isn't read.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    name: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    namespace: std::borrow::Cow<'a, str>,
    labels: HashMap<String, String>,
}

impl Selection {
    pub(crate) fn parse(kind: &Kind, query: &Query) -> Result<Selection, Failure> {
        let labels = match query.get("labelSelector") {
            Some(text) => labels::parse(text)
                .map_err(|why| Failure::bad_request(format!("unable to parse requirement: {why}")))?,
            None => Vec::new(),
        };
        let fields = match query.get("fieldSelector") {
            Some(text) => parse_fields(kind, text)?,
            None => Vec::new(),
        };
        Ok(Selection { labels, fields })
    }

    /// The same, of one object only.
    pub(crate) fn and_name(mut self, name: &str) -> Selection {
        self.fields.push(FieldRequirement {
            field: Field::Name,
            value: name.to_owned(),
            equal: true,
        });
        self
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one object that can match, where the selection names it.
    pub(crate) fn name(&self) -> Option<&str> {
        let named =
            |requirement: &&FieldRequirement| requirement.equal && matches!(requirement.field, Field::Name);
        self.fields
            .iter()
            .find(named)
            .map(|requirement| requirement.value.as_str())
    }

    /// The value that a field of the kind's own must have, where the selection says so.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let named = |requirement: &&FieldRequirement| {
            requirement.equal && matches!(&requirement.field, Field::Other(label, _) if label == name)
        };
        self.fields
            .iter()
            .find(named)
            .map(|requirement| requirement.value.as_str())
    }

    /// Whether a stored object belongs to the selection.
    pub(crate) fn matches(&self, object: &[u8]) -> bool {
        if self.is_everything() {
            return true;
        }
        let Ok(head) = serde_json::from_slice::<Head<'_>>(object) else {
            return false;
        };
        let metadata = head.metadata;
        let labels = self
            .labels
            .iter()
            .all(|requirement| requirement.matches(metadata.labels.get(&requirement.key)));
        labels && self.fields_match(&metadata, object)
    }

    fn fields_match(&self, metadata: &Metadata<'_>, object: &[u8]) -> bool {
        // Read whole only when a field of the kind's own is asked for, and then once.
        let mut whole = None;
        self.fields.iter().all(|requirement| {
            let equal = match &requirement.field {
                Field::Name => metadata.name == requirement.value,
                Field::Namespace => metadata.namespace == requirement.value,
                Field::Other(_, text) => {
                    let object: &Value =
                        whole.get_or_insert_with(|| serde_json::from_slice(object).unwrap_or_default());
                    text.text(object) == requirement.value
                }
            };
            equal == requirement.equal
        })
    }
}

fn parse_fields(kind: &Kind, text: &str) -> Result<Vec<FieldRequirement>, Failure> {
    text.split(',')
        .filter(|term| !term.is_empty())
        .map(|term| {
            let parsed = [("!=", false), ("==", true), ("=", true)]
                .into_iter()
                .find_map(|(operator, equal)| Some((term.split_once(operator)?, equal)));
            let Some(((name, value), equal)) = parsed else {
                return Err(Failure::bad_request(format!(
                    "invalid field selector: {text:?}; can't understand {term:?}"
                )));
            };
            Ok(FieldRequirement {
                field: find_field(kind, name)?,
                value: value.to_owned(),
                equal,
            })
        })
        .collect()
}

fn find_field(kind: &Kind, name: &str) -> Result<Field, Failure> {
    match name {
        "metadata.name" => Ok(Field::Name),
        "metadata.namespace" if kind.namespaced() => Ok(Field::Namespace),
        _ => match kind.fields().into_iter().find(|(label, _)| *label == name) {
            Some((label, text)) => Ok(Field::Other(label.to_owned(), text)),
            None => Err(Failure::bad_request(format!("field label not supported: {name}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_from_the_object() {
        let pod = kinds::find("", "v1", "pods").unwrap();
        let object = br#"{"metadata":{"name":"a","namespace":"b"}}"#;
        let selection = |text: &str| {
            let query = Query::parse(Some(&format!("fieldSelector={text}")));
            Selection::parse(pod, &query)
        };
        assert!(
            selection("metadata.name=a,metadata.namespace!=c")
                .unwrap()
                .matches(object)
        );
        assert!(!selection("metadata.name!=a").unwrap().matches(object));
        assert_eq!(selection("metadata.name==a").unwrap().name(), Some("a"));
        assert_eq!(
            selection("spec.colour=red").unwrap_err().message,
            "field label not supported: spec.colour"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_selector_panics(text in "[a-z!=,()./ %-]{0,30}", object in "\\PC{0,30}") {
            let pods = kinds::find("", "v1", "pods").unwrap();
            for name in ["labelSelector", "fieldSelector"] {
                let query = form_urlencoded::Serializer::new(String::new()).append_pair(name, &text).finish();
                if let Ok(selection) = Selection::parse(pods, &Query::parse(Some(&query))) {
                    selection.matches(object.as_bytes());
                    selection.matches(br#"{"metadata":{"name":"a","labels":{"a":"b"}}}"#);
                }
            }
        }
    }
}
