//! What no message tells of: the node's own link, and what the paths to other nodes carry. They're
//! looked at now and then, and a difference is planned like any other change.
//!
//! Paths matter where there are tunnels. The kernel learns of a narrow one from routers, by packets
//! that were lost; so that pods needn't lose theirs, probes are sent first.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use model::{NodeFacts, Snapshot};
use tokio::time::Instant;

use super::{DataPlane, Error, Network};

/// How often the kernel is asked.
const REVIEW: Duration = Duration::from_secs(10);
/// How long a router may take to answer a probe.
const ANSWER: Duration = Duration::from_millis(500);
/// How often paths are probed. The kernel forgets what it learnt after ten minutes.
const PROBE: Duration = Duration::from_secs(60);

/// When which paths were probed.
#[derive(Debug, Default)]
pub(super) struct Probed {
    far_ends: BTreeSet<IpAddr>,
    at: Option<Instant>,
}

impl<D: DataPlane> Network<D> {
    /// Ends when the last plan doesn't rest on how things are any more.
    pub(super) async fn outdated(&self, snapshot: Option<&Snapshot>, probed: &mut Probed) {
        loop {
            let pause = if self.probe(snapshot, probed) {
                ANSWER
            } else {
                REVIEW
            };
            tokio::time::sleep(pause).await;
            let held = self.held().facts.clone();
            let (Some(snapshot), Some(held)) = (snapshot, held) else {
                continue;
            };
            // What can't be read now is said by whoever plans next.
            match self.facts(snapshot).await {
                Ok(Ok(facts)) if facts == held => {}
                _ => return,
            }
        }
    }

    /// What the kernel is like, as a plan needs it; in one sentence why that can't be known yet.
    pub(super) async fn facts(&self, snapshot: &Snapshot) -> Result<Result<NodeFacts, String>, Error> {
        let addresses = match self.own_addresses(snapshot) {
            Ok(addresses) => addresses,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut facts = self.kernel.facts(&self.settings.node, addresses).await?;
        let far_ends = plan::far_ends(snapshot, &facts);
        facts.path_mtus = self.kernel.path_mtus(&far_ends).await?;
        Ok(Ok(facts))
    }

    /// Probes the paths if it's time; true if it did.
    fn probe(&self, snapshot: Option<&Snapshot>, probed: &mut Probed) -> bool {
        let held = self.held().facts.clone();
        let (Some(snapshot), Some(facts)) = (snapshot, held) else {
            return false;
        };
        let far_ends = plan::far_ends(snapshot, &facts);
        let is_fresh = probed.at.is_some_and(|at| at.elapsed() < PROBE);
        if far_ends.is_empty() || is_fresh && far_ends == probed.far_ends {
            return false;
        }
        let port = snapshot.pod_network.vxlan.port;
        self.kernel.probe_paths(&far_ends, port, facts.uplink.mtu);
        *probed = Probed {
            far_ends,
            at: Some(Instant::now()),
        };
        true
    }
}
