//! What a controller has asked for and the cache does not show yet.
//!
//! A controller that counts pods in a stale cache would create them twice. So it writes down how
//! many creations and which deletions it is waiting for, ticks them off as the watch shows them,
//! and neither creates nor deletes before. Should a notice never come, the expectation lapses.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::informer::Key;

const LAPSE: Duration = Duration::from_secs(300);

/// Expectations by owner.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    expected: Mutex<HashMap<Key, Expected>>,
}

#[derive(Debug)]
struct Expected {
    creations: usize,
    /// UIDs, because a deletion is shown more than once.
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Expected>> {
        let expected = self.expected.lock();
        expected.expect("no code panics while it holds expectations")
    }

    /// Whether everything that was asked for has been seen (or waited for long enough).
    pub(crate) fn satisfied(&self, owner: &Key) -> bool {
        self.lock().get(owner).is_none_or(|expected| {
            (expected.creations == 0 && expected.deletions.is_empty()) || expected.since.elapsed() > LAPSE
        })
    }

    /// Expects this and nothing else.
    pub(crate) fn expect(&self, owner: &Key, creations: usize, deletions: impl IntoIterator<Item = String>) {
        let expected = Expected {
            creations,
            deletions: deletions.into_iter().collect(),
            since: Instant::now(),
        };
        self.lock().insert(owner.clone(), expected);
    }

    /// Some creations were seen, or will never come.
    pub(crate) fn created(&self, owner: &Key, count: usize) {
        if let Some(expected) = self.lock().get_mut(owner) {
            expected.creations = expected.creations.saturating_sub(count);
        }
    }

    /// A deletion was seen, or will never come.
    pub(crate) fn deleted(&self, owner: &Key, uid: &str) {
        if let Some(expected) = self.lock().get_mut(owner) {
            expected.deletions.remove(uid);
        }
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &Key) {
        self.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Key {
        Key::new("default", "web")
    }

    #[test]
    fn nothing_expected_is_satisfied() {
        assert!(Expectations::default().satisfied(&owner()));
    }

    #[test]
    fn creations_and_deletions_are_ticked_off() {
        let expectations = Expectations::default();
        expectations.expect(&owner(), 2, ["x".to_owned()]);
        expectations.created(&owner(), 1);
        expectations.created(&owner(), 1);
        assert!(!expectations.satisfied(&owner()));
        expectations.deleted(&owner(), "someone else's");
        expectations.deleted(&owner(), "x");
        assert!(expectations.satisfied(&owner()));
    }

    #[test]
    fn one_deletion_shown_twice_counts_once() {
        let expectations = Expectations::default();
        expectations.expect(&owner(), 0, ["x".to_owned(), "y".to_owned()]);
        expectations.deleted(&owner(), "x");
        expectations.deleted(&owner(), "x");
        assert!(!expectations.satisfied(&owner()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_notice_that_never_comes_is_not_waited_for_for_ever() {
        let expectations = Expectations::default();
        expectations.expect(&owner(), 1, []);
        tokio::time::advance(LAPSE + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&owner()));
    }
}
