//! Waiting for conditions.

use std::thread;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
///
/// # Panics
///
/// If it doesn't hold in time.
#[track_caller]
pub fn eventually(timeout: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + timeout;
    while !condition() {
        assert!(
            Instant::now() < end,
            "the condition did not hold within {timeout:?}"
        );
        thread::sleep(PAUSE);
    }
}

/// Waits until `condition` holds, without blocking the runtime.
///
/// # Panics
///
/// If it doesn't hold in time.
pub async fn eventually_async<F: Future<Output = bool>>(timeout: Duration, mut condition: impl FnMut() -> F) {
    let end = Instant::now() + timeout;
    while !condition().await {
        assert!(
            Instant::now() < end,
            "the condition did not hold within {timeout:?}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_the_condition_and_no_longer() {
        let mut left = 3;
        eventually(Duration::from_secs(5), || {
            left -= 1;
            left == 0
        });
        assert_eq!(left, 0);
    }

    #[test]
    #[should_panic(expected = "did not hold")]
    fn gives_up_in_the_end() {
        eventually(Duration::from_millis(20), || false);
    }
}
