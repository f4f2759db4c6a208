//! From snapshots to the kernel.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kernel::Applied;
use model::{Node, NodeFacts, Snapshot};
use plan::{NodePlan, PartId, ServiceContext, plan};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::counters::count;
use super::review::Probed;
use super::{DataPlane, Error, Network, blocking};
use crate::backoff::Backoff;
use crate::clock;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(10);

/// How many attempts in a row may fail before the node counts as unready: one failure may be a
/// race with somebody else's change, which the next attempt settles.
const FAILURES_ALLOWED: u32 = 3;

/// What came of a snapshot.
struct Taken {
    /// Whether pods can be attached, or in one sentence why not.
    state: Result<(), String>,
    /// Parts of the plan that the kernel refused.
    failures: Vec<(PartId, kernel::Error)>,
}

impl Taken {
    fn unready(reason: String) -> Taken {
        Taken {
            state: Err(reason),
            failures: Vec::new(),
        }
    }
}

/// Attempts in a row that failed.
#[derive(Debug)]
struct Trouble {
    backoff: Backoff,
    attempts: u32,
    /// What was said about it, so as not to say it again.
    said: String,
}

impl<D: DataPlane> Network<D> {
    /// Applies snapshots as they come, until `shutdown`. What fails is tried again.
    pub async fn follow(
        &self,
        mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        shutdown: CancellationToken,
    ) {
        let mut trouble = Trouble {
            backoff: Backoff::new(RETRY_FIRST, RETRY_LAST),
            attempts: 0,
            said: String::new(),
        };
        let mut probed = Probed::default();
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let listed = self.policies.listed().is_ok();
            let outcome = self.take(snapshot.as_deref()).await;
            let retry = self.judge(outcome, &mut trouble);
            tokio::select! {
                () = shutdown.cancelled() => return,
                // If nobody publishes any more the agent is ending.
                changed = snapshots.changed() => if changed.is_err() { return },
                () = pause(retry) => {}
                () = self.policies.until_listed(), if !listed => {}
                () = self.outdated(snapshot.as_deref(), &mut probed) => {}
            }
        }
    }

    /// Draws readiness from what came of a snapshot, and when to try again.
    fn judge(&self, outcome: Result<Taken, Error>, trouble: &mut Trouble) -> Option<Duration> {
        // The base is what every pod relies on; a peer or a pod that fails is its own trouble.
        let (said, fatal, state) = match outcome {
            Ok(taken) if taken.failures.is_empty() => {
                trouble.attempts = 0;
                trouble.said.clear();
                trouble.backoff.reset();
                self.set_ready(taken.state);
                return None;
            }
            Ok(taken) => {
                let texts: Vec<String> = taken
                    .failures
                    .iter()
                    .map(|(part, error)| format!("{part}: {error}"))
                    .collect();
                let fatal = taken.failures.iter().any(|(part, _)| *part == PartId::Base);
                (texts.join("; "), fatal, taken.state)
            }
            Err(error) => (error.to_string(), true, Ok(())),
        };
        trouble.attempts += 1;
        count(&self.counters.apply_failures, 1);
        let pause = trouble.backoff.next();
        if trouble.said == said {
            debug!(error = said, ?pause, "the kernel still isn't as planned");
        } else {
            warn!(
                error = said,
                ?pause,
                "the kernel isn't as planned; trying until it is"
            );
        }
        if !fatal {
            self.set_ready(state);
        } else if trouble.attempts >= FAILURES_ALLOWED || self.ready.borrow().is_err() {
            self.set_ready(Err(said.clone()));
        }
        trouble.said = said;
        Some(pause)
    }

    /// Applies one snapshot.
    async fn take(&self, snapshot: Option<&Snapshot>) -> Result<Taken, Error> {
        let Some(snapshot) = snapshot else {
            return Ok(Taken::unready(
                "the API hasn't said yet which nodes there are".to_owned(),
            ));
        };
        if let Err(missing) = self.policies.listed() {
            return Ok(Taken::unready(missing.to_string()));
        }
        let facts = match self.facts(snapshot).await? {
            Ok(facts) => facts,
            Err(reason) => return Ok(Taken::unready(reason)),
        };
        let node = &self.settings.node;
        let own = snapshot.nodes.get(node);
        let (plan, applied) = self.write(snapshot, facts).await?;
        let blocks = own_blocks(&plan);
        self.ipam.set_blocks(&blocks);
        let state = if blocks.is_empty() {
            Err(why_no_blocks(node, own, &plan))
        } else {
            Ok(())
        };
        Ok(Taken {
            state,
            failures: applied.failures,
        })
    }

    /// This node's addresses, as configured or as the API has them.
    pub(super) fn own_addresses<'a>(&'a self, snapshot: &'a Snapshot) -> Result<&'a [IpAddr], String> {
        let node = &self.settings.node;
        match snapshot.nodes.get(node) {
            _ if !self.settings.addresses.is_empty() => Ok(&self.settings.addresses),
            Some(own) if !own.addresses.is_empty() => Ok(&own.addresses),
            Some(_) => Err(format!("node {node} has no InternalIP in status.addresses yet")),
            None => Err(not_registered(node)),
        }
    }

    /// Plans and writes, alone.
    async fn write(&self, snapshot: &Snapshot, facts: NodeFacts) -> Result<(NodePlan, Applied), Error> {
        let _alone = self.whole.write().await;
        if self.held().facts.is_none() {
            // Policy before reachability: another version's programs come with empty tables.
            self.write_policies().await?;
        }
        let started = Instant::now();
        let attachments = self.held().attachments.clone();
        let plan = plan(
            &Snapshot {
                attachments,
                ..snapshot.clone()
            },
            &facts,
        );
        let applied = self.kernel.apply(&plan).await?;
        count(&self.counters.applies, 1);
        count(&self.counters.kernel_writes, applied.writes);
        self.tell_context(snapshot, &facts, &applied);
        let is_first = self.held().facts.replace(facts).is_none();
        if is_first || applied.writes > 0 {
            info!(writes = applied.writes, nodes = snapshot.nodes.len(), took = ?started.elapsed(), "the kernel is as planned");
            for (id, part) in &plan.parts {
                part.notes
                    .iter()
                    .for_each(|note| warn!(part = %id, note, "something can't be planned"));
            }
        }
        Ok((plan, applied))
    }

    /// What Services' parts rest on is known once the base is there.
    fn tell_context(&self, snapshot: &Snapshot, facts: &NodeFacts, applied: &Applied) {
        if applied.failures.iter().any(|(part, _)| *part == PartId::Base) {
            return;
        }
        let context = Some(ServiceContext::new(snapshot, facts));
        self.context.send_if_modified(|held| {
            let differs = *held != context;
            if differs {
                *held = context;
            }
            differs
        });
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
            self.held().attachments.remove(&id);
            self.policies.detach(&id);
            released += 1;
        }
        if released > 0 {
            self.policies.wake();
        }
        count(&self.counters.vanished, released);
        Ok(released)
    }
}

/// The blocks that a plan gives to this node: what is left of the Node's own after conflicts with
/// other nodes' are settled.
fn own_blocks(plan: &NodePlan) -> Vec<IpNet> {
    let base = plan.parts.get(&PartId::Base);
    let objects = base.into_iter().flat_map(|part| &part.objects);
    let blocks = objects.filter_map(|object| match object {
        plan::Object::Route(plan::Route {
            destination,
            to: plan::NextHop::Unreachable,
            ..
        }) => Some(*destination),
        _ => None,
    });
    blocks.collect()
}

fn why_no_blocks(node: &str, own: Option<&Node>, plan: &NodePlan) -> String {
    match own {
        None => not_registered(node),
        Some(own) if own.pod_cidrs.is_empty() => {
            format!("node {node} has no spec.podCIDRs yet: waiting for the API to allocate them")
        }
        Some(_) => plan
            .parts
            .get(&PartId::Base)
            .map(|base| base.notes.join("; "))
            .unwrap_or_default(),
    }
}

fn not_registered(node: &str) -> String {
    format!("node {node} isn't registered with the API yet")
}

pub(super) async fn pause(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
