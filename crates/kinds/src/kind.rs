//! What an entry of the table holds.

use std::fmt;

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::check::errors::Errors;
use crate::check::meta;
use crate::check::names::{self, Check};
use crate::{columns, decode};

/// One kind in one version, as the API server serves it.
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version, as in `v1`.
    pub version: &'static str,
    /// Kind, as in `Deployment`.
    pub kind: &'static str,
    /// Resource name, as in `deployments`.
    pub plural: &'static str,
    /// Singular resource name, as in `deployment`.
    pub singular: &'static str,
    /// Short names, as in `deploy`.
    pub short_names: &'static [&'static str],
    /// Categories, as in `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether the kind has a `/status` subresource.
    pub status: bool,
    /// The `/scale` subresource, where the kind has one.
    pub scale: Option<Scale>,
    /// Which changes `metadata.generation` counts.
    pub generation: Generation,
    /// Further subresources that the server implements by hand, as in `log`, `exec`, `binding`, `eviction`.
    pub subresources: &'static [&'static str],
    /// A round trip through the typed object: drops (and names) what the kind doesn't know, refuses wrong
    /// types, merges write-only fields, and writes quantities in their canonical form.
    pub decode: fn(&Value) -> Result<Decoded, DecodeError>,
    /// Adds the schema of the kind's type, and those it refers to, to a generator.
    pub schema: fn(&mut SchemaGenerator),
    /// Fills in the API's documented defaults. Idempotent: run it on every create and update.
    pub default: fn(&mut Value),
    /// What Kubernetes sets besides defaults on a new object, or on a changed one because of the old: after
    /// `default`, before [`Kind::validate`].
    pub prepare: fn(new: &mut Value, old: Option<&Value>),
    /// The format of names.
    pub(crate) name: Check,
    /// What must hold besides the rules of metadata.
    pub(crate) rules: fn(&mut Errors, new: &Value, old: Option<&Value>),
    /// The columns of `kubectl get`.
    pub columns: &'static [Column],
    /// The cells of one object, one for each column; `now` in seconds since the epoch, for ages.
    pub row: fn(object: &Value, now: i64) -> Vec<Value>,
    /// Field selectors beside `metadata.name` and `metadata.namespace`: label and the field's text.
    pub fields: &'static [(&'static str, FieldText)],
}

impl Kind {
    /// A kind whose objects live in namespaces, with nothing special about it: entries add what there is.
    pub(crate) const fn namespaced<T>(singular: &'static str) -> Kind
    where
        T: Resource<Scope = NamespaceResourceScope> + JsonSchema + Serialize + DeserializeOwned,
    {
        Kind::plain::<T>(singular, true)
    }

    /// A kind whose objects belong to the whole cluster, with nothing special about it.
    pub(crate) const fn cluster<T>(singular: &'static str) -> Kind
    where
        T: Resource<Scope = ClusterResourceScope> + JsonSchema + Serialize + DeserializeOwned,
    {
        Kind::plain::<T>(singular, false)
    }

    const fn plain<T>(singular: &'static str, namespaced: bool) -> Kind
    where
        T: Resource + JsonSchema + Serialize + DeserializeOwned,
    {
        Kind {
            group: T::GROUP,
            version: T::VERSION,
            kind: T::KIND,
            plural: T::URL_PATH_SEGMENT,
            singular,
            short_names: &[],
            categories: &[],
            namespaced,
            status: false,
            scale: None,
            generation: Generation::None,
            subresources: &[],
            decode: decode::typed::<T>,
            schema: |generator| _ = generator.subschema_for::<T>(),
            default: |_| {},
            prepare: |_, _| {},
            name: names::subdomain,
            rules: |_, _, _| {},
            columns: &[columns::NAME, columns::AGE],
            row: columns::name_and_age,
            fields: &[],
        }
    }

    /// Whether a change makes a new generation of an object.
    pub fn is_new_generation(&self, new: &Value, old: &Value) -> bool {
        let metadata = match self.generation {
            Generation::None => return false,
            Generation::Content => "",
            Generation::ContentAndLabels => "labels",
            Generation::ContentAndAnnotations => "annotations",
        };
        let content = |object: &Value| {
            let mut object = object.as_object().cloned().unwrap_or_default();
            object.retain(|field, _| !matches!(field.as_str(), "metadata" | "status"));
            object
        };
        content(new) != content(old) || new["metadata"][metadata] != old["metadata"][metadata]
    }

    /// Checks a new object, or a changed one against the old; empty means valid.
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = Errors::default();
        meta::object(&mut errors, new, old, self.namespaced, self.name);
        (self.rules)(&mut errors, new, old);
        errors.into_list()
    }
}

/// Which changes `metadata.generation` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// There is none.
    None,
    /// Everything but metadata and status.
    Content,
    /// The same, and labels.
    ContentAndLabels,
    /// The same, and annotations.
    ContentAndAnnotations,
}

/// Reads a selectable field's text from an object.
pub type FieldText = fn(&Value) -> String;

/// Where a kind keeps its scale: JSON pointers into the object.
pub struct Scale {
    /// Desired replicas, as in `/spec/replicas`.
    pub spec_replicas: &'static str,
    /// Observed replicas, as in `/status/replicas`.
    pub status_replicas: &'static str,
    /// The label selector object, as in `/spec/selector`.
    pub selector: &'static str,
}

/// A column of the server-side table (meta.k8s.io/v1 TableColumnDefinition).
pub struct Column {
    /// Heading, as in `Ready`.
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer` or `date`.
    pub kind: &'static str,
    /// OpenAPI format, as in `name`; mostly empty.
    pub format: &'static str,
    /// 0 is always shown, 1 and above with `-o wide`.
    pub priority: i32,
    /// What the column tells.
    pub description: &'static str,
}

/// What [`Kind::decode`] read.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object, with the fields of its kind only.
    pub object: Value,
    /// Paths of the fields that its kind doesn't have, as in `spec.template.spec.containers[0].imagee`:
    /// `fieldValidation=Strict` refuses them (`strict decoding error: unknown field "…"`), `Warn` warns.
    pub unknown: Vec<String>,
}

/// The object can't be read as its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// Path of the field, as in `spec.replicas`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// One thing wrong with an object, as in `Status.details.causes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The kind of mistake.
    pub reason: Reason,
    /// Path of the field, as in `spec.template.metadata.labels`.
    pub field: String,
    /// The whole message as Kubernetes words it, as in `Required value: name or generateName is required`.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Kubernetes' field error types (`field.ErrorType`), by their wire names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// `FieldValueRequired`.
    Required,
    /// `FieldValueInvalid`.
    Invalid,
    /// `FieldValueNotSupported`.
    NotSupported,
    /// `FieldValueDuplicate`.
    Duplicate,
    /// `FieldValueForbidden`.
    Forbidden,
    /// `FieldValueTooLong`.
    TooLong,
    /// `FieldValueNotFound`.
    NotFound,
    /// `FieldValueTooMany`.
    TooMany,
}

impl Reason {
    /// The name on the wire, for `Status.details.causes[].reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Required => "FieldValueRequired",
            Reason::Invalid => "FieldValueInvalid",
            Reason::NotSupported => "FieldValueNotSupported",
            Reason::Duplicate => "FieldValueDuplicate",
            Reason::Forbidden => "FieldValueForbidden",
            Reason::TooLong => "FieldValueTooLong",
            Reason::NotFound => "FieldValueNotFound",
            Reason::TooMany => "FieldValueTooMany",
        }
    }
}
