//! What redb writes to: a file whose blocks are allocated before anything is put in them, so that a disk that is
//! full says so at once, and what was written before can always be written over.
//!
//! redb refuses everything after the first error and has to be opened anew ([`crate::disk::Disk`] does). A
//! [`Medium`] outlives that: it holds the lock on the file, and knows whether the disk was full.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use redb::StorageBackend;

/// Blocks are allocated in steps of this: redb doubles a file's length, which costs nothing until it is used.
const STEP: u64 = 4 << 20;
/// A disk that was full has to have this much more than was missing.
const SLACK: u64 = 1 << 20;
/// How often a full disk is asked whether it has space again.
const PROBE_PERIOD: Duration = Duration::from_millis(200);

/// Where a store's bytes are, however often redb opens them.
pub(crate) trait Medium: std::fmt::Debug + Send + Sync {
    /// What redb reads and writes. Nothing is written any more through what was opened before.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Whether it can grow, as far as is known.
    fn has_space(&self) -> bool;
}

/// A file, locked as long as this lives.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: Arc<File>,
    space: Arc<Mutex<Space>>,
    /// Of what was opened last.
    fence: Mutex<Arc<Fence>>,
}

/// What is known of the file's blocks.
#[derive(Debug, Default)]
struct Space {
    /// Up to here it has them.
    allocated: u64,
    /// The disk was full when it was to have them up to there.
    full: Option<Full>,
}

#[derive(Debug)]
struct Full {
    wanted: u64,
    asked: Instant,
}

impl DiskFile {
    /// Opens the file, or makes it; `None` when another process has it.
    pub(crate) fn open(path: &Path) -> io::Result<Option<DiskFile>> {
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Some(DiskFile {
            file: Arc::new(file),
            space: Arc::default(),
            fence: Mutex::default(),
        }))
    }
}

impl Medium for DiskFile {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let fence = Arc::new(Fence::default());
        let mut last = self.fence.lock().unwrap_or_else(PoisonError::into_inner);
        last.close();
        // After a failed write the cache may hold what never reached the disk: what counts is there.
        let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        *last = fence.clone();
        Ok(Box::new(Opened {
            file: self.file.clone(),
            space: self.space.clone(),
            fence,
        }))
    }

    fn has_space(&self) -> bool {
        let mut space = lock(&self.space);
        let Some(full) = &mut space.full else { return true };
        if full.asked.elapsed() < PROBE_PERIOD {
            return false;
        }
        full.asked = Instant::now();
        let wanted = full.wanted;
        // Taken for good: what is found now may be somebody else's in a moment.
        let found = allocate(&self.file, space.allocated, wanted).is_ok();
        if found {
            tracing::info!("the disk has space again");
            (space.allocated, space.full) = (wanted, None);
        }
        found
    }
}

impl Space {
    /// Gives the file blocks up to `end`.
    fn allocate(&mut self, file: &File, end: u64) -> io::Result<()> {
        if end <= self.allocated {
            return Ok(());
        }
        let to = end.next_multiple_of(STEP);
        match allocate(file, self.allocated, to) {
            Ok(()) => self.allocated = to,
            Err(error) if !is_full(&error) => return Err(error),
            // What little there is may do.
            Err(_) => {
                allocate(file, self.allocated, end)?;
                self.allocated = end;
            }
        }
        Ok(())
    }

    fn is_full(&mut self, end: u64) {
        tracing::warn!("the disk is full: nothing is written until it has space");
        let (wanted, asked) = (end.max(self.allocated) + SLACK, Instant::now());
        self.full = Some(Full { wanted, asked });
    }
}

fn lock(space: &Mutex<Space>) -> MutexGuard<'_, Space> {
    space.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps an earlier opening's last writes from going into what a later one has written.
#[derive(Debug, Default)]
struct Fence {
    writing: RwLock<()>,
    closed: AtomicBool,
}

impl Fence {
    /// Waits for the write that is under way; later ones fail.
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        drop(self.writing.write());
    }

    fn write<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _writing = self.writing.read();
        if self.closed.load(Ordering::SeqCst) {
            return Err(io::Error::other("the file was opened anew"));
        }
        work()
    }
}

/// The file as one opening sees it.
#[derive(Debug)]
struct Opened {
    file: Arc<File>,
    space: Arc<Mutex<Space>>,
    fence: Arc<Fence>,
}

impl Opened {
    /// Remembers that the disk was full.
    fn note<T>(&self, outcome: io::Result<T>, wanted: u64) -> io::Result<T> {
        if outcome.as_ref().is_err_and(is_full) {
            lock(&self.space).is_full(wanted);
        }
        outcome
    }
}

impl StorageBackend for Opened {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fence.write(|| {
            let mut space = lock(&self.space);
            space.allocated = space.allocated.min(len);
            self.file.set_len(len)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fence.write(|| self.note(self.file.sync_data(), 0))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        self.fence.write(|| {
            let allocated = lock(&self.space).allocate(&self.file, end);
            self.note(allocated, end)?;
            self.note(self.file.write_all_at(data, offset), end)
        })
    }
}

/// Gives a part of the file its blocks, whatever its length. File systems that can't do so beforehand do so later.
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    let offset = |bytes: u64| i64::try_from(bytes).map_err(|_| io::Error::from(ErrorKind::FileTooLarge));
    let (from, length) = (offset(from)?, offset(to - from)?);
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, from, length) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Whether it is for want of space: on the disk, in the quota, or under the limit on files.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}
