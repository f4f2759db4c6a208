//! Kinds as the server knows them: entries of the table, and those that are made while it runs.

use std::fmt;
use std::sync::Arc;

use schemars::SchemaGenerator;
use serde_json::Value;

use crate::check::errors::Errors;
use crate::check::meta;
use crate::check::names;
use crate::custom::Custom;
use crate::entry::Entry;

/// One kind in one version, as the API server serves it. Clones are cheap.
#[derive(Clone)]
pub struct Kind(Source);

/// Where a kind comes from.
#[derive(Clone)]
enum Source {
    Table(&'static Entry),
    /// A CustomResourceDefinition.
    Custom(Arc<Custom>),
}

/// Asks an entry of the table, or else the custom kind.
macro_rules! ask {
    ($kind:expr, $entry:ident => $of_entry:expr, $custom:ident => $of_custom:expr) => {
        match &$kind.0 {
            Source::Table($entry) => $of_entry,
            Source::Custom($custom) => $of_custom,
        }
    };
}

impl Kind {
    pub(crate) const fn of(entry: &'static Entry) -> Kind {
        Kind(Source::Table(entry))
    }

    pub(crate) fn of_custom(custom: Custom) -> Kind {
        Kind(Source::Custom(Arc::new(custom)))
    }

    /// API group; empty for the core group.
    pub fn group(&self) -> &str {
        ask!(self, entry => entry.group, custom => custom.group())
    }

    /// API version, as in `v1`.
    pub fn version(&self) -> &str {
        ask!(self, entry => entry.version, custom => custom.version())
    }

    /// Group and version as objects have them, as in `apps/v1`, or plain `v1` for the core group.
    pub fn api_version(&self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }

    /// Kind, as in `Deployment`.
    pub fn kind(&self) -> &str {
        ask!(self, entry => entry.kind, custom => &custom.names().kind)
    }

    /// The kind of lists, as in `DeploymentList`.
    pub fn list_kind(&self) -> String {
        ask!(self, entry => format!("{}List", entry.kind), custom => custom.names().list_kind.clone())
    }

    /// Resource name, as in `deployments`.
    pub fn plural(&self) -> &str {
        ask!(self, entry => entry.plural, custom => &custom.names().plural)
    }

    /// Singular resource name, as in `deployment`.
    pub fn singular(&self) -> &str {
        ask!(self, entry => entry.singular, custom => &custom.names().singular)
    }

    /// Short names, as in `deploy`.
    pub fn short_names(&self) -> Vec<&str> {
        ask!(self, entry => entry.short_names.to_vec(), custom => texts(&custom.names().short_names))
    }

    /// Categories, as in `all`.
    pub fn categories(&self) -> Vec<&str> {
        ask!(self, entry => entry.categories.to_vec(), custom => texts(&custom.names().categories))
    }

    /// Whether this is the resource of a group that a name means.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group() == group && self.plural() == plural
    }

    /// Whether objects live in a namespace.
    pub fn namespaced(&self) -> bool {
        ask!(self, entry => entry.namespaced, custom => custom.namespaced())
    }

    /// Whether the kind has a `/status` subresource.
    pub fn has_status(&self) -> bool {
        ask!(self, entry => entry.status, custom => custom.has_status())
    }

