//! The table of kinds: what the API server must know about each built-in Kubernetes kind.
//!
//! A kind is an entry ([`Kind`]), not a file of handlers. The API server is generic over this table: it
//! looks an entry up by group, version and plural, and asks it to decode, default, validate and print.
//! Everything here is pure: JSON in, JSON out, no clock and no store.
//!
//! ```text
//! request body ─► decode ─► default ─► validate(new, old) ─► store
//!                                      object ─► row/columns, fields ─► kubectl get, field selectors
//! ```

mod columns;
mod decode;
mod json;
mod kind;
mod table;

mod configmap;
mod deployment;
mod endpoints;
mod event;
mod lease;
mod namespace;
mod node;
mod pod;
mod replicaset;
mod secret;
mod service;
mod serviceaccount;

pub use kind::{Column, DecodeError, Decoded, FieldError, Kind, Reason, Scale};
pub use table::{all, find, find_kind};
