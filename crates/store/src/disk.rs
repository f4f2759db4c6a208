//! The file: its tables, and the reads and writes that everything else is made of.

use std::path::Path;

use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition,
    WriteTransaction,
};

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

/// The open file.
#[derive(Debug)]
pub(crate) struct Disk {
    db: Database,
}

impl Disk {
    pub(crate) fn open(path: &Path, cache_bytes: usize) -> Result<Disk, Error> {
        let db = Database::builder().set_cache_size(cache_bytes).create(path)?;
        let disk = Disk { db };
        disk.prepare()?;
        Ok(disk)
    }

    /// Makes the tables in a new file; refuses a file of another format.
    fn prepare(&self) -> Result<(), Error> {
        let transaction = self.db.begin_write()?;
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

    pub(crate) fn state(&self) -> Result<State, Error> {
        self.snapshot()?.state()
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let objects = self.db.begin_read()?.open_table(OBJECTS)?;
        match objects.get(key)? {
            Some(record) => entry(key, record.value()).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot, Error> {
        let transaction = self.db.begin_read()?;
        Ok(Snapshot { transaction })
    }

    pub(crate) fn write(&self) -> Result<WriteTransaction, Error> {
        Ok(self.db.begin_write()?)
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
            let mut record = Vec::with_capacity(8 + event.value.len());
            record.extend_from_slice(&event.revision.to_le_bytes());
            record.extend_from_slice(&event.value);
            self.objects.insert(event.key.as_str(), record.as_slice())?;
        }
        self.events.insert(event.revision, event.encode().as_slice())?;
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
