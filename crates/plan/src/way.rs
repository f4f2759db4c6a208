//! The way to another node's pods: over the link that both nodes share, or through a tunnel.
//!
//! ```text
//!   native   pod ─ node a ══ eth0 ═══════════════ node b ─ pod     the packet as it is
//!   tunnel   pod ─ node a ─ rip-vxlan4 ╌╌╌╌╌╌╌╌╌╌ node b ─ pod     what the pod sent,
//!                           └═ eth0 ══ router ═══┘                 in UDP between the nodes
//! ```
//!
//! Each node decides by itself, so the decision rests on what both ends know alike: the nodes'
//! addresses and the setting. The ends of tunnels need no agreement either. Their Ethernet addresses
//! and their addresses inside are made of the nodes' names and blocks.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use model::{MacAddr, Node, NodeFacts, PodNetwork, PodNetworkMode, Snapshot, tunnel_mac};

use crate::base::same_family;
use crate::blocks::Blocks;
use crate::{NextHop, own_address};

/// A family of the network between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Underlay {
    V4,
    V6,
}

impl Underlay {
    const ALL: [Underlay; 2] = [Underlay::V4, Underlay::V6];

    /// The name of a node's tunnel over this family.
    pub(crate) const fn link(self) -> &'static str {
        match self {
            Underlay::V4 => "rip-vxlan4",
            Underlay::V6 => "rip-vxlan6",
        }
    }

    /// What a tunnel adds to a packet: IP, UDP, VXLAN and Ethernet headers.
    const fn overhead(self) -> u32 {
        match self {
            Underlay::V4 => 20 + 8 + 8 + 14,
            Underlay::V6 => 40 + 8 + 8 + 14,
        }
    }

    /// The first of the addresses that is of this family.
    pub(crate) fn first(self, addresses: impl IntoIterator<Item = IpAddr>) -> Option<IpAddr> {
        addresses
            .into_iter()
            .find(|address| address.is_ipv4() == (self == Underlay::V4))
    }
}

/// How a packet gets to another node's pods.
#[derive(Debug)]
pub(crate) struct Way {
    /// The next hop, with the link that leads there.
    pub(crate) to: NextHop,
    /// The source of what the node itself sends.
    pub(crate) source: Option<IpAddr>,
    /// Largest packet that gets there whole.
    pub(crate) mtu: u32,
    /// Largest packet of the link.
    pub(crate) link_mtu: u32,
    /// The other end, if it's a tunnel.
    pub(crate) far_end: Option<FarEnd>,
}

/// The other end of a tunnel.
#[derive(Debug)]
pub(crate) struct FarEnd {
    /// Name of this node's end.
    pub(crate) link: String,
    /// Its address for routes.
    pub(crate) gateway: IpAddr,
    /// Its Ethernet address.
    pub(crate) mac: MacAddr,
    /// The other node's own address.
    pub(crate) remote: IpAddr,
    /// The family of that.
    underlay: Underlay,
}

/// The ways from one node to the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ways<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) facts: &'a NodeFacts,
    pub(crate) blocks: &'a Blocks<'a>,
}

