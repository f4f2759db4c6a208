//! What the network part has done, for metrics and for tests.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counts since the start of the agent.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) adds: AtomicU64,
    pub(super) dels: AtomicU64,
    pub(super) checks: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) kernel_writes: AtomicU64,
    pub(super) applies: AtomicU64,
    pub(super) apply_failures: AtomicU64,
    pub(super) policy_failures: AtomicU64,
    pub(super) vanished: AtomicU64,
}

/// [`Counters`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// ADDs that succeeded.
    pub adds: u64,
    /// DELs that succeeded, GC's included.
    pub dels: u64,
    /// CHECKs that succeeded.
    pub checks: u64,
    /// Calls of the plugin that failed.
    pub failures: u64,
    /// Writes to the kernel: none after a restart that found everything in place.
    pub kernel_writes: u64,
    /// Plans that were applied.
    pub applies: u64,
    /// Plans that couldn't be applied.
    pub apply_failures: u64,
    /// Changes of policies that couldn't be written.
    pub policy_failures: u64,
    /// Attachments that were released because their links were gone.
    pub vanished: u64,
}

impl Counters {
    /// The counts now.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            adds: read(&self.adds),
            dels: read(&self.dels),
            checks: read(&self.checks),
            failures: read(&self.failures),
            kernel_writes: read(&self.kernel_writes),
            applies: read(&self.applies),
            apply_failures: read(&self.apply_failures),
            policy_failures: read(&self.policy_failures),
            vanished: read(&self.vanished),
        }
    }
}

/// Counts some more.
pub(super) fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}
