//! Tells the kernel for which pods' sockets Services aren't translated.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::PodRef;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::counters::count;
use super::{DataPlane, Network};
use crate::backoff::Backoff;
use crate::opt_out::OptOuts;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(10);

/// What annotations say, and whose turn it is to tell: what is read last is also written last.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    opt_outs: Arc<OptOuts>,
    turn: Mutex<()>,
}

impl<D: DataPlane> Network<D> {
    /// What annotations of pods and Namespaces say of sockets.
    pub fn opt_outs(&self) -> Arc<OptOuts> {
        self.left_out.opt_outs.clone()
    }

    /// Tells the kernel as annotations change, until `shutdown`. What fails is tried again.
    pub async fn follow_opt_outs(&self, shutdown: CancellationToken) {
        let mut changes = self.left_out.opt_outs.changes();
        // The kernel has to be there first.
        let mut contexts = self.context.subscribe();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        loop {
            changes.mark_unchanged();
            let is_there = contexts.borrow_and_update().is_some();
            let mut retry = None;
            if is_there {
                match self.tell_left_out().await {
                    Ok(()) => backoff.reset(),
                    Err(error) => {
                        warn!(%error, "the kernel isn't told which pods see Services' addresses; trying until it is");
                        retry = Some(backoff.next());
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                // If nobody publishes any more the agent is ending.
                changed = changes.changed() => if changed.is_err() { return },
                changed = contexts.changed() => if changed.is_err() { return },
                () = super::follow::pause(retry) => {}
            }
        }
    }

    /// Writes what differs. Until annotations are known everything stays.
    pub(super) async fn tell_left_out(&self) -> Result<(), kernel::Error> {
        let _turn = self.left_out.turn.lock().await;
        let (links, pods): (Vec<String>, Vec<PodRef>) = {
            let held = self.held();
            let attachments = held.attachments.values();
            attachments
                .map(|attachment| (attachment.host_link.clone(), attachment.pod.clone()))
                .unzip()
        };
        let Some(left_out) = self.left_out.opt_outs.left_out(&pods) else {
            return Ok(());
        };
        let links = links.into_iter().zip(left_out);
        let links: BTreeSet<String> = links
            .filter_map(|(link, is_left_out)| is_left_out.then_some(link))
            .collect();
        let writes = self.kernel.set_untranslated(&links).await?;
        if writes > 0 {
            count(&self.counters.kernel_writes, writes);
            info!(
                pods = links.len(),
                "these pods see Services' addresses as they are"
            );
        }
        Ok(())
    }
}
