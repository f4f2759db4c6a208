//! Who asks, and what they may do.
//!
//! ```text
//! connection, headers ─► authenticate ─► Identity ─► authorize ─► node: graph of what pods use
//!                          │ tokens (jws, claims)       │          rbac: roles and bindings
//!                          └ impersonation ─────────────┘
//! objects to be written ─► accounts (tokens for pods) · restriction (nodes) · rbac::escalation
//! token_request, review: the same questions, asked over the API; token_secrets: tokens that are kept
//! ```
//!
//! Everything is decided from what the store holds at that moment, so a new binding counts for the next request,
//! and a deleted pod's token is worth nothing.

pub(crate) mod accounts;
pub(crate) mod authenticate;
pub(crate) mod authorize;
mod claims;
mod graph;
pub(crate) mod identity;
mod jws;
pub(crate) mod node;
pub(crate) mod rbac;
pub(crate) mod restriction;
pub(crate) mod review;
pub(crate) mod token_request;
pub(crate) mod token_secrets;
pub(crate) mod tokens;
pub(crate) mod view;
