//! Snapshots: all objects as of one moment in a stream, and a store made from one.
//!
//! ```text
//! "ripstop-snapshot" · version · revision · number of objects │ object … │ SHA-256 of all before
//! object: length of key · length of value · revision · key · value
//! ```
//!
//! Numbers are little-endian: the version and lengths have 4 bytes, the others 8.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::ReadableTableMetadata;
use sha2::{Digest, Sha256};

use crate::disk::{Disk, State, entry};
use crate::medium::DiskFile;
use crate::{Entry, Error, MAX_VALUE, Store};

const MAGIC: &[u8; 16] = b"ripstop-snapshot";
const VERSION: u32 = 1;
/// A restored store's revision is so much higher than any that may have been given before, and its history begins
/// there: whoever knows a later state than the snapshot's is told to list again.
const LEAP: u64 = 1_000_000_000;
/// No store gets that far, and clients of many languages read revisions as signed numbers.
const MOST_REVISION: u64 = i64::MAX as u64;
/// Objects are written in transactions of about this many bytes.
const BATCH: usize = 8 << 20;
const MAX_KEY: usize = 64 << 10;

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The store's revision when it was made.
    pub revision: u64,
    /// How many objects.
    pub objects: u64,
}

/// What became of a restored store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What was restored.
    pub summary: Summary,
    /// Where its revisions go on.
    pub revision: u64,
    /// The store that was there before.
    pub replaced: Option<PathBuf>,
}

impl Store {
    /// Writes a snapshot of this moment; what happens meanwhile isn't in it and isn't held up.
    pub fn save(&self, to: impl Write) -> Result<Summary, Error> {
        let mut to = Digesting::new(to);
        // Once something is written there is no second try.
        let mut begun = false;
        self.shared.disk.read(|snapshot| {
            if std::mem::replace(&mut begun, true) {
                return Err(Error::Snapshot("the store's file failed meanwhile: save again"));
            }
            let objects = snapshot.objects()?;
            let summary = Summary {
                revision: snapshot.state()?.revision,
                objects: objects.len()?,
            };
            to.write_all(MAGIC)?;
            to.write_all(&VERSION.to_le_bytes())?;
            to.write_all(&summary.revision.to_le_bytes())?;
            to.write_all(&summary.objects.to_le_bytes())?;
            for record in objects.range::<&str>(..)? {
                let (key, record) = record?;
                let entry = entry(key.value(), record.value())?;
                to.write_all(&length(entry.key.len()))?;
                to.write_all(&length(entry.value.len()))?;
                to.write_all(&entry.revision.to_le_bytes())?;
                to.write_all(entry.key.as_bytes())?;
                to.write_all(&entry.value)?;
            }
            to.finish()?;
            Ok(summary)
        })
    }
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes)
        .expect("keys and values are far smaller than 4 GiB")
        .to_le_bytes()
}

/// Reads a snapshot object by object.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    digest: Sha256,
    summary: Summary,
    left: u64,
    last: Option<String>,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning; refuses what isn't a snapshot.
    pub fn new(mut from: R) -> Result<Reader<R>, Error> {
        let mut digest = Sha256::new();
        let mut head = [0; 36];
        fill(&mut from, &mut digest, &mut head)?;
        let (magic, rest) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Error::Snapshot("it isn't a snapshot of `ripstop snapshot save`"));
        }
        let (version, rest) = rest.split_at(4);
        if version != VERSION.to_le_bytes() {
            return Err(Error::Snapshot(
                "another version of ripstop made it: use that one",
            ));
        }
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("it has 8 bytes"));
        let summary = Summary {
            revision: number(&rest[..8]),
            objects: number(&rest[8..]),
        };
        Ok(Reader {
            from,
            digest,
            summary,
            left: summary.objects,
            last: None,
        })
    }

    /// What it says to hold.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The next object; `None` at the end, which is only reached when all of it is as it was written.
    #[expect(clippy::should_implement_trait, reason = "as of `Watch`, for its errors")]
    pub fn next(&mut self) -> Result<Option<Entry>, Error> {
        if self.left == 0 {
            self.finish()?;
            return Ok(None);
        }
        let damaged = Error::Snapshot("it is damaged: use another");
        let mut head = [0; 16];
        self.read(&mut head)?;
        let size =
            |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("it has 4 bytes")) as usize;
        let revision = u64::from_le_bytes(head[8..].try_into().expect("it has 8 bytes"));
        if size(0) > MAX_KEY || size(4) > MAX_VALUE + 20 || revision > self.summary.revision {
            return Err(damaged);
        }
        let (mut key, mut value) = (vec![0; size(0)], vec![0; size(4)]);
        self.read(&mut key)?;
        self.read(&mut value)?;
        let key = String::from_utf8(key).map_err(|_| damaged.clone())?;
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(damaged);
        }
        self.left -= 1;
        self.last = Some(key.clone());
        let value = Bytes::from(value);
        Ok(Some(Entry { key, value, revision }))
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), Error> {
        fill(&mut self.from, &mut self.digest, into)
    }

    fn finish(&mut self) -> Result<(), Error> {
        let expected = std::mem::take(&mut self.digest).finalize();
        let mut found = [0; 32];
        let mut rest = Sha256::new();
        fill(&mut self.from, &mut rest, &mut found)?;
        if expected[..] != found {
            return Err(Error::Snapshot("it is damaged: use another"));
        }
        Ok(())
    }
}