impl Ways<'_> {
    /// The blocks of one node's pods.
    pub(crate) fn blocks_of(&self, node: &str) -> impl Iterator<Item = IpNet> {
        self.blocks.of(node)
    }

    /// The way to a block of another node's pods; in one sentence why there is none.
    pub(crate) fn to(&self, name: &str, node: &Node, block: IpNet) -> Result<Way, String> {
        match self.snapshot.pod_network.mode {
            PodNetworkMode::Native => self.native(name, node, block).map_err(|reason| {
                format!("{reason}, and a native pod network has no tunnels: set it to auto")
            }),
            PodNetworkMode::Vxlan => self.tunnel(name, node, block),
            PodNetworkMode::Auto => self.native(name, node, block).or_else(|native| {
                self.tunnel(name, node, block)
                    .map_err(|reason| format!("{native}; {reason}"))
            }),
        }
    }

    /// Whether this node and the one with that address send each other pods' packets as they are.
    pub(crate) fn is_direct(&self, address: IpAddr) -> bool {
        self.snapshot.pod_network.mode != PodNetworkMode::Vxlan && self.shares_link(address)
    }

    /// The families of the underlay that there are tunnels over.
    pub(crate) fn underlays(&self) -> BTreeSet<Underlay> {
        self.far_ends().map(|end| end.underlay).collect()
    }

    /// Where tunnels end, for every block.
    pub(crate) fn far_ends(&self) -> impl Iterator<Item = FarEnd> {
        let others = self.snapshot.nodes.iter();
        let others = others.filter(|(name, _)| **name != self.facts.name);
        others.flat_map(move |(name, node)| {
            let blocks = self.blocks_of(name);
            blocks.filter_map(move |block| self.to(name, node, block).ok()?.far_end)
        })
    }

    /// Largest packet in tunnels over that family.
    pub(crate) fn tunnel_mtu(&self, underlay: Underlay) -> u32 {
        self.facts.uplink.mtu.saturating_sub(underlay.overhead())
    }

    /// This node's addresses in tunnels: the first of its blocks' that no pod gets, one a family.
    /// What the node sends from there is answered through the tunnel; its address outside would be
    /// answered by ways that know nothing of pods.
    pub(crate) fn tunnel_addresses(&self) -> impl Iterator<Item = IpAddr> {
        Underlay::ALL.into_iter().filter_map(|family| {
            let networks = self.blocks_of(&self.facts.name).filter(has_spare_address);
            family.first(networks.map(|block| block.network()))
        })
    }

    /// The node's own addresses on its uplink that the others know: what comes from elsewhere isn't taken.
    pub(crate) fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let known = self.snapshot.nodes.get(&self.facts.name);
        let on_uplink = self.facts.uplink.addresses.iter().map(IpNet::addr);
        on_uplink.filter(move |address| known.is_some_and(|node| node.addresses.contains(address)))
    }

    fn native(&self, name: &str, node: &Node, block: IpNet) -> Result<Way, String> {
        let uplink = &self.facts.uplink;
        let family = family_of(block.addr());
        let gateway = same_family(node.addresses.iter().copied(), block.addr())
            .ok_or_else(|| format!("node {name} has no {family} address"))?;
        if !self.shares_link(gateway) {
            return Err(format!(
                "node {name} ({gateway}) is not on this node's link {} ({})",
                uplink.name,
                self.own_nets(gateway)
            ));
        }
        Ok(Way {
            to: NextHop::Via {
                gateway,
                link: uplink.name.clone(),
            },
            source: own_address(self.facts, block.addr()),
            mtu: uplink.mtu,
            link_mtu: uplink.mtu,
            far_end: None,
        })
    }

    fn tunnel(&self, name: &str, node: &Node, block: IpNet) -> Result<Way, String> {
        // IPv4 before IPv6, for both ends alike: it takes less of each packet.
        let (underlay, remote) = Underlay::ALL
            .into_iter()
            .filter(|family| family.first(self.own_addresses()).is_some())
            .find_map(|family| Some((family, family.first(node.addresses.iter().copied())?)))
            .ok_or_else(|| format!("node {name} has no address of a family that this node has one of, so there's no tunnel to it"))?;
        let link_mtu = self.tunnel_mtu(underlay);
        let path = self.facts.path_mtus.get(&remote).copied();
        let mtu = path.map_or(link_mtu, |path| {
            link_mtu.min(path.saturating_sub(underlay.overhead()))
        });
        let mac = tunnel_mac(name);
        let gateway = self.gateway(name, mac, block);
        let link = underlay.link().to_owned();
        Ok(Way {
            to: NextHop::OnLink {
                gateway,
                link: link.clone(),
            },
            source: same_family(self.tunnel_addresses(), block.addr())
                .or_else(|| own_address(self.facts, block.addr())),
            mtu,
            link_mtu,
            far_end: Some(FarEnd {
                link,
                gateway,
                mac,
                remote,
                underlay,
            }),
        })
    }

    /// The other end's address for routes. In IPv4 it's that of its first block, which nobody else
    /// has; in IPv6 its link-local one, which the kernel takes for a gateway whatever other routes
    /// there are.
    fn gateway(&self, name: &str, mac: MacAddr, block: IpNet) -> IpAddr {
        let first = self.blocks_of(name).find(|first| first.addr().is_ipv4());
        match first.filter(|_| block.addr().is_ipv4()) {
            Some(first) => first.network(),
            None => link_local(mac).into(),
        }
    }

    fn shares_link(&self, address: IpAddr) -> bool {
        self.facts
            .uplink
            .addresses
            .iter()
            .any(|net| net.contains(&address))
    }

    /// The node's own addresses of a family, for people.
    fn own_nets(&self, like: IpAddr) -> String {
        let own: Vec<String> = self
            .facts
            .uplink
            .addresses
            .iter()
            .filter(|own| own.addr().is_ipv4() == like.is_ipv4())
            .map(ToString::to_string)
            .collect();
        if own.is_empty() {
            format!("no {} address", family_of(like))
        } else {
            own.join(", ")
        }
    }
}

/// The largest packet of a node's pods. Where every packet to another node is in a tunnel it's what
/// fits one. Otherwise it's what the link takes: on ways through tunnels the node says what fits,
/// to TCP as the connection begins, and nobody else pays for them.
pub fn pod_mtu(pod_network: PodNetwork, facts: &NodeFacts) -> u32 {
    let uplink = &facts.uplink;
    let addresses = uplink.addresses.iter().map(IpNet::addr);
    let overhead = match (pod_network.mode, Underlay::V4.first(addresses)) {
        (PodNetworkMode::Auto | PodNetworkMode::Native, _) => 0,
        (PodNetworkMode::Vxlan, Some(_)) => Underlay::V4.overhead(),
        (PodNetworkMode::Vxlan, None) => Underlay::V6.overhead(),
    };
    uplink.mtu.saturating_sub(overhead)
}

/// Whether the block has an address that no pod gets: its network's own.
fn has_spare_address(block: &IpNet) -> bool {
    block.max_prefix_len() - block.prefix_len() > 1
}

/// The link-local address that an interface with that Ethernet address would give itself.
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let pair = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        pair(a ^ 2, b),
        pair(c, 0xff),
        pair(0xfe, d),
        pair(e, f),
    )
}

const fn family_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
