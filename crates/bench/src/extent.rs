//! How much is measured.

use std::time::Duration;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Of what is measured more than once.
    pub(crate) rounds: u32,
    /// Of each kind of traffic in each round.
    pub(crate) seconds: f64,
    /// What numbers of pods are divided by.
    pub(crate) divisor: usize,
    /// For how long an idle process is watched, once it has settled for half of that.
    pub(crate) idle: Duration,
}

impl Extent {
    /// All of it; rounds and seconds are asked for.
    pub(crate) const WHOLE: Self = Self {
        rounds: 5,
        seconds: 1.0,
        divisor: 1,
        idle: Duration::from_secs(10),
    };

    /// Enough to see that it works.
    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        seconds: 0.05,
        divisor: 10,
        idle: Duration::from_millis(200),
    };

    /// How many pods where it would be `whole`.
    pub(crate) fn pods(&self, whole: usize) -> usize {
        whole / self.divisor
    }
}
