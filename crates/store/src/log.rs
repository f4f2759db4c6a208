//! The window of recent events that watches read, and the bell that wakes them.

use std::collections::VecDeque;
use std::sync::{Arc, RwLock};

use tokio::sync::watch;

use crate::Event;
use crate::disk::State;

/// The recent events in memory.
#[derive(Debug)]
pub(crate) struct Log {
    window: RwLock<Window>,
    /// The newest published revision.
    head: watch::Sender<u64>,
}

#[derive(Debug)]
struct Window {
    /// Consecutive revisions, without holes: each revision is one event.
    events: VecDeque<Arc<Event>>,
    /// The newest published revision; the last event's, if there is one.
    head: u64,
    compacted: u64,
    bytes: usize,
    limit: usize,
    closed: bool,
}

/// What the window knows about the events after a revision.
pub(crate) enum Tail {
    /// The next ones, oldest first; empty when there are none yet.
    Events(Vec<Arc<Event>>),
    /// They are no longer in memory, but on disk.
    OnDisk,
    /// They are gone: the log starts after this revision.
    Compacted(u64),
    /// There won't be any more.
    Closed,
}

impl Log {
    pub(crate) fn new(state: State, limit: usize) -> Log {
        Log {
            window: RwLock::new(Window {
                events: VecDeque::new(),
                head: state.revision,
                compacted: state.compacted,
                bytes: 0,
                limit,
                closed: false,
            }),
            head: watch::Sender::new(state.revision),
        }
    }

    pub(crate) fn head(&self) -> u64 {
        *self.head.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Shows events to watches. They follow the last published one without a hole.
    pub(crate) fn publish(&self, events: impl IntoIterator<Item = Arc<Event>>) {
        let head = self.with(|window| {
            for event in events {
                debug_assert_eq!(event.revision, window.head + 1, "revisions have no holes");
                window.head = event.revision;
                window.bytes += event.weight();
                window.events.push_back(event);
            }
            while window.bytes > window.limit
                && let Some(oldest) = window.events.pop_front()
            {
                window.bytes -= oldest.weight();
            }
            window.head
        });
        self.head.send_replace(head);
    }

    /// Notes that events up to `revision` are gone. The window may go on holding some of them.
    pub(crate) fn compacted(&self, revision: u64) {
        self.with(|window| window.compacted = revision);
    }

    /// Tells every watch that nothing more comes.
    pub(crate) fn close(&self) {
        self.with(|window| window.closed = true);
        self.head.send_modify(|_| ());
    }

    /// At most `limit` events after `revision`.
    pub(crate) fn after(&self, revision: u64, limit: usize) -> Tail {
        let window = self.window.read().expect("no holder of the window's lock panics");
        if revision < window.compacted {
            return Tail::Compacted(window.compacted);
        }
        if revision >= window.head {
            return if window.closed {
                Tail::Closed
            } else {
                Tail::Events(Vec::new())
            };
        }
        match window.events.front() {
            Some(first) if first.revision <= revision + 1 => {
                let skip = usize::try_from(revision + 1 - first.revision).unwrap_or(usize::MAX);
                let events = window.events.iter().skip(skip).take(limit);
                Tail::Events(events.cloned().collect())
            }
            _ => Tail::OnDisk,
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Window) -> T) -> T {
        let mut window = self
            .window
            .write()
            .expect("no holder of the window's lock panics");
        change(&mut window)
    }
}
