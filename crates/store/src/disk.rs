//! The file: its tables, and the reads and writes that everything else is made of.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, Table,
    TableDefinition, WriteTransaction,
};

use crate::medium::Medium;
use crate::{Entry, Error, Event};

/// Key → revision of its last change (8 bytes, little-endian), then the value.
const OBJECTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("objects");
/// Revision → event, as in [`Event::encode`].
const EVENTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("events");
/// The counters below.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

const FORMAT: &str = "format";
const REVISION: &str = "revision";
const COMPACTED: &str = "compacted";

/// The version of the format that this program reads and writes.
const SUPPORTED: u64 = 1;

/// The two counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// The newest revision.
    pub(crate) revision: u64,
    /// Events up to here are gone from the log.
    pub(crate) compacted: u64,
}

/// The file. redb refuses everything once a read or a write has failed, so that its file is opened anew then,
/// from what the disk holds: what happened meanwhile was never acknowledged.
#[derive(Debug)]
pub(crate) struct Disk {
    medium: Box<dyn Medium>,
    cache_bytes: usize,
    open: RwLock<Arc<Open>>,
}

/// One opening of the file.
#[derive(Debug)]
struct Open {
    db: Database,
    /// Counts them.
    turn: u64,
}

impl Disk {
    pub(crate) fn open(medium: Box<dyn Medium>, cache_bytes: usize) -> Result<Disk, Error> {
        let open = Open {
            db: database(medium.as_ref(), cache_bytes)?,
            turn: 0,
        };
        prepare(&open.db)?;
        Ok(Disk {
            medium,
            cache_bytes,
            open: RwLock::new(Arc::new(open)),
        })
    }

    /// Whether the file can grow, as far as is known.
    pub(crate) fn has_space(&self) -> bool {
        self.medium.has_space()
    }

    pub(crate) fn state(&self) -> Result<State, Error> {
        self.read(|snapshot| snapshot.state())
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.read(|snapshot| match snapshot.objects()?.get(key)? {
            Some(record) => entry(key, record.value()).map(Some),
            None => Ok(None),
        })
    }

    /// Reads from the file as of one moment; once more when the file had to be opened anew.
    pub(crate) fn read<T>(&self, mut work: impl FnMut(&Snapshot) -> Result<T, Error>) -> Result<T, Error> {
        let mut once = || -> Result<T, (u64, Error)> {
            let open = self.current();
            let snapshot = open.db.begin_read().map_err(Error::from);
            let outcome = snapshot.and_then(|transaction| work(&Snapshot { transaction }));
            outcome.map_err(|error| (open.turn, error))
        };
        match once() {
            Err((turn, error)) if error.is_stale() => {
                self.renew(turn)?;
                once().map_err(|(_, error)| error)
            }
            outcome => outcome.map_err(|(_, error)| error),
        }
    }

    pub(crate) fn write(&self) -> Result<WriteTransaction, Error> {
        Ok(self.current().db.begin_write()?)
    }

    /// Puts entries into a file that is being made, and its counters at the end.
    pub(crate) fn load(&self, entries: &[Entry], state: Option<State>) -> Result<(), Error> {
        let transaction = self.write()?;
        let mut tables = Tables::open(&transaction)?;
        for entry in entries {
            tables.put(&entry.key, &entry.value, entry.revision)?;
        }
        if let Some(state) = state {
            tables.set_revision(state.revision)?;
            tables.compact(state.compacted)?;
        }
        drop(tables);
        Ok(transaction.commit()?)
    }

    fn current(&self) -> Arc<Open> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens the file anew, after a write that failed: reads may not notice, as long as they find what they want in
    /// redb's cache.
    pub(crate) fn reopen(&self) -> Result<(), Error> {
        self.renew(self.current().turn)
    }

    /// Opens the file anew, unless somebody has done so since the given turn.
    fn renew(&self, turn: u64) -> Result<(), Error> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.turn == turn {
            let db = database(self.medium.as_ref(), self.cache_bytes)?;
            *open = Arc::new(Open { db, turn: turn + 1 });
            tracing::info!("the store's file was opened anew");
        }
        Ok(())
    }
}

fn database(medium: &dyn Medium, cache_bytes: usize) -> Result<Database, Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    Ok(builder.create_with_backend(Backend(medium.open()?))?)
}