    /// Fields of the metadata that stay as they are when the status is written; Kubernetes' strategies let
    /// the others be changed with it.
    pub fn kept_by_status(&self) -> &'static [&'static str] {
        const ALL: &[&str] = &["annotations", "finalizers", "labels", "ownerReferences"];
        ask!(self, entry => match (entry.group, entry.plural) {
            ("", "pods") => &["ownerReferences"],
            ("apps", "deployments") => &["labels"],
            ("apiextensions.k8s.io", "customresourcedefinitions")
            | ("networking.k8s.io", "servicecidrs")
            | ("storage.k8s.io", "volumeattachments") => ALL,
            _ => &[],
        }, _custom => ALL)
    }

    /// The `/scale` subresource, where the kind has one.
    pub fn scale(&self) -> Option<Scale<'_>> {
        ask!(self, entry => entry.scale, custom => custom.scale())
    }

    /// Which changes `metadata.generation` counts.
    pub fn generation(&self) -> Generation {
        ask!(self, entry => entry.generation, _custom => Generation::Content)
    }

    /// Further subresources that the server implements by hand, as in `log`, `exec`, `binding`, `eviction`.
    pub fn subresources(&self) -> &'static [&'static str] {
        ask!(self, entry => entry.subresources, _custom => &[])
    }

    /// Reads an object as its kind: drops (and names) what the kind doesn't know, refuses wrong types, merges
    /// write-only fields, and writes quantities in their canonical form.
    pub fn decode(&self, object: &Value) -> Result<Decoded, DecodeError> {
        ask!(self, entry => (entry.decode)(object), custom => custom.decode(object))
    }

    /// The kind's schema, for those that the table doesn't have.
    pub fn custom_schema(&self) -> Option<&Value> {
        ask!(self, _entry => None, custom => Some(custom.schema()))
    }

    /// Adds the schema of the kind's type, and those it refers to, to a generator.
    pub fn add_schema(&self, generator: &mut SchemaGenerator) {
        ask!(self, entry => (entry.schema)(generator), _custom => {});
    }

    /// Fills in the API's documented defaults. Idempotent: run it on every create and update.
    pub fn default(&self, object: &mut Value) {
        ask!(self, entry => (entry.default)(object), custom => custom.default(object));
    }

    /// What Kubernetes sets besides defaults on a new object, or on a changed one because of the old: after
    /// [`Kind::default`], before [`Kind::validate`].
    pub fn prepare(&self, new: &mut Value, old: Option<&Value>) {
        ask!(self, entry => (entry.prepare)(new, old), _custom => {});
    }

    /// Whether a change makes a new generation of an object.
    pub fn is_new_generation(&self, new: &Value, old: &Value) -> bool {
        let metadata = match self.generation() {
            Generation::None => return false,
            Generation::Content => "",
            Generation::ContentAndLabels => "labels",
            Generation::ContentAndAnnotations => "annotations",
        };
        // A custom object without the subresource has a status like any other field.
        let counts_status = matches!(self.0, Source::Custom(_)) && !self.has_status();
        let content = |object: &Value| {
            let mut object = object.as_object().cloned().unwrap_or_default();
            object.retain(|field, _| match field.as_str() {
                "metadata" => false,
                "status" => counts_status,
                _ => true,
            });
            object
        };
        content(new) != content(old) || new["metadata"][metadata] != old["metadata"][metadata]
    }

    /// Checks a new object, or a changed one against the old; empty means valid.
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let name = ask!(self, entry => entry.name, _custom => names::subdomain);
        meta::object(&mut errors, new, old, self.namespaced(), name);
        ask!(self, entry => (entry.rules)(&mut errors, new, old), custom => custom.validate(&mut errors, new, old));
        errors.into_list()
    }

    /// The columns of `kubectl get`.
    pub fn columns(&self) -> Vec<Column<'_>> {
        ask!(self, entry => entry.columns.to_vec(), custom => custom.columns())
    }

    /// The cells of one object, one for each column; `now` in seconds since the epoch, for ages.
    pub fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        ask!(self, entry => (entry.row)(object, now), custom => custom.row(object, now))
    }

    /// Field selectors beside `metadata.name` and `metadata.namespace`: label and the field's text, in objects as
    /// they are kept.
    pub fn fields(&self) -> Vec<(&str, FieldText)> {
        ask!(self,
            entry => entry.fields.iter().map(|(label, read)| (*label, FieldText::Read(*read))).collect(),
            custom => custom.fields())
    }

    /// What the API says to whoever uses a kind that is on its way out.
    pub fn deprecation(&self) -> Option<&str> {
        ask!(self, _entry => None, custom => custom.deprecation())
    }

    /// Whether new objects are let in: not while the kind itself is being deleted.
    pub fn is_terminating(&self) -> bool {
        ask!(self, _entry => false, custom => custom.is_terminating())
    }

    /// The group at whose place objects are kept: another one's where both show the same objects.
    pub fn kept_group(&self) -> &str {
        ask!(self, entry => entry.kept.map_or(entry.group, |kept| kept.group), custom => custom.group())
    }

    /// Whether objects are kept as this kind has them.
    pub fn is_kept_as_is(&self) -> bool {
        ask!(self, entry => entry.kept.is_none(), _custom => false)
    }

    /// From what is kept to what this kind has.
    pub fn read_kept(&self, object: Value) -> Value {
        ask!(self,
            entry => match entry.kept { Some(kept) => (kept.read)(object), None => object },
            custom => custom.read_kept(object))
    }

    /// From what this kind has to what is kept.
    pub fn write_kept(&self, object: Value) -> Value {
        ask!(self,
            entry => match entry.kept { Some(kept) => (kept.write)(object), None => object },
            custom => custom.write_kept(object))
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.api_version(), self.kind())
    }
}

fn texts(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// How a selectable field's text is read from an object.
#[derive(Debug, Clone)]
pub enum FieldText {
    /// By a rule of the kind's own.
    Read(fn(&Value) -> String),
    /// A value on a path of fields.
    Path(Vec<String>),
}

impl FieldText {
    /// The field's text; empty where there is none.
    pub fn text(&self, object: &Value) -> String {
        match self {
            FieldText::Read(read) => read(object),
            FieldText::Path(path) => {
                let found = path.iter().try_fold(object, |value, field| value.get(field));
                match found {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                }
            }
        }
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

/// Where a kind keeps its scale: JSON pointers into the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale<'a> {
    /// Desired replicas, as in `/spec/replicas`.
    pub spec_replicas: &'a str,
    /// Observed replicas, as in `/status/replicas`.
    pub status_replicas: &'a str,
    /// The label selector, an object or its text, as in `/spec/selector`; empty where there is none.
    pub selector: &'a str,
}

/// A column of the server-side table (meta.k8s.io/v1 TableColumnDefinition).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// Heading, as in `Ready`.
    pub name: &'a str,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'a str,
    /// OpenAPI format, as in `name`; mostly empty.
    pub format: &'a str,
    /// 0 is always shown, 1 and above with `-o wide`.
    pub priority: i32,
    /// What the column tells.
    pub description: &'a str,
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
    /// `FieldValueTypeInvalid`.
    TypeInvalid,
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
            Reason::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}
