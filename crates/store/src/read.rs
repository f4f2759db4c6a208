//! Lists: a page of a prefix, at the current revision or an older one.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;

use crate::disk::{self, Disk, Snapshot, State};
use crate::event::View;
use crate::{Change, Entry, Error};

/// What to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range<'a> {
    /// Keys that start with this.
    pub prefix: &'a str,
    /// Only keys after this one: where the page before ended.
    pub after: Option<&'a str>,
    /// At most this many entries; 0 for all.
    pub limit: usize,
    /// As they were at this revision; `None` for now.
    pub revision: Option<u64>,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries, in the order of their keys.
    pub entries: Vec<Entry>,
    /// The revision at which all of them are as given.
    pub revision: u64,
    /// How many keys of the prefix follow the last entry, whether `keep` wants them or not.
    pub remaining: usize,
}

pub(crate) fn list(
    disk: &Disk,
    range: &Range<'_>,
    mut keep: impl FnMut(&[u8]) -> bool,
) -> Result<Page, Error> {
    disk.read(|snapshot| page(snapshot, range, &mut keep))
}

fn page(snapshot: &Snapshot, range: &Range<'_>, keep: &mut impl FnMut(&[u8]) -> bool) -> Result<Page, Error> {
    let state = snapshot.state()?;
    let revision = range.revision.unwrap_or(state.revision);
    let mut cursor = Cursor::new(snapshot, range, state, revision)?;
    let mut entries = Vec::new();
    while range.limit == 0 || entries.len() < range.limit {
        let Some(entry) = cursor.next()? else { break };
        if keep(&entry.value) {
            entries.push(entry);
        }
    }
    Ok(Page {
        entries,
        revision,
        remaining: cursor.count()?,
    })
}

/// Walks the keys of a range as of one revision: the current objects, with what changed since then undone.
struct Cursor<'a> {
    prefix: &'a str,
    current: Peekable<redb::Range<'static, &'static str, &'static [u8]>>,
    past: Peekable<btree_map::IntoIter<String, Option<Entry>>>,
}

impl<'a> Cursor<'a> {
    fn new(snapshot: &Snapshot, range: &Range<'a>, state: State, revision: u64) -> Result<Self, Error> {
        let start = range.after.map_or(Bound::Included(range.prefix), Bound::Excluded);
        let current = snapshot.objects()?.range::<&str>((start, Bound::Unbounded))?;
        Ok(Cursor {
            prefix: range.prefix,
            current: current.peekable(),
            past: undo(snapshot, range, state, revision)?.into_iter().peekable(),
        })
    }

    fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            let Some(step) = self.step()? else {
                return Ok(None);
            };
            match step {
                Step::Current(key, record) => {
                    return disk::entry(key.value(), record.value()).map(Some);
                }
                Step::Past(Some(entry)) => return Ok(Some(entry)),
                Step::Past(None) => {}
            }
        }
    }

    /// How many entries are left.
    fn count(&mut self) -> Result<usize, Error> {
        let mut count = 0;
        while let Some(step) = self.step()? {
            count += usize::from(!matches!(step, Step::Past(None)));
        }
        Ok(count)
    }

    /// The next key of either side; a key that changed since counts as it was.
    fn step(&mut self) -> Result<Option<Step>, Error> {
        let prefix = self.prefix;
        let current = match self.current.peek() {
            Some(Ok((key, _))) => Some(key.value()).filter(|key| key.starts_with(prefix)),
            Some(Err(_)) => match self.current.next() {
                Some(Err(error)) => return Err(error.into()),
                _ => None,
            },
            None => None,
        };
        let take_past = match (current, self.past.peek()) {
            (None, None) => return Ok(None),
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some(current), Some((past, _))) if current < past.as_str() => false,
            (Some(current), Some((past, _))) => {
                if current == past {
                    self.current.next();
                }
                true
            }
        };
        if take_past {
            return Ok(self.past.next().map(|(_, entry)| Step::Past(entry)));
        }
        match self.current.next() {
            Some(record) => {
                let (key, record) = record?;
                Ok(Some(Step::Current(key, record)))
            }
            None => Ok(None),
        }
    }
}

enum Step {
    Current(
        redb::AccessGuard<'static, &'static str>,
        redb::AccessGuard<'static, &'static [u8]>,
    ),
    Past(Option<Entry>),
}

/// The keys of the range that changed after `revision`, each as it was then: the first change after it tells.
fn undo(
    snapshot: &Snapshot,
    range: &Range<'_>,
    state: State,
    revision: u64,
) -> Result<BTreeMap<String, Option<Entry>>, Error> {
    let mut past = BTreeMap::new();
    if revision > state.revision {
        return Err(Error::Future {
            requested: revision,
            current: state.revision,
        });
    }
    if revision < state.compacted {
        return Err(Error::Compacted {
            requested: revision,
            compacted: state.compacted,
        });
    }
    if revision == state.revision {
        return Ok(past);
    }
    for record in snapshot.events()?.range(revision + 1..)? {
        let (_, record) = record?;
        let event = View::new(record.value())?;
        let wanted = event.key.starts_with(range.prefix) && range.after.is_none_or(|after| event.key > after);
        if !wanted || past.contains_key(event.key) {
            continue;
        }
        let before = (event.change != Change::Created).then(|| Entry {
            key: event.key.to_owned(),
            value: Bytes::copy_from_slice(event.previous),
            revision: event.previous_revision,
        });
        past.insert(event.key.to_owned(), before);
    }
    Ok(past)
}
