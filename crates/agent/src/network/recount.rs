//! Connections that are translated on the way, counted for the strategy of the fewest: programs on links see
//! them begin, and what is over only conntrack knows.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{DataPlane, Network};

/// How old a count may be.
const RECOUNT: Duration = Duration::from_secs(2);
/// Counting a great many takes its time: no more than this part of one processor.
const SHARE: u32 = 20;

impl<D: DataPlane> Network<D> {
    /// Counts until `shutdown`.
    pub async fn recount_connections(&self, shutdown: CancellationToken) {
        let (mut pause, mut said) = (RECOUNT, String::new());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let began = Instant::now();
            let wrong = match self.kernel.count_translated().await {
                Ok(endpoints) => {
                    debug!(endpoints, "translated connections are counted");
                    String::new()
                }
                Err(error) => error.to_string(),
            };
            if wrong != said && !wrong.is_empty() {
                warn!("connections by Services aren't counted: {wrong}");
            }
            said = wrong;
            pause = RECOUNT.max(began.elapsed() * SHARE);
        }
    }
}
