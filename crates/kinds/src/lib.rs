//! The table of kinds: what the API server must know about each built-in Kubernetes kind.
//!
//! A kind is an entry, not a file of handlers; [`kinds_of`] makes further ones ([`Kind`]) of
//! CustomResourceDefinitions. The API server is generic over them: it
//! looks an entry up by group, version and plural, and asks it to decode, default, validate and print.
//! Everything here is pure: JSON in, JSON out, no clock and no store.
//!
//! ```text
//! request body ─► decode ─► default ─► validate(new, old) ─► store
//!                                      object ─► row/columns, fields ─► kubectl get, field selectors
//! ```

mod columns;
mod decode;
mod entry;
mod json;
mod kind;
mod labels;
mod notes;
mod table;

// Kinds that CustomResourceDefinitions make.
mod custom;

// What rules are made of: names, addresses, metadata, selectors.
mod check;

// A folder an API group, in it a file a kind (or a family): its entry in the table, defaults, rules, columns.
mod apiextensions;
mod apps;
mod autoscaling;
mod batch;
mod coordination;
mod core;
mod discovery;
mod events;
mod networking;
mod node;
mod policy;
mod rbac;
mod scheduling;
mod storage;

// Pods are large, and other kinds hold them as templates.
mod pod;

pub use apiextensions::{set_definition_condition, settle_definition};
pub use autoscaling::{SCALE_COLUMNS, scale_row};
pub use columns::human_duration;
pub use custom::{compare_versions, kept_kind_of, kinds_of};
pub use kind::{Column, DecodeError, Decoded, FieldError, FieldText, Generation, Kind, Reason, Scale};
pub use labels::selects;
pub use notes::note;
pub use pod::qos_class;
pub use table::{all, find, find_kind};