/// Makes the tables in a new file; refuses a file of another format.
fn prepare(db: &Database) -> Result<(), Error> {
    let transaction = db.begin_write()?;
    let found = {
        let mut meta = transaction.open_table(META)?;
        transaction.open_table(OBJECTS)?;
        transaction.open_table(EVENTS)?;
        let found = meta.get(FORMAT)?.map(|format| format.value());
        if found.is_none() {
            meta.insert(FORMAT, SUPPORTED)?;
        }
        found
    };
    match found {
        None => transaction.commit()?,
        Some(SUPPORTED) => transaction.abort()?,
        Some(found) => {
            return Err(Error::Format {
                found,
                supported: SUPPORTED,
            });
        }
    }
    Ok(())
}

/// A medium's opening, as redb takes it.
#[derive(Debug)]
struct Backend(Box<dyn StorageBackend>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

/// The whole file as of one moment.
pub(crate) struct Snapshot {
    transaction: ReadTransaction,
}

impl Snapshot {
    pub(crate) fn state(&self) -> Result<State, Error> {
        let meta = self.transaction.open_table(META)?;
        let counter =
            |name| -> Result<u64, Error> { Ok(meta.get(name)?.map_or(0, |counter| counter.value())) };
        Ok(State {
            revision: counter(REVISION)?,
            compacted: counter(COMPACTED)?,
        })
    }

    pub(crate) fn objects(&self) -> Result<ReadOnlyTable<&'static str, &'static [u8]>, Error> {
        Ok(self.transaction.open_table(OBJECTS)?)
    }

    pub(crate) fn events(&self) -> Result<ReadOnlyTable<u64, &'static [u8]>, Error> {
        Ok(self.transaction.open_table(EVENTS)?)
    }

    /// At most `limit` events after `revision`.
    pub(crate) fn events_after(&self, revision: u64, limit: usize) -> Result<Vec<Arc<Event>>, Error> {
        let mut events = Vec::new();
        for record in self.events()?.range(revision + 1..)?.take(limit) {
            let (revision, record) = record?;
            events.push(Arc::new(Event::decode(revision.value(), record.value())?));
        }
        Ok(events)
    }
}

/// An entry from its record in the table of objects.
pub(crate) fn entry(key: &str, record: &[u8]) -> Result<Entry, Error> {
    let (revision, value) = record
        .split_first_chunk()
        .ok_or(Error::Damaged("an object's record is malformed"))?;
    Ok(Entry {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(value),
        revision: u64::from_le_bytes(*revision),
    })
}

/// The tables, open for writing.
pub(crate) struct Tables<'t> {
    objects: Table<'t, &'static str, &'static [u8]>,
    events: Table<'t, u64, &'static [u8]>,
    meta: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    pub(crate) fn open(transaction: &'t WriteTransaction) -> Result<Tables<'t>, Error> {
        Ok(Tables {
            objects: transaction.open_table(OBJECTS)?,
            events: transaction.open_table(EVENTS)?,
            meta: transaction.open_table(META)?,
        })
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        match self.objects.get(key)? {
            Some(record) => entry(key, record.value()).map(Some),
            None => Ok(None),
        }
    }

    /// Makes a change and appends it to the log.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<(), Error> {
        if event.change == crate::Change::Deleted {
            self.objects.remove(event.key.as_str())?;
        } else {
            self.put(&event.key, &event.value, event.revision)?;
        }
        self.events.insert(event.revision, event.encode().as_slice())?;
        Ok(())
    }

    fn put(&mut self, key: &str, value: &[u8], revision: u64) -> Result<(), Error> {
        let mut record = Vec::with_capacity(8 + value.len());
        record.extend_from_slice(&revision.to_le_bytes());
        record.extend_from_slice(value);
        self.objects.insert(key, record.as_slice())?;
        Ok(())
    }

    pub(crate) fn set_revision(&mut self, revision: u64) -> Result<(), Error> {
        self.meta.insert(REVISION, revision)?;
        Ok(())
    }

    /// Drops events up to and including `revision`.
    pub(crate) fn compact(&mut self, revision: u64) -> Result<(), Error> {
        self.events.retain_in(..=revision, |_, _| false)?;
        self.meta.insert(COMPACTED, revision)?;
        Ok(())
    }
}
