//! Pods that wait for their turn, the most important first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use controllers::informer::Key;
use tokio::sync::Notify;

/// A line of pods: each at most once. Clones share the same content.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By priority, and then who came first.
    waiting: BTreeMap<(Reverse<i32>, u64), Key>,
    places: HashMap<Key, (Reverse<i32>, u64)>,
    came: u64,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.inner.state.lock();
        state.expect("no code panics while it holds the line")
    }

    /// Adds a pod behind those of its priority; who is in the line already keeps the place.
    pub(crate) fn add(&self, key: Key, priority: i32) {
        let mut state = self.state();
        if !state.places.contains_key(&key) {
            state.came += 1;
            let place = (Reverse(priority), state.came);
            state.waiting.insert(place, key.clone());
            state.places.insert(key, place);
            drop(state);
            self.inner.changed.notify_one();
        }
    }

    /// Adds a pod after a while.
    pub(crate) fn add_after(&self, key: Key, priority: i32, delay: Duration) {
        let line = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            line.add(key, priority);
        });
    }

    /// The next pod, as soon as there is one.
    pub(crate) async fn next(&self) -> Key {
        loop {
            // Armed before looking, so that nothing slips in between.
            let changed = self.inner.changed.notified();
            if let Some(key) = self.take() {
                return key;
            }
            changed.await;
        }
    }

    fn take(&self) -> Option<Key> {
        let mut state = self.state();
        let (_, key) = state.waiting.pop_first()?;
        state.places.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("default", name)
    }

    #[tokio::test]
    async fn the_most_important_pod_comes_first_then_who_came_first() {
        let line = Line::default();
        for (name, priority) in [("b", 0), ("a", 0), ("high", 10), ("low", -1), ("b", 0)] {
            line.add(key(name), priority);
        }
        for name in ["high", "b", "a", "low"] {
            assert_eq!(line.next().await, key(name));
        }
        assert_eq!(line.take(), None, "each was there once");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_later_is_waited_for() {
        let line = Line::default();
        line.add_after(key("a"), 0, Duration::from_secs(5));
        assert_eq!(line.take(), None);
        assert_eq!(line.next().await, key("a"));
    }
}
