//! What can keep the server from starting.

use std::path::PathBuf;

/// Why the server can't start or go on. Failures of single requests are answers, not errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store can't be opened: another server may have it open, or the disk refuses.
    #[error("can't open the store {}: {source}", path.display())]
    Store {
        /// Its file.
        path: PathBuf,
        /// What the store says.
        source: store::Error,
    },
    /// A certificate or key can't be used: make the cluster's certificates anew.
    #[error("certificate or key of the {what}: {why}")]
    Certificate {
        /// Whose it is.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A namespace that every cluster has can't be created.
    #[error("can't create the namespace {0}: {1}")]
    Namespace(&'static str, String),
    /// The store's history can't be dropped: the disk may be full.
    #[error("can't drop old events: {0}")]
    Compact(#[source] store::Error),
    /// A default role or binding can't be put in place.
    #[error("can't put the default roles in place: {0}")]
    Roles(String),
    /// The range of Services' addresses, or a Service of the cluster's own, can't be put in place.
    #[error("can't put the cluster's own Services in place: {0}")]
    Services(String),
    /// A PriorityClass that every cluster has can't be made.
    #[error("can't make the priority class {0}: {1}")]
    PriorityClass(&'static str, String),
    /// The listener no longer accepts connections.
    #[error("can't accept connections: {0}")]
    Accept(#[source] std::io::Error),
}
