//! A work queue of keys: each key at most once in line and at most once in work.
//!
//! A key that is added while it is being worked on is worked on again afterwards, so no change is
//! lost; a hundred changes while it waits are one piece of work. Failed keys come back after a
//! delay that doubles with each failure.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::Error;
use crate::informer::Key;

const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What a queue can hold.
pub trait Item: Clone + Eq + Ord + Hash + Display + Send + Sync + 'static {}

impl<T: Clone + Eq + Ord + Hash + Display + Send + Sync + 'static> Item for T {}

/// A controller: something that works on keys from a queue.
pub trait Reconcile: Clone + Send + Sync + 'static {
    /// What logs call it.
    const NAME: &'static str;
    /// How many keys it works on at once.
    const WORKERS: usize;

    /// The queue that its event handlers fill.
    fn queue(&self) -> &Queue<Key>;

    /// Brings one object to where it should be, or one step nearer.
    fn reconcile(&self, key: Key) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Lets a controller work until the end.
pub async fn serve<C: Reconcile>(controller: C, shutdown: CancellationToken) {
    let queue = controller.queue().clone();
    let reconcile = move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    };
    queue.work(C::NAME, C::WORKERS, shutdown, reconcile).await;
}

/// A queue of keys. Clones share the same content.
#[derive(Debug)]
pub struct Queue<T> {
    inner: Arc<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<T> {
    ready: VecDeque<T>,
    /// In `ready`, or due again once the work on it is done.
    dirty: HashSet<T>,
    working: HashSet<T>,
    delayed: BTreeSet<(Instant, T)>,
    due: HashMap<T, Instant>,
    failures: HashMap<T, u32>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T: Item> Default for Queue<T> {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(State {
                    ready: VecDeque::new(),
                    dirty: HashSet::new(),
                    working: HashSet::new(),
                    delayed: BTreeSet::new(),
                    due: HashMap::new(),
                    failures: HashMap::new(),
                }),
                changed: Notify::new(),
            }),
        }
    }
}

impl<T: Item> State<T> {
    fn add(&mut self, item: T) {
        if self.dirty.insert(item.clone()) && !self.working.contains(&item) {
            self.ready.push_back(item);
        }
    }

    fn add_at(&mut self, item: T, at: Instant) {
        match self.due.get(&item) {
            Some(&due) if due <= at => return,
            Some(&due) => {
                self.delayed.remove(&(due, item.clone()));
            }
            None => {}
        }
        self.due.insert(item.clone(), at);
        self.delayed.insert((at, item));
    }

    fn take_due(&mut self, now: Instant) {
        while let Some((at, _)) = self.delayed.first()
            && *at <= now
            && let Some((_, item)) = self.delayed.pop_first()
        {
            self.due.remove(&item);
            self.add(item);
        }
    }

    fn start(&mut self) -> Option<T> {
        let item = self.ready.pop_front()?;
        self.dirty.remove(&item);
        self.working.insert(item.clone());
        Some(item)
    }

    fn finish(&mut self, item: &T) {
        self.working.remove(item);
        if self.dirty.contains(item) {
            self.ready.push_back(item.clone());
        }
    }
}

