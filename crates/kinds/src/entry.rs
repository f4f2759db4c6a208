//! What an entry of the table holds.

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::check::errors::Errors;
use crate::check::names::{self, Check};
use crate::kind::{Column, DecodeError, Decoded, Generation, Scale};
use crate::{columns, decode};

/// Reads a selectable field's text from an object.
pub(crate) type ReadField = fn(&Value) -> String;

/// One kind in one version, as the table has it.
pub(crate) struct Entry {
    /// API group; empty for the core group.
    pub(crate) group: &'static str,
    /// API version, as in `v1`.
    pub(crate) version: &'static str,
    /// Kind, as in `Deployment`.
    pub(crate) kind: &'static str,
    /// Resource name, as in `deployments`.
    pub(crate) plural: &'static str,
    /// Singular resource name, as in `deployment`.
    pub(crate) singular: &'static str,
    /// Short names, as in `deploy`.
    pub(crate) short_names: &'static [&'static str],
    /// Categories, as in `all`.
    pub(crate) categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub(crate) namespaced: bool,
    /// Whether the kind has a `/status` subresource.
    pub(crate) status: bool,
    /// The `/scale` subresource, where the kind has one.
    pub(crate) scale: Option<Scale<'static>>,
    /// Which changes `metadata.generation` counts.
    pub(crate) generation: Generation,
    /// Further subresources that the server implements by hand, as in `log`, `exec`, `binding`, `eviction`.
    pub(crate) subresources: &'static [&'static str],
    /// A round trip through the typed object: drops (and names) what the kind doesn't know, refuses wrong
    /// types, merges write-only fields, and writes quantities in their canonical form.
    pub(crate) decode: fn(&Value) -> Result<Decoded, DecodeError>,
    /// Adds the schema of the kind's type, and those it refers to, to a generator.
    pub(crate) schema: fn(&mut SchemaGenerator),
    /// Fills in the API's documented defaults. Idempotent: run it on every create and update.
    pub(crate) default: fn(&mut Value),
    /// What Kubernetes sets besides defaults on a new object, or on a changed one because of the old: after
    /// `default`, before the rules.
    pub(crate) prepare: fn(new: &mut Value, old: Option<&Value>),
    /// The format of names.
    pub(crate) name: Check,
    /// What must hold besides the rules of metadata.
    pub(crate) rules: fn(&mut Errors, new: &Value, old: Option<&Value>),
    /// The columns of `kubectl get`.
    pub(crate) columns: &'static [Column<'static>],
    /// The cells of one object, one for each column; `now` in seconds since the epoch, for ages.
    pub(crate) row: fn(object: &Value, now: i64) -> Vec<Value>,
    /// Field selectors beside `metadata.name` and `metadata.namespace`: label and the field's text, read from
    /// the object as it is kept.
    pub(crate) fields: &'static [(&'static str, ReadField)],
    /// How objects are kept, where that isn't as this kind has them.
    pub(crate) kept: Option<Kept>,
}

/// Another kind of the table, in whose form and at whose place a kind's objects are kept: both are views of the
/// same objects.
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    /// The other kind's group.
    pub(crate) group: &'static str,
    /// From what is kept to what this kind has.
    pub(crate) read: fn(Value) -> Value,
    /// From what this kind has to what is kept.
    pub(crate) write: fn(Value) -> Value,
}

impl Entry {
    /// A kind whose objects live in namespaces, with nothing special about it: entries add what there is.
    pub(crate) const fn namespaced<T>(singular: &'static str) -> Entry
    where
        T: Resource<Scope = NamespaceResourceScope> + JsonSchema + Serialize + DeserializeOwned,
    {
        Entry::plain::<T>(singular, true)
    }

    /// A kind whose objects belong to the whole cluster, with nothing special about it.
    pub(crate) const fn cluster<T>(singular: &'static str) -> Entry
    where
        T: Resource<Scope = ClusterResourceScope> + JsonSchema + Serialize + DeserializeOwned,
    {
        Entry::plain::<T>(singular, false)
    }

    const fn plain<T>(singular: &'static str, namespaced: bool) -> Entry
    where
        T: Resource + JsonSchema + Serialize + DeserializeOwned,
    {
        Entry {
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
            kept: None,
        }
    }
}
