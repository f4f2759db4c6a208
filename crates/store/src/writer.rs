//! The one thread that writes: takes what is queued, commits it as one transaction, then answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::disk::{State, Tables};
use crate::{Change, Entry, Error, Event, Options, Shared, Value};

/// How many writes share one transaction at most.
const BATCH: usize = 256;
/// How often the age of the log is looked at. Nothing is written for it alone: it rides on a write.
const COMPACTION_PERIOD: Duration = Duration::from_secs(30);

/// What the queue carries.
pub(crate) enum Request {
    Write {
        work: Work,
        reply: oneshot::Sender<Result<Entry, Error>>,
    },
    Compact {
        revision: u64,
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

/// A change, and what it expects to find.
pub(crate) enum Work {
    Create {
        key: String,
        value: Value,
    },
    Update {
        key: String,
        value: Value,
        revision: u64,
    },
    Delete {
        key: String,
        last: Value,
        revision: u64,
    },
}

/// An answer that waits for the commit.
enum Answer {
    Write(oneshot::Sender<Result<Entry, Error>>, Result<Arc<Event>, Error>),
    Compact(oneshot::Sender<Result<(), Error>>),
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    state: State,
    keep_for: Duration,
    keep_revisions: u64,
    /// Which revision was the newest at some moments of the past, oldest first.
    ages: VecDeque<(Instant, u64)>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, state: State, options: &Options) -> Writer {
        Writer {
            shared,
            state,
            keep_for: options.keep_for,
            keep_revisions: options.keep_revisions,
            ages: VecDeque::from([(Instant::now(), state.revision)]),
        }
    }

    /// Serves the queue until every sender is gone.
    pub(crate) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut batch = Vec::new();
        while requests.blocking_recv_many(&mut batch, BATCH) > 0 {
            self.serve(std::mem::take(&mut batch));
        }
    }

    fn serve(&mut self, batch: Vec<Request>) {
        let before = self.state;
        let mut answers = Vec::with_capacity(batch.len());
        match self.commit(batch, &mut answers) {
            Ok(()) => {
                self.shared.log.publish(answers.iter().filter_map(Answer::event));
                if self.state.compacted > before.compacted {
                    self.shared.log.compacted(self.state.compacted);
                }
                answers.into_iter().for_each(Answer::send);
            }
            Err(error) => {
                tracing::error!(%error, "the store can't write");
                self.state = before;
                for answer in answers {
                    answer.fail(error.clone());
                }
            }
        }
    }

    /// Does the batch's work in one transaction. Every request gets an answer, whatever happens.
    fn commit(&mut self, batch: Vec<Request>, answers: &mut Vec<Answer>) -> Result<(), Error> {
        let before = self.state;
        let mut fault = None;
        let transaction = self.shared.disk.write();
        let mut tables = match &transaction {
            Ok(transaction) => Tables::open(transaction),
            Err(error) => Err(error.clone()),
        };
        let mut compact = self.due();
        for request in batch {
            match request {
                Request::Compact { revision, reply } => {
                    compact = compact.max(revision.min(self.state.revision));
                    answers.push(Answer::Compact(reply));
                }
                Request::Write { work, reply } => {
                    let outcome = match &mut tables {
                        Ok(tables) => self.apply(tables, work),
                        Err(error) => Err(error.clone()),
                    };
                    if let Err(error) = &outcome
                        && !error.is_refusal()
                    {
                        fault.get_or_insert(error.clone());
                    }
                    answers.push(Answer::Write(reply, outcome));
                }
            }
        }
        let mut tables = tables?;
        if let Some(error) = fault {
            return Err(error);
        }
        if compact > self.state.compacted {
            tables.compact(compact)?;
            self.state.compacted = compact;
        }
        if self.state.revision > before.revision {
            tables.set_revision(self.state.revision)?;
        }
        drop(tables);
        let transaction = transaction?;
        if self.state == before {
            transaction.abort()?;
        } else {
            // redb's default durability is immediate: the commit returns after the fsync.
            transaction.commit()?;
        }
        Ok(())
    }

    /// Checks one write's expectation and makes the change.
    fn apply(&mut self, tables: &mut Tables<'_>, work: Work) -> Result<Arc<Event>, Error> {
        let revision = self.state.revision + 1;
        let (change, key, value, expected) = match work {
            Work::Create { key, value } => (Change::Created, key, value, None),
            Work::Update { key, value, revision } => (Change::Updated, key, value, Some(revision)),
            Work::Delete { key, last, revision } => (Change::Deleted, key, last, Some(revision)),
        };
        let (previous, previous_revision) = match (tables.get(&key)?, expected) {
            (None, None) => (Bytes::new(), 0),
            (Some(_), None) => return Err(Error::Exists),
            (None, Some(_)) => return Err(Error::NotFound),
            (Some(entry), Some(expected)) if entry.revision == expected => (entry.value, entry.revision),
            (Some(entry), Some(_)) => {
                return Err(Error::Conflict {
                    current: entry.revision,
                });
            }
        };
        let event = Arc::new(Event {
            revision,
            key,
            change,
            value: value.at(revision),
            previous,
            previous_revision,
        });
        tables.apply(&event)?;
        self.state.revision = revision;
        Ok(event)
    }

    /// The revision that the log may be compacted to by now.
    fn due(&mut self) -> u64 {
        let now = Instant::now();
        let newest = self.ages.back().map(|(at, _)| *at);
        if newest.is_none_or(|at| now.duration_since(at) >= COMPACTION_PERIOD) {
            self.ages.push_back((now, self.state.revision));
        }
        let mut old = 0;
        while let Some((at, revision)) = self.ages.front()
            && now.duration_since(*at) >= self.keep_for
        {
            old = *revision;
            self.ages.pop_front();
        }
        let many = self.state.revision.saturating_sub(self.keep_revisions);
        // By number it goes in steps of a tenth: dropping one event with every write would cost a write each.
        let slack = self.keep_revisions / 10;
        if many > self.state.compacted + slack {
            old.max(many)
        } else {
            old
        }
    }
}

impl Answer {
    fn event(&self) -> Option<Arc<Event>> {
        match self {
            Answer::Write(_, Ok(event)) => Some(event.clone()),
            _ => None,
        }
    }

    /// Whoever asked may have gone away meanwhile; their write stands.
    fn send(self) {
        match self {
            Answer::Write(reply, outcome) => {
                let _ = reply.send(outcome.map(|event| Entry {
                    key: event.key.clone(),
                    value: event.value.clone(),
                    revision: event.revision,
                }));
            }
            Answer::Compact(reply) => {
                let _ = reply.send(Ok(()));
            }
        }
    }

    fn fail(self, error: Error) {
        match self {
            Answer::Write(reply, _) => {
                let _ = reply.send(Err(error));
            }
            Answer::Compact(reply) => {
                let _ = reply.send(Err(error));
            }
        }
    }
}

impl Error {
    /// The write's expectation wasn't met; the store itself is well.
    fn is_refusal(&self) -> bool {
        matches!(self, Error::Exists | Error::NotFound | Error::Conflict { .. })
    }
}
