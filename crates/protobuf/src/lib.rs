//! Kubernetes objects as protobuf (`application/vnd.kubernetes.protobuf`), to and from JSON.
//!
//! Clients written in Go speak it by default, kubectl's typed commands among them. Objects here are JSON, so
//! this crate translates, by a table of messages (`messages`): number, name and type of every field.
//!
//! ```text
//! "k8s\0" Unknown{typeMeta, raw} ─► envelope ─► decode ─┐             ┌─► JSON with apiVersion and kind
//!                                               message table
//! "k8s\0" Unknown{typeMeta, raw} ◄─ envelope ◄─ encode ─┘             └── JSON
//! a watch: length, WatchEvent{type, object: the above} …
//! ```
//!
//! The rules are proto2's as Kubernetes uses them: plain fields can't tell zero from unset and lose zeros, as
//! they do in Go's JSON; optional ones keep them. So an object is the same whichever way a client sends it. Fields that aren't known are skipped. Whatever the bytes
//! are, decoding ends soon, in an object or an [`Error`].

mod decode;
mod encode;
mod envelope;
mod error;
mod messages;
mod scalars;
mod table;
#[cfg(test)]
mod tests;
mod wire;

pub use encode::List;
pub use envelope::{decode, decode_event, encode, event};
pub use error::Error;

/// The media type of objects and lists.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// The media type of a watch: events of [`event`], one after the other.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// Whether a kind, or a list of one, has a protobuf form.
pub fn knows(api_version: &str, kind: &str) -> bool {
    table::find(api_version, kind).is_some()
}
