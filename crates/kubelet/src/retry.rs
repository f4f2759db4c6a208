//! Waiting longer after each failure.

use std::time::Duration;

use kube::runtime::utils::Backoff;

/// Delays that double up to a limit.
#[derive(Clone, Debug)]
pub(crate) struct Growing {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Growing {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
        }
    }

    /// For watches: soon back after a restart of the API server, and no storm
    /// while it is away.
    pub(crate) fn for_watches() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(5))
    }

    /// For single requests that are tried until they succeed.
    pub(crate) fn for_requests() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// The time to wait now.
    pub(crate) fn delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (self.next * 2).min(self.most);
        delay
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

impl Iterator for Growing {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.delay())
    }
}

impl Backoff for Growing {
    fn reset(&mut self) {
        Growing::reset(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit() {
        let mut growing = Growing::new(Duration::from_secs(1), Duration::from_secs(5));
        let delays: Vec<_> = growing.by_ref().take(5).map(|d| d.as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 5, 5]);
        growing.reset();
        assert_eq!(growing.delay(), Duration::from_secs(1));
    }
}
