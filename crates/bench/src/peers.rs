//! A node among a thousand: planning and writing what leads to the others, which needn't exist for
//! that.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use ipnet::{IpNet, Ipv4Net};
use kernel::link::VethEnd;
use kernel::{Kernel, NetNs, Netlink};
use model::{Node, NodeFacts, PodNetwork, PodNetworkMode, Snapshot};
use nix::mount::{MntFlags, umount2};
use plan::plan;
use tempfile::TempDir;

use crate::figures::{Figures, Unit};
use crate::wiring::{node, plug, whole};

const COUNT: u16 = 1000;
const OWN: &str = "node-0";

/// Plans and applies a thousand nodes: cold, once more, and with one that changes.
pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    for (mode, how) in [
        (PodNetworkMode::Native, "routes"),
        (PodNetworkMode::Vxlan, "tunnels"),
    ] {
        let mut cluster = Cluster::new(mode).await?;
        let title = |what: &str| format!("{COUNT} nodes, {how}: {what}");
        let mut add = |what: &str, done: &Done| {
            let note = match done.writes {
                0 => "nothing written".to_owned(),
                writes => format!("{writes} writes; planned in {}", Unit::Millis.write(done.planned)),
            };
            figures.add(&title(what), done.total, Unit::Millis, None, note);
        };
        add("planned and written, cold", &cluster.apply().await?);
        cluster.restart()?;
        let again = cluster.apply().await?;
        if again.writes > 0 {
            bail!(
                "an agent that starts again on an unchanged cluster writes {} times",
                again.writes
            );
        }
        add("found in place by a new agent", &again);
        cluster.change();
        add("one of them changes", &cluster.apply().await?);
    }
    Ok(())
}

/// What an apply took, in milliseconds.
struct Done {
    planned: f64,
    total: f64,
    writes: usize,
}

/// A node's view of its cluster, and its kernel.
struct Cluster {
    snapshot: Snapshot,
    facts: NodeFacts,
    netns: Arc<NetNs>,
    kernel: Kernel,
    pins: Pins,
    /// The link's other end.
    _beyond: NetNs,
}

impl Cluster {
    async fn new(mode: PodNetworkMode) -> Result<Self> {
        let (netns, beyond) = (node()?, NetNs::anonymous()?);
        let near = VethEnd {
            name: "port",
            up: true,
            ..VethEnd::default()
        };
        plug(&Netlink::open(&beyond)?, &near, &netns, "eth0", address(0)).await?;
        let nodes = (0..COUNT).map(|number| (format!("node-{number}"), member(number)));
        let snapshot = Snapshot {
            nodes: nodes.collect(),
            pod_network: PodNetwork {
                mode,
                ..PodNetwork::default()
            },
            ..Snapshot::default()
        };
        let facts = kernel::facts::facts(&Netlink::open(&netns)?, OWN, &[address(0).addr()]).await?;
        let pins = Pins(TempDir::new()?);
        let kernel = open(&netns, &pins)?;
        Ok(Self {
            snapshot,
            facts,
            netns,
            kernel,
            pins,
            _beyond: beyond,
        })
    }

    async fn apply(&mut self) -> Result<Done> {
        let millis = |begin: Instant| begin.elapsed().as_secs_f64() * 1e3;
        let begin = Instant::now();
        let plan = plan(&self.snapshot, &self.facts);
        let planned = millis(begin);
        let applied = self.kernel.apply(&plan).await?;
        let total = millis(begin);
        if let Some((part, error)) = applied.failures.first() {
            bail!("{part} couldn't be written: {error}");
        }
        Ok(Done {
            planned,
            total,
            writes: applied.writes,
        })
    }

    /// Another agent, which knows nothing of what is in place.
    fn restart(&mut self) -> Result<()> {
        self.kernel = open(&self.netns, &self.pins)?;
        Ok(())
    }

    /// The last node comes back with another address and other pods.
    fn change(&mut self) {
        let name = format!("node-{}", COUNT - 1);
        self.snapshot.nodes.insert(name, member(COUNT));
    }
}

/// Where the node's BPF programs are kept; gone when dropped.
pub(crate) struct Pins(pub(crate) TempDir);

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

pub(crate) fn open(netns: &NetNs, pins: &Pins) -> Result<Kernel> {
    Ok(Kernel::open(
        netns.run(NetNs::current)??,
        pins.0.path().to_owned(),
    )?)
}

pub(crate) fn member(number: u16) -> Node {
    let [high, low] = number.to_be_bytes();
    Node {
        addresses: vec![address(number).addr()],
        pod_cidrs: vec![whole(Ipv4Addr::new(10, 128 + high, low, 0))],
        ..Node::default()
    }
}

/// Within one /16, so that all share a link.
pub(crate) fn address(number: u16) -> IpNet {
    let [high, low] = (number + 1).to_be_bytes();
    let net = Ipv4Net::new(Ipv4Addr::new(10, 127, high, low), 16);
    IpNet::V4(net.expect("16 is a prefix length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_share_a_link_and_nothing_else() {
        let members: Vec<Node> = (0..=COUNT).map(member).collect();
        let unique = |all: Vec<String>| all.into_iter().collect::<std::collections::BTreeSet<_>>().len();
        let blocks = members.iter().map(|node| node.pod_cidrs[0].to_string()).collect();
        let addresses = members.iter().map(|node| node.addresses[0].to_string()).collect();
        assert_eq!(unique(blocks), members.len());
        assert_eq!(unique(addresses), members.len());
        assert!(members.iter().all(|node| address(0).contains(&node.addresses[0])));
    }
}
