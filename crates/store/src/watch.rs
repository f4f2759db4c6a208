//! Following the log from a revision.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use crate::log::Tail;
use crate::{Error, Event, Shared};

/// How many events a watch takes from the log at a time.
const BATCH: usize = 256;

/// The events of a prefix after a revision, in order, without gaps or duplicates.
///
/// A watch holds its place in the log and at most one batch of events; how slow its reader is concerns
/// nobody else. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    prefix: String,
    head: watch::Receiver<u64>,
    /// Everything up to here was taken from the log.
    position: u64,
    pending: VecDeque<Arc<Event>>,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, prefix: &str, revision: u64) -> Result<Watch, Error> {
        let head = shared.log.subscribe();
        let mut watch = Watch {
            shared,
            prefix: prefix.to_owned(),
            head,
            position: revision,
            pending: VecDeque::new(),
        };
        // Refuses a compacted revision now, not at the first event.
        watch.fill()?;
        Ok(watch)
    }

    /// Waits for the next event. Nothing is lost when the future is dropped before it is ready.
    pub async fn next(&mut self) -> Result<Arc<Event>, Error> {
        loop {
            self.head.mark_unchanged();
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            self.head.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    /// The next event, if it has happened already.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Every event up to and including this revision was returned by [`Watch::next`].
    pub fn revision(&self) -> u64 {
        self.pending
            .front()
            .map_or(self.position, |event| event.revision - 1)
    }

    /// Takes the next batch from the log, from memory or from disk; whether there was one.
    fn fill(&mut self) -> Result<bool, Error> {
        let events = match self.shared.log.after(self.position, BATCH) {
            Tail::Events(events) => events,
            Tail::OnDisk => self.read_disk()?,
            Tail::Compacted(compacted) => return Err(self.compacted(compacted)),
            Tail::Closed => return Err(Error::Closed),
        };
        let Some(last) = events.last() else {
            return Ok(false);
        };
        self.position = last.revision;
        let prefix = &self.prefix;
        let ours = |event: &Arc<Event>| event.key.starts_with(prefix);
        self.pending.extend(events.into_iter().filter(ours));
        Ok(true)
    }

    fn read_disk(&self) -> Result<Vec<Arc<Event>>, Error> {
        self.shared.disk.read(|snapshot| {
            // Compaction may have overtaken us since the window was asked.
            let compacted = snapshot.state()?.compacted;
            if self.position < compacted {
                return Err(self.compacted(compacted));
            }
            // The disk may be ahead of what is published, by a batch. It is durable all the same.
            snapshot.events_after(self.position, BATCH)
        })
    }

    fn compacted(&self, compacted: u64) -> Error {
        Error::Compacted {
            requested: self.position,
            compacted,
        }
    }
}
