//! Whether there is an order of all calls that explains what each caller saw.
//!
//! Callers note when a call begins and when it ends, in the order in which it happens. The log gives the order of
//! the writes, by revision, which leaves little to search: each call has to fit between the newest revision that
//! anybody had seen when it began and the first one that was given to a call that began after it had ended.

use std::collections::{BTreeMap, HashMap};

use crate::{Change, Event, Store};

/// What a caller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Want {
    Create {
        key: String,
        value: String,
    },
    Update {
        key: String,
        value: String,
        revision: u64,
    },
    Delete {
        key: String,
        value: String,
        revision: u64,
    },
    Get {
        key: String,
    },
}

/// What a caller gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Got {
    Done(u64),
    Exists,
    NotFound,
    Conflict(u64),
    /// The value's revision; none where the key doesn't exist.
    Value(Option<(u64, String)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Note {
    Begins(u64, Want),
    Ends(u64, Got),
}

/// Everything that is known of a store's life, across crashes.
#[derive(Debug, Default)]
pub(super) struct History {
    notes: Vec<Note>,
    /// By revision, from 1 on.
    log: Vec<Event>,
}

impl History {
    pub(super) fn add(&mut self, notes: impl IntoIterator<Item = Note>) {
        self.notes.extend(notes);
    }

    /// The newest revision that was taken from the log.
    pub(super) fn revision(&self) -> u64 {
        self.log.len() as u64
    }

    /// Takes what is new in the log of a store that was opened after a crash; its objects must be what the log says.
    pub(super) fn take(&mut self, store: &Store) {
        let mut watch = store.watch("/", self.revision()).unwrap();
        for revision in self.revision() + 1..=store.revision() {
            let event = watch.try_next().unwrap().expect("the log has no holes");
            assert_eq!(event.revision, revision);
            self.log.push((*event).clone());
        }
        let all = crate::Range {
            prefix: "/",
            ..crate::Range::default()
        };
        let page = store.list(&all, |_| true).unwrap();
        let listed: BTreeMap<_, _> = page
            .entries
            .iter()
            .map(|e| (&e.key, (e.revision, &e.value)))
            .collect();
        let mut objects = BTreeMap::new();
        for event in &self.log {
            objects.insert(&event.key, (event.revision, &event.value));
            if event.change == Change::Deleted {
                objects.remove(&event.key);
            }
        }
        assert_eq!(listed, objects, "the objects are what the log says");
    }

    /// Fails when no order of the calls explains what was seen.
    pub(super) fn check(&self) {
        let states = States::of(&self.log);
        let mut seen = 0;
        let mut begun = HashMap::new();
        let ceilings = self.ceilings();
        let mut writers = HashMap::new();
        for (place, note) in self.notes.iter().enumerate() {
            match note {
                Note::Begins(call, want) => {
                    if let Some(value) = want.value() {
                        writers.insert(value.to_owned(), (want, seen));
                    }
                    assert!(begun.insert(*call, (want, seen)).is_none(), "calls have numbers");
                }
                Note::Ends(call, got) => {
                    let (want, floor) = begun[call];
                    let among = (floor, ceilings[place]);
                    assert!(
                        states.explain(want, got, among),
                        "{want:?} got {got:?}, which no revision among {among:?} explains"
                    );
                    seen = seen.max(got.revision());
                }
            }
        }
        assert!(seen <= self.revision(), "{seen} was seen and is gone");
        for event in &self.log {
            let value = String::from_utf8(event.value.to_vec()).unwrap();
            let (want, floor) = writers.remove(&value).expect("each write happens once");
            assert!(
                event.revision > floor && want.is(event),
                "{event:?} isn't {want:?}"
            );
        }
    }

    /// For each note, the newest revision that can have been there: below all that were given to later calls.
    fn ceilings(&self) -> Vec<u64> {
        let mut ends = HashMap::new();
        for note in &self.notes {
            if let Note::Ends(call, Got::Done(revision)) = note {
                ends.insert(*call, *revision);
            }
        }
        let mut ceiling = self.revision();
        let mut ceilings: Vec<u64> = (self.notes.iter().rev())
            .map(|note| {
                let here = ceiling;
                if let Note::Begins(call, _) = note
                    && let Some(revision) = ends.get(call)
                {
                    ceiling = ceiling.min(revision - 1);
                }
                here
            })
            .collect();
        ceilings.reverse();
        ceilings
    }
}

impl Want {
    fn key(&self) -> &str {
        match self {
            Want::Create { key, .. } | Want::Update { key, .. } | Want::Delete { key, .. } => key,
            Want::Get { key } => key,
        }
    }

    fn value(&self) -> Option<&str> {
        match self {
            Want::Create { value, .. } | Want::Update { value, .. } | Want::Delete { value, .. } => {
                Some(value)
            }
            Want::Get { .. } => None,
        }
    }

    /// Whether the event is this write.
    fn is(&self, event: &Event) -> bool {
        let (change, previous) = match self {
            Want::Create { .. } => (Change::Created, 0),
            Want::Update { revision, .. } => (Change::Updated, *revision),
            Want::Delete { revision, .. } => (Change::Deleted, *revision),
            Want::Get { .. } => return false,
        };
        event.change == change
            && event.previous_revision == previous
            && event.key == self.key()
            && self.value().is_some_and(|value| event.value == value)
    }
}

impl Got {
    /// The newest revision that it shows.
    fn revision(&self) -> u64 {
        match self {
            Got::Done(revision) | Got::Conflict(revision) | Got::Value(Some((revision, _))) => *revision,
            Got::Exists | Got::NotFound | Got::Value(None) => 0,
        }
    }
}

/// What each key was, from which revision on.
struct States<'a> {
    log: &'a [Event],
    keys: BTreeMap<&'a str, Vec<&'a Event>>,
}

