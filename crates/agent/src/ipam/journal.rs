//! The file under the pool: appended to, synced, compacted.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Error;
use super::record::{Record, VERSION};

const JOURNAL: &str = "attachments.journal";
const COMPACTED: &str = "attachments.journal.new";
const LOCK: &str = "attachments.lock";

/// How long to wait for an earlier agent that is still ending.
const LOCK_PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 5000 });

/// An open journal. Records are appended in the order of the pool's changes; a record counts once
/// [`Ticket::wait`] has returned.
#[derive(Debug)]
pub(super) struct Journal {
    dir: Dir,
    file: Arc<Appended>,
    records: usize,
    /// Why nothing may be written any more.
    broken: Option<String>,
}

/// The directory, held for this process.
#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
    boot: String,
    _lock: File,
}

/// A file that grows.
#[derive(Debug)]
struct Appended {
    path: PathBuf,
    file: File,
    /// Bytes of whole records.
    length: AtomicU64,
    synced: Mutex<Synced>,
}

/// How much of the file is on the disk.
#[derive(Debug)]
struct Synced {
    length: u64,
    /// After a failed sync nobody knows what is on the disk: no later one may claim success.
    failed: Option<String>,
}

/// What makes a record durable. Whoever comes first syncs for all who appended before.
#[derive(Debug)]
pub(super) struct Ticket {
    file: Arc<Appended>,
    length: u64,
}

/// What an existing file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replay {
    /// Everything after the first line.
    pub(super) records: Vec<Record>,
    /// Bytes of a last record that a crash cut short.
    pub(super) torn: usize,
}

impl Dir {
    /// Takes the directory for this process.
    pub(super) fn open(path: &Path, boot: &str) -> Result<Dir, Error> {
        fs::create_dir_all(path).map_err(failed("create", path))?;
        Ok(Dir {
            path: path.to_owned(),
            boot: boot.to_owned(),
            _lock: lock(&path.join(LOCK))?,
        })
    }

