//! How fast processor time is used: the difference between two looks.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Looks that are nearer to each other tell little.
const LEAST: Duration = Duration::from_secs(1);
/// What nobody has asked about for so long is forgotten.
const MEMORY: Duration = Duration::from_secs(600);

/// What was seen last of everything that uses the processor.
#[derive(Default)]
pub(crate) struct Rates(Mutex<HashMap<String, Seen>>);

struct Seen {
    at: Instant,
    used: u64,
    rate: Option<u64>,
    asked: Instant,
}

impl Rates {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        // A map is whole at every point where a panic could leave it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rate in billionths of a processor, of what has used so many nanoseconds of it by now. Nothing is
    /// known at the first look.
    pub(crate) fn rate(&self, id: &str, used: Option<u64>) -> Option<u64> {
        let (used, now) = (used?, Instant::now());
        let mut seen = self.lock();
        let Some(before) = seen.get_mut(id) else {
            let first = Seen {
                at: now,
                used,
                rate: None,
                asked: now,
            };
            seen.insert(id.to_owned(), first);
            return None;
        };
        before.asked = now;
        let elapsed = now - before.at;
        if elapsed >= LEAST {
            let more = u128::from(used.saturating_sub(before.used)) * 1_000_000_000;
            before.rate = u64::try_from(more / elapsed.as_nanos().max(1)).ok();
            (before.at, before.used) = (now, used);
        }
        before.rate
    }

    pub(crate) fn forget_old(&self) {
        self.lock().retain(|_, seen| seen.asked.elapsed() < MEMORY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_looks_make_a_rate() {
        let rates = Rates::default();
        assert_eq!(rates.rate("a", Some(1_000_000_000)), None);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(rates.rate("a", Some(2_000_000_000)), Some(500_000_000));
        // Too early for another: the last one is told.
        assert_eq!(rates.rate("a", Some(2_000_000_001)), Some(500_000_000));
        tokio::time::advance(MEMORY).await;
        rates.forget_old();
        assert_eq!(rates.rate("a", Some(3_000_000_000)), None);
    }
}
