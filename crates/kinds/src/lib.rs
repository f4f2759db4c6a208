//! The table of kinds: what the API server must know about each built-in Kubernetes kind.
//!
//! A kind is an entry ([`Kind`]), not a file of handlers. The API server is generic over this table: it
//! looks an entry up by group, version and plural, and asks it to decode, default, validate and print.
//! Everything here is pure: JSON in, JSON out, no clock and no store.

mod kind;

pub use kind::{Column, DecodeError, FieldError, Kind, Reason, Scale};
