//! One lock for each attachment: calls about one container wait for each other, others don't.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

type Locks<K> = Arc<Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>>;

/// Locks by key; a key takes no room while nobody holds or awaits it.
#[derive(Debug)]
pub(super) struct Keyed<K> {
    locks: Locks<K>,
}

/// Holds one key until dropped.
#[derive(Debug)]
pub(super) struct Held<K: Eq + Hash> {
    key: K,
    locks: Locks<K>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<K: Eq + Hash + Clone> Keyed<K> {
    pub(super) fn new() -> Keyed<K> {
        Keyed {
            locks: Arc::default(),
        }
    }

    /// Waits until nobody else holds `key`.
    pub(super) async fn hold(&self, key: &K) -> Held<K> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.entry(key.clone()).or_default().clone()
        };
        let guard = Some(lock.lock_owned().await);
        Held {
            key: key.clone(),
            locks: self.locks.clone(),
            guard,
        }
    }
}

impl<K: Eq + Hash> Drop for Held<K> {
    fn drop(&mut self) {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard = None;
        // Whoever waits has a clone; new ones come only through the map, which is locked.
        if locks
            .get(&self.key)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn the_same_key_waits_and_others_do_not() {
        let keyed = Keyed::new();
        let first = keyed.hold(&"a").await;
        let _other = keyed.hold(&"b").await;
        let second = keyed.hold(&"a");
        tokio::pin!(second);
        assert!(futures::poll!(second.as_mut()).is_pending());
        drop(first);
        drop(second.await);
        assert_eq!(keyed.locks.lock().expect("not poisoned").len(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_at_a_time_under_load_and_nothing_is_left() {
        let keyed = Arc::new(Keyed::new());
        let inside = Arc::new(AtomicUsize::new(0));
        let tasks = (0..50).map(|_| {
            let (keyed, inside) = (keyed.clone(), inside.clone());
            tokio::spawn(async move {
                for _ in 0..20 {
                    let _held = keyed.hold(&1).await;
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no two at once");
        }
        assert!(keyed.locks.lock().expect("not poisoned").is_empty());
    }
}
