//! From snapshots to the kernel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{NodeFacts, Snapshot};
use plan::{NodePlan, PartId, plan};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::counters::count;
use super::{DataPlane, Error, Network, blocking, own_blocks};
use crate::backoff::Backoff;
use crate::clock;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(10);

/// How many attempts in a row may fail before the node counts as unready: one failure may be a
/// race with somebody else's change, which the next attempt settles.
const FAILURES_ALLOWED: u32 = 3;

impl<D: DataPlane> Network<D> {
    /// Applies snapshots as they come, until `shutdown`. What fails is tried again.
    pub async fn follow(
        &self,
        mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        shutdown: CancellationToken,
    ) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        let mut failures = 0;
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let retry = match self.take(snapshot.as_deref()).await {
                Ok(state) => {
                    failures = 0;
                    backoff.reset();
                    self.set_ready(state);
                    None
                }
                Err(error) => {
                    failures += 1;
                    count(&self.counters.apply_failures, 1);
                    let pause = backoff.next();
                    warn!(%error, ?pause, "the kernel isn't as planned; trying again");
                    if failures >= FAILURES_ALLOWED || self.ready.borrow().is_err() {
                        self.set_ready(Err(error.to_string()));
                    }
                    Some(pause)
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = snapshots.changed() => if changed.is_err() {
                    // Nobody publishes any more: the agent is ending.
                    return;
                },
                () = pause(retry) => {}
            }
        }
    }

    /// Applies one snapshot. Says whether pods can be attached now, or in one sentence why not.
    async fn take(&self, snapshot: Option<&Snapshot>) -> Result<Result<(), String>, Error> {
        let Some(snapshot) = snapshot else {
            return Ok(Err("the API hasn't said yet which nodes there are".to_owned()));
        };
        let node = &self.settings.node;
        let own = snapshot.nodes.get(node);
        let addresses = match own {
            _ if !self.settings.addresses.is_empty() => self.settings.addresses.as_slice(),
            Some(own) => own.addresses.as_slice(),
            None => &[],
        };
        if addresses.is_empty() {
            return Ok(Err(match own {
                None => format!("node {node} isn't registered with the API yet"),
                Some(_) => format!("node {node} has no InternalIP in status.addresses yet"),
            }));
        }
        let facts = self.kernel.facts(node, addresses).await?;
        let plan = self.write(snapshot, facts).await?;
        let blocks = own_blocks(&plan);
        self.ipam.set_blocks(&blocks);
        if !blocks.is_empty() {
            return Ok(Ok(()));
        }
        Ok(Err(match own {
            None => format!("node {node} isn't registered with the API yet"),
            Some(own) if own.pod_cidrs.is_empty() => {
                format!("node {node} has no spec.podCIDRs yet: waiting for the API to allocate them")
            }
            Some(_) => plan
                .parts
                .get(&PartId::Base)
                .map(|base| base.notes.join("; "))
                .unwrap_or_default(),
        }))
    }

    /// Plans and writes, alone.
    async fn write(&self, snapshot: &Snapshot, facts: NodeFacts) -> Result<NodePlan, Error> {
        let _alone = self.whole.write().await;
        let started = Instant::now();
        let (old, attachments) = {
            let mut held = self.held();
            // Taken, not copied: if this fails or is dropped half way, the kernel is read again.
            (held.plan.take(), held.attachments.clone())
        };
        let wanted = plan(
            &Snapshot {
                attachments,
                ..snapshot.clone()
            },
            &facts,
        );
        let (writes, how) = match &old {
            Some(old) => {
                let changes = NodePlan::diff(old, &wanted);
                (
                    self.kernel.apply(&changes).await?,
                    "difference from the last plan",
                )
            }
            None => (self.kernel.converge(&wanted).await?, "difference from the kernel"),
        };
        count(&self.counters.applies, 1);
        count(&self.counters.kernel_writes, writes);
        let notes = |plan: &NodePlan| {
            plan.parts
                .values()
                .flat_map(|part| part.notes.clone())
                .collect::<Vec<_>>()
        };
        if old.as_ref().map(notes) != Some(notes(&wanted)) {
            notes(&wanted)
                .iter()
                .for_each(|note| warn!(note, "a part of the cluster can't be planned"));
        }
        if writes > 0 || old.is_none() {
            info!(writes, nodes = snapshot.nodes.len(), took = ?started.elapsed(), "applied: {how}");
        }
        let mut held = self.held();
        held.plan = Some(wanted.clone());
        held.facts = Some(facts);
        Ok(wanted)
    }

    /// Releases attachments whose links are gone. Says how many.
    pub(super) async fn release_vanished(&self) -> Result<usize, Error> {
        let _alone = self.whole.write().await;
        let links = self.kernel.pod_links().await?;
        let attachments = self.ipam.attachments();
        let vanished = attachments
            .into_iter()
            .filter(|(_, attachment)| !links.contains(&attachment.host_link));
        let mut released = 0;
        for (id, attachment) in vanished {
            warn!(%id, pod = %attachment.pod, addresses = ?attachment.addresses, "released: the pod's link is gone");
            let (ipam, released_id) = (self.ipam.clone(), id.clone());
            blocking(move || ipam.release(&released_id, clock::since_boot())).await??;
            let mut held = self.held();
            held.attachments.remove(&id);
            if let Some(plan) = &mut held.plan {
                plan.parts.remove(&PartId::Attachment(id));
            }
            released += 1;
        }
        count(&self.counters.vanished, released);
        Ok(released)
    }
}

async fn pause(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