impl<'a> States<'a> {
    /// Fails when an event doesn't follow from those before.
    fn of(log: &'a [Event]) -> States<'a> {
        let mut keys: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        for event in log {
            let events = keys.entry(&event.key).or_default();
            let before = events.last().filter(|last| last.change != Change::Deleted);
            assert_eq!(before.is_none(), event.change == Change::Created, "{event:?}");
            let (revision, value) = before.map_or((0, &b""[..]), |last| (last.revision, &last.value));
            assert_eq!((event.previous_revision, &event.previous[..]), (revision, value));
            events.push(event);
        }
        States { log, keys }
    }

    /// Whether a call that began when `floor` had been seen and ended before anything after `ceiling` may have
    /// got this.
    fn explain(&self, want: &Want, got: &Got, (floor, ceiling): (u64, u64)) -> bool {
        let expected = match want {
            Want::Update { revision, .. } | Want::Delete { revision, .. } => *revision,
            _ => 0,
        };
        let mut states = self.during(want.key(), floor, ceiling);
        match (want, got) {
            (Want::Get { .. }, Got::Value(Some((revision, value)))) => states
                .any(|state| state.is_some_and(|e| e.revision == *revision && e.value == value.as_bytes())),
            (Want::Get { .. }, Got::Value(None)) => states.any(|state| state.is_none()),
            (Want::Get { .. }, _) | (_, Got::Value(_)) => false,
            (want, Got::Done(revision)) => {
                let event = self.log.get(*revision as usize - 1);
                (floor < *revision && *revision <= ceiling) && event.is_some_and(|event| want.is(event))
            }
            (Want::Create { .. }, Got::Exists) => states.any(|state| state.is_some()),
            (Want::Create { .. }, _) | (_, Got::Exists) => false,
            (_, Got::NotFound) => states.any(|state| state.is_none()),
            (_, Got::Conflict(current)) => {
                expected != *current && states.any(|state| state.is_some_and(|e| e.revision == *current))
            }
        }
    }

    /// What the key was at `from`, and became until `to`.
    fn during(&self, key: &str, from: u64, to: u64) -> impl Iterator<Item = Option<&'a Event>> {
        let events = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        let first = events.partition_point(|event| event.revision <= from);
        let last = events.partition_point(|event| event.revision <= to);
        let before = first.checked_sub(1).map(|index| events[index]);
        let until = (before.into_iter().map(Some)).chain((first == 0).then_some(None));
        let within = events[first..last.max(first)].iter().copied().map(Some);
        let living = |event: Option<&'a Event>| event.filter(|event| event.change != Change::Deleted);
        until.chain(within).map(living)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: u64, change: Change, value: &'static str, before: (u64, &'static str)) -> Event {
        Event {
            revision,
            key: "/a".into(),
            change,
            value: value.into(),
            previous: before.1.into(),
            previous_revision: before.0,
        }
    }

    fn create(value: &str) -> Want {
        let (key, value) = ("/a".into(), value.into());
        Want::Create { key, value }
    }

    fn read() -> Want {
        Want::Get { key: "/a".into() }
    }

    fn is_fine(log: Vec<Event>, notes: Vec<Note>) -> bool {
        let history = History { notes, log };
        std::panic::catch_unwind(|| history.check()).is_ok()
    }

    #[test]
    fn the_checker_knows_lost_stale_and_doubled() {
        use Note::{Begins, Ends};
        let one = || event(1, Change::Created, "x", (0, ""));
        let two = || event(2, Change::Deleted, "y", (1, "x"));
        let delete = || Want::Delete {
            key: "/a".into(),
            value: "y".into(),
            revision: 1,
        };
        let written = || vec![Begins(1, create("x")), Ends(1, Got::Done(1))];
        let then = |more: Vec<Note>| written().into_iter().chain(more).collect::<Vec<_>>();
        let value = |is: bool| Got::Value(is.then(|| (1, "x".to_owned())));
        assert!(is_fine(vec![one()], written()));
        assert!(!is_fine(vec![], written()), "lost");
        // A call without an end may have happened or not.
        assert!(is_fine(vec![one()], vec![Begins(1, create("x"))]));
        assert!(is_fine(vec![], vec![Begins(1, create("x"))]));
        assert!(!is_fine(vec![one()], vec![]), "nobody wrote it");
        assert!(
            !is_fine(vec![one()], then(vec![Begins(2, read()), Ends(2, value(false))])),
            "stale"
        );
        let during = |is| {
            vec![
                Begins(1, create("x")),
                Begins(2, read()),
                Ends(2, value(is)),
                Ends(1, Got::Done(1)),
            ]
        };
        assert!(is_fine(vec![one()], during(true)) && is_fine(vec![one()], during(false)));
        let gone = |got| {
            let notes = [
                Begins(2, delete()),
                Ends(2, Got::Done(2)),
                Begins(3, read()),
                Ends(3, got),
            ];
            then(notes.to_vec())
        };
        assert!(is_fine(vec![one(), two()], gone(value(false))));
        assert!(
            !is_fine(vec![one(), two()], gone(value(true))),
            "read after its deletion"
        );
        assert!(!is_fine(
            vec![one()],
            then(vec![Begins(2, create("z")), Ends(2, Got::NotFound)])
        ));
        assert!(is_fine(
            vec![one()],
            then(vec![Begins(2, create("z")), Ends(2, Got::Exists)])
        ));
    }
}
