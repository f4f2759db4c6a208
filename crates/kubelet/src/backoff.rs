//! How long a container that keeps ending waits before it is started again.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

/// The first wait.
const FIRST: SignedDuration = SignedDuration::from_secs(10);
/// The longest wait.
const MOST: SignedDuration = SignedDuration::from_mins(5);
/// A container that ran this long since its last wait starts over.
const FORGET: SignedDuration = SignedDuration::from_mins(10);

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

/// The waits of one pod's containers.
#[derive(Clone, Debug, Default)]
pub(crate) struct CrashBackoff {
    entries: HashMap<String, Entry>,
}

/// A wait that isn't over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) until: Timestamp,
    pub(crate) delay: SignedDuration,
}

impl CrashBackoff {
    /// Whether the container, which ended at `finished`, has to wait still.
    pub(crate) fn hold(&self, container: &str, finished: Timestamp, now: Timestamp) -> Option<Hold> {
        let entry = self.entries.get(container)?;
        if finished.duration_since(entry.updated) > FORGET {
            return None;
        }
        let until = finished + entry.delay;
        (now < until).then_some(Hold {
            until,
            delay: entry.delay,
        })
    }

    /// The container, which ended at `finished`, is started again: the next
    /// wait is twice as long.
    pub(crate) fn restarted(&mut self, container: &str, finished: Timestamp, now: Timestamp) {
        let delay = match self.entries.get(container) {
            Some(entry) if finished.duration_since(entry.updated) <= FORGET => (entry.delay * 2).min(MOST),
            _ => FIRST,
        };
        let entry = Entry { delay, updated: now };
        self.entries.insert(container.to_owned(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tests::at;

    #[test]
    fn the_first_restart_is_at_once_and_the_next_ones_wait_longer() {
        let mut backoff = CrashBackoff::default();
        assert_eq!(backoff.hold("a", at(0), at(0)), None);
        let mut finished = at(0);
        let mut delays = Vec::new();
        for _ in 0..8 {
            backoff.restarted("a", finished, finished);
            finished += SignedDuration::from_secs(1);
            let hold = backoff.hold("a", finished, finished).expect("a wait");
            assert_eq!(hold.until, finished + hold.delay);
            delays.push(hold.delay.as_secs());
            finished = hold.until;
            assert_eq!(backoff.hold("a", finished - hold.delay, finished), None);
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn ten_good_minutes_are_a_fresh_start() {
        let mut backoff = CrashBackoff::default();
        backoff.restarted("a", at(0), at(0));
        backoff.restarted("a", at(20), at(20));
        assert_eq!(backoff.hold("a", at(20 + 601), at(20 + 601)), None);
        backoff.restarted("a", at(621), at(621));
        assert_eq!(backoff.hold("a", at(622), at(622)).map(|h| h.delay), Some(FIRST));
    }
}
