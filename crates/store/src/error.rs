//! What can go wrong, and what to do then.

use std::sync::Arc;

/// Why the store couldn't do as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The key to create exists: update it, or choose another.
    #[error("the key exists already")]
    Exists,
    /// The key to change doesn't exist.
    #[error("the key does not exist")]
    NotFound,
    /// Somebody else changed the key meanwhile: read it again, then retry.
    #[error("the key has changed meanwhile: it is at revision {current}")]
    Conflict {
        /// The revision of the key's last change.
        current: u64,
    },
    /// The log no longer reaches back that far: list again and go on from there.
    #[error("revision {requested} is compacted; the log starts after {compacted}")]
    Compacted {
        /// What was asked for.
        requested: u64,
        /// The oldest revision that can still be read.
        compacted: u64,
    },
    /// The revision hasn't happened yet: it is another store's, or the file was replaced.
    #[error("revision {requested} is in the future; the current one is {current}")]
    Future {
        /// What was asked for.
        requested: u64,
        /// The newest revision.
        current: u64,
    },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
    /// The file can't be read or written: look at disk space and the disk's health, then restart.
    #[error("store file: {0}")]
    File(Arc<redb::Error>),
    /// The file holds something that this version didn't write: restore it from a backup.
    #[error("store file is damaged: {0}")]
    Damaged(&'static str),
    /// The file was written by another version of the format.
    #[error("store file has format {found}; this program reads format {supported}")]
    Format {
        /// The file's.
        found: u64,
        /// Ours.
        supported: u64,
    },
    /// The writer thread couldn't be started: look at the limit on threads.
    #[error("can't start the writer thread: {0}")]
    Thread(#[source] Arc<std::io::Error>),
}

impl<E: Into<redb::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Error::File(Arc::new(error.into()))
    }
}
