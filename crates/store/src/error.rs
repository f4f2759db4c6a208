//! What can go wrong, and what to do then.

use std::sync::Arc;

use crate::medium;

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
    /// The disk is full: make space. Reading and watching go on, and so does writing once there is space.
    #[error("the disk is full: nothing can be written until it has space")]
    Full,
    /// The value is larger than a store takes.
    #[error("the value has {size} bytes; the limit is {limit}")]
    TooLarge {
        /// The value's size.
        size: usize,
        /// The largest that is taken.
        limit: usize,
    },
    /// Another process has the file open: end it, or use another file.
    #[error("another process has the file open")]
    Busy,
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
    /// The file can't be read or written: look at disk space and the disk's health, then restart.
    #[error("store file: {0}")]
    File(Arc<redb::Error>),
    /// The file holds something that this version didn't write: restore it from a backup.
    #[error("store file is damaged: {0}")]
    Damaged(&'static str),
    /// The snapshot can't be used.
    #[error("{0}")]
    Snapshot(&'static str),
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
        match error.into() {
            redb::Error::Io(error) if medium::is_full(&error) => Error::Full,
            error => Error::File(Arc::new(error)),
        }
    }
}

impl Error {
    /// The write's expectation wasn't met; the store itself is well.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Error::Exists | Error::NotFound | Error::Conflict { .. } | Error::TooLarge { .. }
        )
    }

    /// An earlier failure stands in the way, which opening the file anew takes out of it.
    pub(crate) fn is_stale(&self) -> bool {
        let Error::File(error) = self else { return false };
        matches!(**error, redb::Error::PreviousIo | redb::Error::DatabaseClosed)
    }
}