impl<T: Item> Queue<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        let state = self.inner.state.lock();
        state.expect("no code panics while it holds a queue")
    }

    /// Adds a key, to be worked on soon.
    pub fn add(&self, item: T) {
        self.state().add(item);
        self.inner.changed.notify_one();
    }

    /// Adds a key, to be worked on after a delay (or sooner, if it was so before).
    pub fn add_after(&self, item: T, delay: Duration) {
        self.state().add_at(item, Instant::now() + delay);
        self.inner.changed.notify_one();
    }

    /// Adds a key that failed; the delay doubles with each failure until [`forget`](Self::forget).
    pub fn retry(&self, item: T) {
        let mut state = self.state();
        let failures = state.failures.entry(item.clone()).or_insert(0);
        let delay = FIRST_RETRY
            .saturating_mul(1 << (*failures).min(20))
            .min(LAST_RETRY);
        *failures += 1;
        state.add_at(item, Instant::now() + delay);
        drop(state);
        self.inner.changed.notify_one();
    }

    /// Forgets a key's failures.
    pub fn forget(&self, item: &T) {
        self.state().failures.remove(item);
    }

    async fn next(&self) -> T {
        loop {
            let changed = self.inner.changed.notified();
            let wake = {
                let mut state = self.state();
                state.take_due(Instant::now());
                if let Some(item) = state.start() {
                    if !state.ready.is_empty() {
                        // One notification may stand for many keys: pass it on.
                        self.inner.changed.notify_one();
                    }
                    return item;
                }
                state.delayed.first().map(|(at, _)| *at)
            };
            match wake {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    fn finish(&self, item: &T) {
        self.state().finish(item);
        self.inner.changed.notify_one();
    }

    /// Works on keys, several at once but never twice on the same, until the end.
    pub async fn work<F, Fut>(
        self,
        name: &'static str,
        workers: usize,
        shutdown: CancellationToken,
        reconcile: F,
    ) where
        F: Fn(T) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<(), Error>> + Send,
    {
        let mut running = JoinSet::new();
        for _ in 0..workers {
            let (queue, shutdown, reconcile) = (self.clone(), shutdown.clone(), reconcile.clone());
            running.spawn(async move { queue.work_alone(name, &shutdown, reconcile).await });
        }
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended {
                warn!(controller = name, %error, "a worker ended early");
            }
        }
    }

    async fn work_alone<F, Fut>(&self, name: &str, shutdown: &CancellationToken, reconcile: F)
    where
        F: Fn(T) -> Fut,
        Fut: Future<Output = Result<(), Error>>,
    {
        loop {
            let item = tokio::select! {
                () = shutdown.cancelled() => return,
                item = self.next() => item,
            };
            match reconcile(item.clone()).await {
                Ok(()) => self.forget(&item),
                Err(error) => {
                    if error.is_conflict() || error.is_namespace_terminating() {
                        debug!(controller = name, key = %item, %error, "will try again");
                    } else {
                        warn!(controller = name, key = %item, %error, "will try again");
                    }
                    self.retry(item.clone());
                }
            }
            self.finish(&item);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn queue() -> Queue<String> {
        Queue::default()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_in_line_once() {
        let queue = queue();
        queue.add("a".into());
        queue.add("b".into());
        queue.add("a".into());
        assert_eq!(queue.next().await, "a");
        assert_eq!(queue.next().await, "b");
        assert!(queue.state().ready.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_during_the_work_is_worked_on_afterwards() {
        let queue = queue();
        queue.add("a".into());
        let item = queue.next().await;
        queue.add("a".into());
        assert!(queue.state().ready.is_empty(), "never twice at the same time");
        queue.finish(&item);
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn the_sooner_of_two_delays_counts() {
        let queue = queue();
        let start = Instant::now();
        queue.add_after("a".into(), Duration::from_secs(5));
        queue.add_after("a".into(), Duration::from_secs(1));
        queue.add_after("a".into(), Duration::from_secs(9));
        queue.next().await;
        assert_eq!(start.elapsed().as_secs(), 1);
        assert!(queue.state().delayed.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_are_forgotten() {
        let queue = queue();
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            let start = Instant::now();
            queue.retry("a".into());
            let item = queue.next().await;
            queue.finish(&item);
            assert!(start.elapsed() >= last);
            last = start.elapsed();
        }
        assert!(last >= LAST_RETRY && last < LAST_RETRY * 2);
        queue.forget(&"a".into());
        let start = Instant::now();
        queue.retry("a".into());
        queue.next().await;
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn all_workers_get_something_to_do() {
        let queue = queue();
        let shutdown = CancellationToken::new();
        let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for n in 0..12 {
            queue.add(n.to_string());
        }
        let work = {
            let most = Arc::clone(&most);
            queue.clone().work("test", 4, shutdown.clone(), move |_| {
                let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
                async move {
                    most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    busy.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                }
            })
        };
        let start = Instant::now();
        let stop = async {
            tokio::time::sleep(Duration::from_millis(3500)).await;
            shutdown.cancel();
        };
        tokio::join!(work, stop);
        assert_eq!(most.load(Ordering::SeqCst), 4);
        assert!(start.elapsed() < Duration::from_secs(4));
        assert!(queue.state().ready.is_empty());
    }
}
