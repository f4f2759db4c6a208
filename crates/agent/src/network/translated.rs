//! Connections that are translated on the way, looked at again and again: programs on links see them begin, and what
//! becomes of them only conntrack knows.

use std::time::{Duration, Instant};

use kernel::Error;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{DataPlane, Network};

/// How old a count may be.
const RECOUNT: Duration = Duration::from_secs(2);
/// How long an endpoint that is gone may take to answer, and half of how long its clients are kept from another one.
const ANSWER: Duration = Duration::from_millis(200);
/// Looking at a great many takes its time: no more than this part of one processor.
const SHARE: u32 = 20;

impl<D: DataPlane> Network<D> {
    /// Counts, for the strategy of the fewest, until `shutdown`.
    pub async fn recount_connections(&self, shutdown: CancellationToken) {
        let work = || self.kernel.count_translated();
        again(RECOUNT, "counting connections by Services", work, shutdown).await;
    }

    /// Forgets those that wait for an endpoint which is gone, until `shutdown`.
    pub async fn forget_unanswered(&self, shutdown: CancellationToken) {
        let work = || self.kernel.forget_unanswered();
        again(
            ANSWER,
            "forgetting connections that nobody answers",
            work,
            shutdown,
        )
        .await;
    }
}

/// Does something now and then; what goes wrong is said once.
async fn again<W: Future<Output = Result<usize, Error>>>(
    every: Duration,
    what: &str,
    work: impl Fn() -> W,
    shutdown: CancellationToken,
) {
    let (mut pause, mut said) = (every, String::new());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let began = Instant::now();
        let wrong = match work().await {
            Ok(count) => {
                if count > 0 {
                    debug!(count, what);
                }
                String::new()
            }
            Err(error) => error.to_string(),
        };
        if wrong != said && !wrong.is_empty() {
            warn!("{what}: {wrong}");
        }
        said = wrong;
        pause = every.max(began.elapsed() * SHARE);
    }
}
