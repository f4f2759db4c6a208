//! Leaving politely: what is under way is finished, what is idle is let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst};

/// What every connection of the server shares.
#[derive(Debug)]
pub(crate) struct State {
    draining: AtomicBool,
    closed: AtomicBool,
    busy: AtomicUsize,
    connections: AtomicUsize,
    /// What `/healthz` and `/readyz` answer.
    pub(crate) health: AtomicU16,
    pub(crate) ready: AtomicU16,
}

impl Default for State {
    fn default() -> Self {
        Self {
            draining: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            health: AtomicU16::new(200),
            ready: AtomicU16::new(200),
        }
    }
}

impl State {
    /// From now on every answer asks its client to come back elsewhere.
    pub(crate) fn drain(&self) {
        self.draining.store(true, SeqCst);
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// From now on nothing new is taken in.
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
    }

    pub(crate) fn closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// Whether nothing is being answered.
    pub(crate) fn idle(&self) -> bool {
        self.busy.load(SeqCst) == 0
    }

    /// Marks something as under way until the guard is dropped.
    pub(crate) fn work(&self) -> Guard<'_> {
        self.busy.fetch_add(1, SeqCst);
        Guard(&self.busy)
    }

    /// A place for one more connection, if there are fewer than `most`.
    pub(crate) fn admit(self: &Arc<Self>, most: usize) -> Option<Place> {
        let place = Place(Arc::clone(self));
        (self.connections.fetch_add(1, SeqCst) < most).then_some(place)
    }
}

/// See [`State::work`].
pub(crate) struct Guard<'a>(&'a AtomicUsize);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// See [`State::admit`].
pub(crate) struct Place(Arc<State>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let state = Arc::new(State::default());
        let first = state.admit(1);
        assert!(first.is_some());
        assert!(state.admit(1).is_none());
        drop(first);
        assert!(state.admit(1).is_some());
    }

    #[test]
    fn work_under_way_is_seen() {
        let state = State::default();
        let work = state.work();
        assert!(!state.idle());
        drop(work);
        assert!(state.idle());
    }
}