    /// Reads what is there. Network namespaces don't outlive a boot, so another boot's journal says
    /// nothing.
    pub(super) fn replay(&self) -> Result<Replay, Error> {
        let path = self.path.join(JOURNAL);
        match fs::read(&path) {
            Ok(bytes) => read(&bytes, &self.boot, &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Replay {
                records: Vec::new(),
                torn: 0,
            }),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Writes a whole journal beside the one that counts.
    fn write_beside(&self, records: &[Record]) -> Result<Appended, Error> {
        let new = self.path.join(COMPACTED);
        let header = Record::Journal {
            version: VERSION,
            boot: self.boot.clone(),
        };
        let text: String = std::iter::once(&header)
            .chain(records)
            .map(Record::to_line)
            .collect();
        let write = || -> io::Result<File> {
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().append(true).create_new(true).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            Ok(file)
        };
        let file = write().map_err(failed("write", &new))?;
        let length = text.len() as u64;
        let synced = Mutex::new(Synced { length, failed: None });
        Ok(Appended {
            path: self.path.join(JOURNAL),
            file,
            length: length.into(),
            synced,
        })
    }

    /// Lets the one beside count.
    fn replace(&self) -> Result<(), Error> {
        let (new, path) = (self.path.join(COMPACTED), self.path.join(JOURNAL));
        fs::rename(&new, &path).map_err(failed("replace", &path))?;
        File::open(&self.path)
            .and_then(|dir| dir.sync_all())
            .map_err(failed("sync", &self.path))
    }
}

impl Journal {
    /// Begins a journal that says `records`.
    pub(super) fn begin(dir: Dir, records: &[Record]) -> Result<Journal, Error> {
        let file = dir.write_beside(records)?;
        dir.replace()?;
        Ok(Journal {
            dir,
            file: Arc::new(file),
            records: records.len(),
            broken: None,
        })
    }

    /// Appends a record. If it can't be written whole, what was written of it is taken back.
    pub(super) fn append(&mut self, record: &Record) -> Result<Ticket, Error> {
        let file = &self.file;
        if let Some(reason) = &self.broken {
            return Err(Error::Broken {
                path: file.path.clone(),
                reason: reason.clone(),
            });
        }
        let line = record.to_line();
        let before = file.length.load(Ordering::Relaxed);
        if let Err(error) = (&file.file).write_all(line.as_bytes()) {
            if let Err(undo) = file.file.set_len(before) {
                self.broken = Some(format!("a half-written record can't be taken back: {undo}"));
            }
            return Err(failed("append to", &file.path)(error));
        }
        let length = before + line.len() as u64;
        file.length.store(length, Ordering::Release);
        self.records += 1;
        Ok(Ticket {
            file: file.clone(),
            length,
        })
    }

    /// How many records the file has.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Replaces the file by one of `records`, which must say the same. The old file counts until
    /// the new one is whole and durable.
    pub(super) fn compact(&mut self, records: &[Record]) -> Result<(), Error> {
        let file = self.dir.write_beside(records)?;
        if let Err(error) = self.dir.replace() {
            // Nobody knows which of the two counts after a crash.
            self.broken = Some(error.to_string());
            return Err(error);
        }
        // A ticket of the old file still syncs that one; what it waits for is in the new one,
        // durable already.
        self.file = Arc::new(file);
        self.records = records.len();
        Ok(())
    }
}

impl Ticket {
    /// Waits until the record is on the disk.
    pub(super) fn wait(self) -> Result<(), Error> {
        let file = &*self.file;
        let mut synced = file.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &synced.failed {
            return Err(Error::Broken {
                path: file.path.clone(),
                reason: reason.clone(),
            });
        }
        if synced.length >= self.length {
            return Ok(());
        }
        // Whatever was appended before this moment, others' records included, is synced with ours.
        let length = file.length.load(Ordering::Acquire);
        if let Err(error) = file.file.sync_data() {
            synced.failed = Some(format!("it couldn't be synced to the disk: {error}"));
            return Err(failed("sync", &file.path)(error));
        }
        synced.length = length;
        Ok(())
    }
}

/// Reads a journal of this boot. A last record without its end is one that was never acknowledged;
/// damage anywhere else means that the disk or somebody else changed the file.
pub(super) fn read(bytes: &[u8], boot: &str, path: &Path) -> Result<Replay, Error> {
    let mut records = Vec::new();
    let mut offset = 0;
    let mut torn = 0;
    while offset < bytes.len() {
        let rest = &bytes[offset..];
        let end = rest.iter().position(|byte| *byte == b'\n');
        match end.and_then(|end| Some((Record::from_line(&rest[..end])?, end + 1))) {
            Some((record, length)) => {
                records.push(record);
                offset += length;
            }
            None if is_last(rest) => {
                torn = rest.len();
                break;
            }
            None => {
                return Err(Error::Damaged {
                    path: path.to_owned(),
                    offset,
                });
            }
        }
    }
    let mut records = records.into_iter();
    match records.next() {
        None => Ok(Replay {
            records: Vec::new(),
            torn,
        }),
        Some(Record::Journal {
            version: VERSION,
            boot: written,
        }) if written == boot => Ok(Replay {
            records: records.collect(),
            torn,
        }),
        Some(Record::Journal { version: VERSION, .. }) => Ok(Replay {
            records: Vec::new(),
            torn: 0,
        }),
        Some(Record::Journal { version, .. }) => Err(Error::Version {
            path: path.to_owned(),
            version,
        }),
        Some(_) => Err(Error::Damaged {
            path: path.to_owned(),
            offset: 0,
        }),
    }
}

/// Whether no record ends in `rest`: the line feed is part of it.
fn is_last(rest: &[u8]) -> bool {
    let mut lines: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').collect();
    lines.pop();
    !lines.into_iter().any(|line| Record::from_line(line).is_some())
}

/// Two agents with one journal would give one address twice.
fn lock(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed("open", path))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20))
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", path)(error)),
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
