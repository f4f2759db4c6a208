//! The one thread that writes: takes what is queued, commits it as one transaction, then answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::disk::{State, Tables};
use crate::{Change, Entry, Error, Event, Options, Shared, Write};

/// How many writes share one transaction at most.
const BATCH: usize = 256;
/// How often the age of the log is looked at. Nothing is written for it alone: it rides on a write.
const COMPACTION_PERIOD: Duration = Duration::from_secs(30);

/// What the queue carries.
pub(crate) enum Request {
    Write {
        writes: Vec<Write>,
        reply: oneshot::Sender<Result<Vec<Entry>, Error>>,
    },
    Compact {
        revision: u64,
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

impl Request {
    fn fail(self, error: Error) {
        // Whoever asked may have gone away.
        match self {
            Request::Write { reply, .. } => drop(reply.send(Err(error))),
            Request::Compact { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// An answer that waits for the commit.
enum Answer {
    Write(
        oneshot::Sender<Result<Vec<Entry>, Error>>,
        Result<Vec<Arc<Event>>, Error>,
    ),
    Compact(oneshot::Sender<Result<(), Error>>),
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    state: State,
    keep_for: Duration,
    keep_revisions: u64,
    /// Whether the disk may hold more than we know of, since it couldn't be read after a failure.
    unsure: bool,
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
            unsure: false,
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
        if let Err(error) = self.ready() {
            return batch.into_iter().for_each(|request| request.fail(error.clone()));
        }
        let before = self.state;
        let mut answers = Vec::with_capacity(batch.len());
        match self.commit(batch, &mut answers) {
            Ok(()) => {
                self.shared
                    .log
                    .publish(answers.iter().flat_map(Answer::events).cloned());
                if self.state.compacted > before.compacted {
                    self.shared.log.compacted(self.state.compacted);
                }
                answers.into_iter().for_each(Answer::send);
            }
            Err(error) => {
                tracing::error!(%error, "the store can't write");
                let attempted = std::mem::replace(&mut self.state, before);
                let found = self.reconcile();
                // It failed so late that the batch is on the disk, all of it.
                if found.is_ok() && self.state == attempted && attempted != before {
                    answers.into_iter().for_each(Answer::send);
                } else {
                    self.unsure = found.is_err();
                    let error = found.err().unwrap_or(error);
                    answers.into_iter().for_each(|answer| answer.fail(error.clone()));
                }
            }
        }
    }

    /// Whether it makes sense to write.
    fn ready(&mut self) -> Result<(), Error> {
        if !self.shared.disk.has_space() {
            return Err(Error::Full);
        }
        if self.unsure {
            self.reconcile()?;
            self.unsure = false;
        }
        Ok(())
    }

    /// After a failure: what the disk holds counts, and watches see all of it.
    fn reconcile(&mut self) -> Result<(), Error> {
        let disk = &self.shared.disk;
        disk.reopen()?;
        let state = disk.state()?;
        if state.revision < self.state.revision {
            return Err(Error::Damaged("changes that were acknowledged are gone"));
        }
        while self.state.revision < state.revision {
            let events = disk.read(|snapshot| snapshot.events_after(self.state.revision, BATCH))?;
            let last = events.last().ok_or(Error::Damaged("the log has a hole"))?;
            self.state.revision = last.revision;
            self.shared.log.publish(events);
        }
        if state.compacted > self.state.compacted {
            self.shared.log.compacted(state.compacted);
            self.state.compacted = state.compacted;
        }
        Ok(())
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
                Request::Write { writes, reply } => {
                    let outcome = match &mut tables {
                        Ok(tables) => self.apply(tables, writes),
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

    /// Checks what the writes expect, then makes the changes.
    fn apply(&mut self, tables: &mut Tables<'_>, writes: Vec<Write>) -> Result<Vec<Arc<Event>>, Error> {
        let found = writes.iter().map(|write| expected(tables, write));
        let found: Vec<_> = found.collect::<Result<_, _>>()?;
        let changes = writes.into_iter().zip(found);
        changes
            .map(|(write, previous)| self.change(tables, write, previous))
            .collect()
    }

    fn change(
        &mut self,
        tables: &mut Tables<'_>,
        write: Write,
        previous: Option<Entry>,
    ) -> Result<Arc<Event>, Error> {
        let revision = self.state.revision + 1;
        let (change, key, value) = match write {
            Write::Create { key, value } => (Change::Created, key, value),
            Write::Update { key, value, .. } => (Change::Updated, key, value),
            Write::Delete { key, last, .. } => (Change::Deleted, key, last),
        };
        let (previous, previous_revision) =
            previous.map_or_else(Default::default, |entry| (entry.value, entry.revision));
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

/// What a write finds, if it is what it expects.
fn expected(tables: &mut Tables<'_>, write: &Write) -> Result<Option<Entry>, Error> {
    let (key, revision) = match write {
        Write::Create { key, .. } => (key, None),
        Write::Update { key, revision, .. } | Write::Delete { key, revision, .. } => (key, Some(*revision)),
    };
    match (tables.get(key)?, revision) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(Error::Exists),
        (None, Some(_)) => Err(Error::NotFound),
        (Some(entry), Some(revision)) if entry.revision == revision => Ok(Some(entry)),
        (Some(entry), Some(_)) => Err(Error::Conflict {
            current: entry.revision,
        }),
    }
}

impl Answer {
    fn events(&self) -> &[Arc<Event>] {
        match self {
            Answer::Write(_, Ok(events)) => events,
            _ => &[],
        }
    }

    /// Whoever asked may have gone away meanwhile; their write stands.
    fn send(self) {
        match self {
            Answer::Write(reply, outcome) => {
                let entry = |event: &Arc<Event>| Entry {
                    key: event.key.clone(),
                    value: event.value.clone(),
                    revision: event.revision,
                };
                let _ = reply.send(outcome.map(|events| events.iter().map(entry).collect()));
            }
            Answer::Compact(reply) => {
                let _ = reply.send(Ok(()));
            }
        }
    }

    /// A refusal too: it may be for something in the same batch.
    fn fail(self, error: Error) {
        match self {
            Answer::Write(reply, _) => drop(reply.send(Err(error))),
            Answer::Compact(reply) => drop(reply.send(Err(error))),
        }
    }
}
