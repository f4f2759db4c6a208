//! The interface's messages, under the interface's own names.
//!
//! Each field carries the number that the interface gives it; a field that is
//! missing here is one that Ripstop doesn't use.

#![expect(
    missing_docs,
    reason = "fields bear the interface's own names and its specification defines them; what is easily got wrong is said here"
)]

mod container;
mod image;
mod sandbox;
mod security;
mod stats;
mod status;

pub use container::*;
pub use image::*;
pub use sandbox::*;
pub use security::*;
pub use stats::*;
pub use status::*;

/// An answer that says nothing but "done".
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Empty {}

/// An optional number: absent and zero differ.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Int64Value {
    #[prost(int64, tag = "1")]
    pub value: i64,
}

impl From<i64> for Int64Value {
    fn from(value: i64) -> Self {
        Self { value }
    }
}

/// An optional count: absent and zero differ.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct UInt64Value {
    #[prost(uint64, tag = "1")]
    pub value: u64,
}
