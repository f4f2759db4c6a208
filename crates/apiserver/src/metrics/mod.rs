//! `/metrics`: what the server has done and does, in Prometheus' text format, under kube-apiserver's names where
//! they mean the same.
//!
//! ```text
//! request ─► Started ─┬─ short: counts as running until it is answered, and its time is taken
//!                     └─ long (watches, logs, streams, proxies): Held by its body or tunnel until that ends
//! ```

mod about;
mod held;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

pub(crate) use about::About;
pub(crate) use held::{Held, held};
pub(crate) use text::answer;

use crate::reply::{Request, Response};

/// Upper bounds of durations, in seconds: kube-apiserver's.
const BOUNDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

/// What is counted.
#[derive(Default)]
pub(crate) struct Metrics {
    series: Mutex<BTreeMap<About, Series>>,
    reading: AtomicUsize,
    writing: AtomicUsize,
    failed_handshakes: AtomicU64,
}

/// What is known of the requests that are about the same.
#[derive(Default)]
struct Series {
    codes: BTreeMap<u16, u64>,
    durations: Durations,
    /// How many long ones go on.
    long: u64,
}

/// How long requests took.
#[derive(Default)]
struct Durations {
    /// How many were within each bound, and not within the one before.
    within: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

impl Durations {
    fn add(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(bound) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.within[bound] += 1;
        }
        self.count += 1;
        self.seconds += seconds;
    }
}

impl Metrics {
    /// A request that begins now.
    pub(crate) fn start(self: &Arc<Self>, about: About, request: &mut Request) -> Started {
        let long = about.is_long();
        let held = long.then(|| Held::new(self.clone(), about.clone()));
        if let Some(held) = &held {
            request.extensions_mut().insert(held.clone());
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let running = (!long).then(|| Running::new(self.clone(), reads));
        Started {
            metrics: self.clone(),
            about,
            began: Instant::now(),
            held,
            running,
        }
    }

    /// A client couldn't shake hands.
    pub(crate) fn handshake_failed(&self) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<About, Series>> {
        // Numbers are whole at every point where a panic could leave them.
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self, reads: bool) -> &AtomicUsize {
        if reads { &self.reading } else { &self.writing }
    }
}

/// A request that isn't answered yet.
pub(crate) struct Started {
    metrics: Arc<Metrics>,
    about: About,
    began: Instant,
    held: Option<Held>,
    running: Option<Running>,
}

impl Started {
    /// Counts the answer. What goes on is counted as such until it ends.
    pub(crate) fn answered(self, response: Response) -> Response {
        let code = response.status();
        {
            let mut all = self.metrics.lock();
            let series = all.entry(self.about).or_default();
            *series.codes.entry(code.as_u16()).or_default() += 1;
            if self.running.is_some() {
                series.durations.add(self.began.elapsed());
            }
        }
        match self.held {
            // The tunnel has its own hold.
            Some(held) if code != StatusCode::SWITCHING_PROTOCOLS => held.by(response),
            _ => response,
        }
    }
}

/// A short request that is being answered.
struct Running {
    metrics: Arc<Metrics>,
    reads: bool,
}

impl Running {
    fn new(metrics: Arc<Metrics>, reads: bool) -> Running {
        metrics.running(reads).fetch_add(1, Ordering::Relaxed);
        Running { metrics, reads }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.metrics.running(self.reads).fetch_sub(1, Ordering::Relaxed);
    }
}
