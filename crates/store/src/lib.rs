//! A revisioned key space over redb: transactions, watch from a revision, compaction.
//!
//! Every change of any key gets the next number of one global counter, the *revision*. The current value of
//! each key and a log of the changes live side by side in one file:
//!
//! ```text
//!  create/update/delete ─► queue ─► writer thread ─► one redb transaction a batch (one fsync) ─► acknowledged
//!                                        │
//!                                        └─► window of recent events in memory ─► watches (pull, by revision)
//!  get/list ─► redb read snapshot (+ the log, undone backwards, for an older revision)
//! ```
//!
//! - A write is acknowledged after it is durable; readers and watches only ever see durable writes.
//! - A change states what it expects ([`Store::create`]: nothing, [`Store::update`] and [`Store::delete`]:
//!   the revision the caller read), so nobody overwrites what they haven't seen. Changes that belong together
//!   are made together or not at all ([`Store::write`]).
//! - A [`Watch`] pulls from the log by revision: it has no buffer that could overflow, so there are no gaps
//!   and no duplicates. One that falls behind the memory window reads the file; one that falls behind
//!   compaction gets [`Error::Compacted`] and must list again.
//! - When a read or a write fails, the file is opened anew from what is on the disk. While the disk is full, writes
//!   are refused with [`Error::Full`], and reads and watches go on; once it has space, so do writes.
//! - Values are opaque bytes, except that a [`Value`] may have a place where the store writes the revision
//!   that the value gets. The API server keeps objects ready to send that way.
//!
//! The file's format is documented in `docs/store.md`.

mod disk;
mod error;
mod event;
mod log;
mod medium;
mod read;
mod snapshot;
#[cfg(test)]
mod trials;
mod watch;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub use error::Error;
pub use event::{Change, Entry, Event, Value, Write};
pub use read::{Page, Range};
pub use snapshot::{Reader, Restored, Summary, restore};
pub use watch::Watch;

use disk::Disk;
use log::Log;
use medium::{DiskFile, Medium};
use writer::{Request, Writer};

/// How many writers may wait in the queue before further ones wait outside it.
const QUEUE: usize = 1024;

/// The largest value that is taken. An event has two of them.
const MAX_VALUE: usize = 24 << 20;

/// What the store keeps, and how much memory it may use.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory for redb's page cache.
    pub cache_bytes: usize,
    /// Memory for the window of recent events that watches read from.
    pub window_bytes: usize,
    /// Events are dropped from the log when they are older than this …
    pub keep_for: Duration,
    /// … or when this many newer ones exist.
    pub keep_revisions: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cache_bytes: 8 << 20,
            window_bytes: 8 << 20,
            keep_for: Duration::from_secs(300),
            keep_revisions: 100_000,
        }
    }
}

/// An open store. Reads go straight to the file's snapshot, writes through one writer thread.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    /// `None` only while the store is being dropped.
    queue: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

/// What the store, its writer and its watches have in common.
#[derive(Debug)]
struct Shared {
    disk: Disk,
    log: Log,
}

impl Store {
    /// Opens the store at `path`, creating it when there is none; recovers from a crash.
    pub fn open(path: &Path, options: Options) -> Result<Store, Error> {
        let file = DiskFile::open(path)?.ok_or(Error::Busy)?;
        Store::on(Box::new(file), options)
    }

    fn on(medium: Box<dyn Medium>, options: Options) -> Result<Store, Error> {
        let disk = Disk::open(medium, options.cache_bytes)?;
        let state = disk.state()?;
        let shared = Arc::new(Shared {
            disk,
            log: Log::new(state, options.window_bytes),
        });
        let (queue, requests) = mpsc::channel(QUEUE);
        let writer = Writer::new(shared.clone(), state, &options);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(requests))
            .map_err(|error| Error::Thread(Arc::new(error)))?;
        Ok(Store {
            shared,
            queue: Some(queue),
            writer: Some(writer),
        })
    }

    /// Creates `key`; [`Error::Exists`] when it exists.
    pub async fn create(&self, key: &str, value: Value) -> Result<Entry, Error> {
        let key = key.into();
        self.one(Write::Create { key, value }).await
    }

    /// Replaces the value of `key`, last changed at `revision`.
    pub async fn update(&self, key: &str, value: Value, revision: u64) -> Result<Entry, Error> {
        let key = key.into();
        self.one(Write::Update { key, value, revision }).await
    }

    /// Removes `key`, last changed at `revision`. `last` is the value that watches see with the deletion.
    pub async fn delete(&self, key: &str, last: Value, revision: u64) -> Result<Entry, Error> {
        let key = key.into();
        self.one(Write::Delete { key, last, revision }).await
    }

    /// Does all of the writes, or none when one finds something else than it expects; each key once at most.
    /// Every write has a revision of its own. The answer is in the order of the writes.
    pub async fn write(&self, writes: Vec<Write>) -> Result<Vec<Entry>, Error> {
        let sizes = writes.iter().map(|write| write.value().len());
        if let Some(size) = sizes.max().filter(|size| *size > MAX_VALUE) {
            let limit = MAX_VALUE;
            return Err(Error::TooLarge { size, limit });
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Write { writes, reply }).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Drops the log's events up to and including `revision` (at most the current one).
    pub async fn compact(&self, revision: u64) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Compact { revision, reply }).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// The current value of `key`.
    pub fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.shared.disk.get(key)
    }

    /// The entries of a range, in the order of their keys, as they were at one revision. `keep` selects by
    /// value; entries it turns down count neither towards the range's limit nor as results.
    pub fn list(&self, range: &Range<'_>, keep: impl FnMut(&[u8]) -> bool) -> Result<Page, Error> {
        read::list(&self.shared.disk, range, keep)
    }

    /// The events after `revision` of all keys that start with `prefix`, past ones first.
    pub fn watch(&self, prefix: &str, revision: u64) -> Result<Watch, Error> {
        Watch::new(self.shared.clone(), prefix, revision)
    }

    /// The newest revision that watches can see.
    pub fn revision(&self) -> u64 {
        self.shared.log.head()
    }

    /// Waits until the store has reached `revision`.
    pub async fn reached(&self, revision: u64) {
        let mut head = self.shared.log.subscribe();
        // The sender lives in `self.shared`, so waiting can't fail while `self` is borrowed.
        let _ = head.wait_for(|head| *head >= revision).await;
    }

    async fn one(&self, write: Write) -> Result<Entry, Error> {
        let entry = self.write(vec![write]).await?.pop();
        Ok(entry.expect("every write has its entry"))
    }

    async fn send(&self, request: Request) -> Result<(), Error> {
        let queue = self.queue.as_ref().ok_or(Error::Closed)?;
        queue.send(request).await.map_err(|_| Error::Closed)
    }
}

impl Drop for Store {
    /// Lets the writer finish what is queued, so that the file can be opened again at once.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A panic in the writer was already reported by its thread.
            let _ = writer.join();
        }
        self.shared.log.close();
    }
}
