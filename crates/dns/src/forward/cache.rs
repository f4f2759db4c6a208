//! What others said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use quick_cache::Weighter;

use crate::wire::{Packet, Question};

/// How long it is believed that there is none, whatever is said.
const KEEP_NONE: Duration = Duration::from_secs(60);
/// How long an answer is kept that doesn't say, and that nobody answers (RFC 9520).
const KEEP_FAILURE: Duration = Duration::from_secs(5);
/// How long an old answer is used without asking again (RFC 8767).
const RECHECK: Duration = Duration::from_secs(30);
/// An entry's, beside its packet's bytes.
const OVERHEAD: usize = 200;

/// What was asked for, in what way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The name, in lower case.
    pub name: Name,
    /// The type of record.
    pub kind: RecordType,
    /// Whether signatures are wanted.
    pub signed: bool,
    /// Whether they needn't be checked.
    pub checking_disabled: bool,
}

impl Asked {
    /// What a client asks for.
    pub fn new(question: &Question) -> Asked {
        Asked {
            name: question.name.to_lowercase(),
            kind: question.kind,
            signed: question.signed(),
            checking_disabled: question.checking_disabled,
        }
    }
}

/// An answer, and how old it is.
#[derive(Debug)]
pub struct Entry {
    /// What was said.
    pub packet: Packet,
    since: Instant,
    fresh_for: Duration,
    /// When nobody could say something newer, in milliseconds after `since`; zero if that wasn't so.
    failed: AtomicU64,
}

impl Entry {
    fn new(packet: Packet, keep: Duration) -> Entry {
        let said = packet
            .lifetime()
            .map(|seconds| Duration::from_secs(seconds.into()));
        let none = packet.code() == ResponseCode::NXDomain || !packet.has_answers();
        let longest = if none { keep.min(KEEP_NONE) } else { keep };
        Entry {
            fresh_for: said.unwrap_or(KEEP_FAILURE).min(longest),
            packet,
            since: Instant::now(),
            failed: AtomicU64::new(0),
        }
    }

    /// Its age in seconds.
    pub fn age(&self) -> u32 {
        u32::try_from(self.since.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Nobody could say something newer.
    pub fn note_failure(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.failed.store(now.max(1), Ordering::Relaxed);
    }

    /// Whether that was so a moment ago.
    pub fn failed_lately(&self) -> bool {
        let failed = self.failed.load(Ordering::Relaxed);
        failed > 0 && self.since.elapsed() < Duration::from_millis(failed) + RECHECK
    }
}

/// What is known.
#[derive(Debug)]
pub(super) enum Hit {
    /// An answer that holds.
    Fresh(Arc<Entry>),
    /// An answer that did, not too long ago.
    Old(Arc<Entry>),
    /// That nobody answered, a moment ago.
    Failed,
    None,
}

#[derive(Debug, Clone)]
enum Kept {
    Answer(Arc<Entry>),
    Failure(Instant),
}

#[derive(Debug, Clone, Copy)]
struct Bytes;

impl Weighter<Asked, Kept> for Bytes {
    fn weight(&self, _: &Asked, kept: &Kept) -> u64 {
        let packet = match kept {
            Kept::Answer(entry) => entry.packet.size(),
            Kept::Failure(_) => 0,
        };
        (packet + OVERHEAD) as u64
    }
}

/// The answers, as many as fit.
#[derive(Debug)]
pub(super) struct Cache {
    kept: quick_cache::sync::Cache<Asked, Kept, Bytes>,
}

impl Cache {
    pub(super) fn new(bytes: u64) -> Cache {
        let items = usize::try_from(bytes).unwrap_or(usize::MAX) / (2 * OVERHEAD);
        Cache {
            kept: quick_cache::sync::Cache::with_weighter(items, bytes, Bytes),
        }
    }

    pub(super) fn get(&self, asked: &Asked, stale: Duration) -> Hit {
        match self.kept.get(asked) {
            Some(Kept::Answer(entry)) => match entry.since.elapsed() {
                age if age < entry.fresh_for => Hit::Fresh(entry),
                age if age < entry.fresh_for + stale => Hit::Old(entry),
                _ => Hit::None,
            },
            Some(Kept::Failure(at)) if at.elapsed() < KEEP_FAILURE => Hit::Failed,
            _ => Hit::None,
        }
    }

    pub(super) fn put(&self, asked: Asked, packet: Packet, keep: Duration) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(packet, keep));
        self.kept.insert(asked, Kept::Answer(Arc::clone(&entry)));
        entry
    }

    pub(super) fn put_failure(&self, asked: Asked) {
        self.kept.insert(asked, Kept::Failure(Instant::now()));
    }

    pub(super) fn clear(&self) {
        self.kept.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}
