//! A clock that stands still while this process does.
//!
//! A process that was stopped, or starved, has heard nothing of anybody meanwhile; that is no fault of theirs.
//! The clock ticks often, and between two ticks it never goes on by more than twice the time that there
//! should be between them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

/// How often it ticks.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// The clock. Clones tell the same time.
#[derive(Debug, Clone)]
pub(crate) struct Awake {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    at: Duration,
    ticked: Instant,
}

impl State {
    fn now(&self) -> Duration {
        self.at + self.ticked.elapsed().min(2 * TICK)
    }
}

impl Default for Awake {
    fn default() -> Self {
        let state = State {
            at: Duration::ZERO,
            ticked: Instant::now(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }
}

impl Awake {
    /// For how long the process has been awake since the clock was made.
    pub(crate) fn now(&self) -> Duration {
        self.state
            .lock()
            .expect("no code panics while it reads a clock")
            .now()
    }

    /// Ticks until it is dropped.
    pub(crate) async fn tick(self) {
        loop {
            tokio::time::sleep(TICK).await;
            let mut state = self.state.lock().expect("no code panics while it reads a clock");
            let lost = state.ticked.elapsed().saturating_sub(2 * TICK);
            if lost > 8 * TICK {
                tracing::warn!(
                    ?lost,
                    "this process was held up; nobody is blamed for the silence meanwhile"
                );
            }
            state.at = state.now();
            state.ticked = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_standstill_does_not_count() {
        let clock = Awake::default();
        let ticking = tokio::spawn(clock.clone().tick());
        for _ in 0..40 {
            tokio::time::sleep(TICK).await;
        }
        let before = clock.now();
        assert!(before >= Duration::from_secs(9), "{before:?}");
        // Nothing runs meanwhile, the clock's own ticks neither.
        ticking.abort();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(clock.now() - before <= 3 * TICK, "{:?}", clock.now());
    }
}
