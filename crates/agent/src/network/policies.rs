//! From NetworkPolicies to the kernel.
//!
//! ```text
//! Policies ──something came──► what changes in the tables ──► DataPlane
//! ADD ──────attached─────────►       (first: all of them)
//! ```
//!
//! Whoever writes takes what has changed so far, alone, so changes reach the kernel in their order. At first,
//! and after a failure, the kernel is compared with all that it is to hold.

use std::time::{Duration, Instant};

use model::{Attachment, AttachmentId, PolicyAttachment};
use plan::{PolicyChange, PolicyIndex, PolicyTables};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::counters::count;
use super::{DataPlane, Network};
use crate::backoff::Backoff;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(10);

/// What the kernel was told last.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Whether it holds what the index says, but for what has changed since.
    current: bool,
    /// What was said about a failure, so as not to say it again.
    said: String,
}

/// What to write.
enum Work {
    All(PolicyTables),
    Change(PolicyChange),
}

impl Work {
    fn take(index: &mut PolicyIndex, is_first: bool) -> Work {
        let change = index.take_change();
        if !is_first {
            return Work::Change(change);
        }
        let plan = index.plan();
        plan.notes
            .iter()
            .for_each(|note| warn!(note, "a pod's policies can't be planned"));
        Work::All(plan.tables)
    }
}

impl<D: DataPlane> Network<D> {
    /// Writes policies as they change, until `shutdown`. What fails is tried again.
    pub async fn follow_policies(&self, shutdown: CancellationToken) {
        let mut changes = self.policies.changes();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        loop {
            changes.mark_unchanged();
            let retry = match self.write_policies().await {
                Ok(()) => {
                    backoff.reset();
                    None
                }
                Err(_) => Some(backoff.next()),
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                // If nobody tells any more the agent is ending.
                changed = changes.changed() => if changed.is_err() { return },
                () = super::follow::pause(retry) => {}
            }
        }
    }

    /// Writes what has changed; nothing before everything is known.
    pub(super) async fn write_policies(&self) -> Result<(), kernel::Error> {
        let mut told = self.told.lock().await;
        let is_first = !told.current;
        let work = self.policies.with_index(|index| Work::take(index, is_first));
        self.write_work(&mut told, work).await
    }

    async fn write_work(&self, told: &mut Told, work: Option<Work>) -> Result<(), kernel::Error> {
        let started = Instant::now();
        let is_first = !told.current;
        let written = match work {
            None => return Ok(()),
            Some(Work::Change(change)) if change.is_empty() => return Ok(()),
            Some(Work::Change(change)) => self.kernel.change_policies(&change).await,
            Some(Work::All(tables)) => self.kernel.apply_policies(&tables).await,
        };
        let took = started.elapsed();
        told.current = written.is_ok();
        match written {
            Ok(writes) => {
                count(&self.counters.kernel_writes, writes);
                told.said.clear();
                if is_first {
                    info!(writes, ?took, "the kernel has the policies");
                } else {
                    debug!(writes, ?took, "policies changed");
                }
                Ok(())
            }
            Err(error) => {
                count(&self.counters.policy_failures, 1);
                let said = error.to_string();
                if told.said == said {
                    debug!(%error, "policies still aren't in the kernel");
                } else {
                    warn!(%error, "policies aren't in the kernel; trying until they are");
                    told.said = said;
                }
                Err(error)
            }
        }
    }

    /// The pod's isolation is in force when this returns.
    pub(super) async fn isolate(
        &self,
        id: &AttachmentId,
        attachment: &Attachment,
    ) -> Result<(), kernel::Error> {
        self.policies.attach(id.clone(), of(attachment));
        self.write_policies().await
    }

    /// How what is in force for a pod differs from what is to be, for people. What differs is written
    /// anew soon: a pod isn't to stay open for somebody else's change to the maps.
    pub(super) async fn unenforced(&self, attachment: &Attachment) -> Result<Vec<String>, kernel::Error> {
        let addresses = &attachment.addresses;
        let mut told = self.told.lock().await;
        let is_first = !told.current;
        // Both of one moment: what came since is no fault of the kernel's.
        let taken = self
            .policies
            .with_index(|index| (Work::take(index, is_first), index.plan().tables));
        let (work, wanted) = taken.unzip();
        self.write_work(&mut told, work).await?;
        let held = self.kernel.policies().await?;
        let found = match (held, wanted) {
            (None, _) => vec!["no policies in force".to_owned()],
            (Some(held), Some(wanted)) => held.differ_for(&wanted, addresses),
            // Nobody has told yet what is to hold; what an earlier agent wrote does.
            (Some(held), None) => {
                let missing = addresses
                    .iter()
                    .filter(|address| !held.isolation.contains_key(address));
                missing
                    .map(|address| format!("no isolation of {address}"))
                    .collect()
            }
        };
        if !found.is_empty() {
            told.current = false;
            self.policies.wake();
        }
        Ok(found)
    }

    /// The pod's addresses are no more; if the kernel can't be told now, it is later.
    pub(super) async fn unisolate(&self, id: &AttachmentId) {
        self.policies.detach(id);
        // Said and tried again by whoever follows.
        if self.write_policies().await.is_err() {
            self.policies.wake();
        }
    }
}

/// An attachment as far as policies depend on it.
pub(super) fn of(attachment: &Attachment) -> PolicyAttachment {
    PolicyAttachment {
        pod: attachment.pod.clone(),
        addresses: attachment.addresses.clone(),
    }
}