fn fill(from: &mut impl Read, digest: &mut Sha256, into: &mut [u8]) -> Result<(), Error> {
    from.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Snapshot("it ends too early: it wasn't saved as a whole"),
        _ => error.into(),
    })?;
    digest.update(into);
    Ok(())
}

/// Makes the store at `path` from a snapshot, in place of one that is there, which is kept beside. `progress` is told
/// how many objects are in it already.
pub fn restore(from: impl Read, path: &Path, progress: impl FnMut(u64)) -> Result<Restored, Error> {
    let mut reader = Reader::new(from)?;
    let present = Present::find(path)?;
    let summary = reader.summary();
    let known = present.as_ref().map_or(0, |present| present.revision);
    // Anybody can write a number into a file, and revisions go on from it.
    let revision = summary.revision.max(known).checked_add(LEAP);
    let revision = revision.filter(|revision| *revision <= MOST_REVISION);
    let revision = revision.ok_or(Error::Snapshot(
        "its revision is higher than any store's: use another",
    ))?;
    let (new, old) = (beside(path, "restoring"), beside(path, "replaced"));
    remove(&new)?;
    if let Err(error) = build(&mut reader, &new, revision, progress) {
        // What is there is of no use, and in the way of nothing.
        let _ = remove(&new);
        return Err(error);
    }
    if present.is_some() {
        // A second name for it: whenever this ends, one of the two is at `path`.
        remove(&old)?;
        fs::hard_link(path, &old)?;
    }
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(Restored {
        summary,
        revision,
        replaced: present.map(|_| old),
    })
}

/// A store that is there, locked so that nobody opens it meanwhile.
struct Present {
    revision: u64,
    _disk: Option<Disk>,
}

impl Present {
    fn find(path: &Path) -> Result<Option<Present>, Error> {
        if !path.try_exists()? {
            return Ok(None);
        }
        let file = DiskFile::open(path)?.ok_or(Error::Busy)?;
        // What can't be read is replaced all the same.
        let disk = Disk::open(Box::new(file), 0).ok();
        let state = disk.as_ref().and_then(|disk| disk.state().ok());
        Ok(Some(Present {
            revision: state.map_or(0, |state| state.revision),
            _disk: disk,
        }))
    }
}

fn build<R: Read>(
    reader: &mut Reader<R>,
    path: &Path,
    revision: u64,
    mut progress: impl FnMut(u64),
) -> Result<(), Error> {
    let file = DiskFile::open(path)?.ok_or(Error::Busy)?;
    let disk = Disk::open(Box::new(file), 1 << 20)?;
    let (mut batch, mut size, mut done) = (Vec::new(), 0, 0);
    while let Some(entry) = reader.next()? {
        size += entry.key.len() + entry.value.len();
        batch.push(entry);
        if size > BATCH {
            done += batch.len() as u64;
            disk.load(&batch, None)?;
            batch.clear();
            size = 0;
            progress(done);
        }
    }
    done += batch.len() as u64;
    let compacted = revision;
    disk.load(&batch, Some(State { revision, compacted }))?;
    progress(done);
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A writer that ends with the digest of what went through it.
struct Digesting<W> {
    to: W,
    digest: Sha256,
}

impl<W: Write> Digesting<W> {
    fn new(to: W) -> Digesting<W> {
        let digest = Sha256::new();
        Digesting { to, digest }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.to.write_all(bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        let digest = std::mem::take(&mut self.digest).finalize();
        self.to.write_all(&digest)?;
        self.to.flush()
    }
}
