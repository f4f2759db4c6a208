//! This node's ends of the tunnels to other nodes, one for each family of the network between them
//! that is used, and whom they take packets from.

use std::net::IpAddr;

use model::Vxlan;
use nft::{Base, Chain, ChainKind, Expr, Field, Hook, Policy, Rule, Verdict, priority};

use crate::base::SetName;
use crate::way::{Underlay, Ways};
use crate::{Object, Part, Sysctl, Tunnel};

/// What IPv6 needs of every link.
const IPV6_MIN_MTU: u32 = 1280;

/// This node's ends.
#[derive(Debug)]
pub(crate) struct Overlay {
    ends: Vec<Tunnel>,
}

impl Overlay {
    /// One for each family that there is a way over.
    pub(crate) fn new(ways: &Ways<'_>) -> Overlay {
        let ends = ways.underlays().into_iter().filter_map(|underlay| {
            // There's a way over this family only if the node has such an address.
            let local = underlay.first(ways.own_addresses())?;
            Some(tunnel(underlay, local, ways))
        });
        Overlay { ends: ends.collect() }
    }

    /// Whether any other node is reached by a tunnel.
    pub(crate) fn is_used(&self) -> bool {
        !self.ends.is_empty()
    }

    /// Adds the ends to the base of the node's plan.
    pub(crate) fn add_to(&self, part: &mut Part, ways: &Ways<'_>) {
        let uplink = &ways.facts.uplink;
        for tunnel in &self.ends {
            if tunnel.mtu < IPV6_MIN_MTU && tunnel.addresses.iter().any(IpAddr::is_ipv6) {
                part.notes.push(format!(
                    "IPv6 between pods needs packets of {IPV6_MIN_MTU} bytes, and a tunnel over {} (MTU {}) carries {}: raise that link's MTU to {}",
                    uplink.name,
                    uplink.mtu,
                    tunnel.mtu,
                    IPV6_MIN_MTU + (uplink.mtu - tunnel.mtu)
                ));
            }
            part.objects.insert(Object::Tunnel(tunnel.clone()));
        }
    }

    /// Takes our tunnels' packets from the cluster's nodes alone: whoever else could send them would be
    /// in the pod network. Pods can't: those that leave under their node's address are stopped before
    /// they have it. Others' tunnels, of another identifier, may share the port.
    pub(crate) fn guard(&self) -> Vec<Chain> {
        let Some(Vxlan { vni, port }) = self.ends.first().map(|end| end.vxlan) else {
            return Vec::new();
        };
        let drop = |lookups: &[Expr], comment: &str| {
            let what = Expr::Vxlan { port, vni };
            let done = [Expr::Counter, Expr::Verdict(Verdict::Drop)];
            Rule {
                exprs: [&[what], lookups, &done].concat(),
                comment: Some(comment.to_owned()),
            }
        };
        let stranger = |v4, source| {
            let ends = SetName::TunnelEnds.of(v4);
            drop(&[Expr::outside(source, ends)], "tunnels from outside the cluster")
        };
        let pod = |v4, source, destination| {
            let own = Expr::within(source, SetName::OwnPods.of(v4));
            let to_node = Expr::within(destination, SetName::TunnelEnds.of(v4));
            drop(&[own, to_node], "tunnels from pods")
        };
        let strangers = vec![
            stranger(true, Field::Ip4Source),
            stranger(false, Field::Ip6Source),
        ];
        let pods = vec![
            pod(true, Field::Ip4Source, Field::Ip4Destination),
            pod(false, Field::Ip6Source, Field::Ip6Destination),
        ];
        vec![
            filter("tunnels", Hook::Input, strangers),
            filter("pod_tunnels", Hook::Forward, pods),
        ]
    }
}

fn filter(name: &str, hook: Hook, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.to_owned(),
        base: Some(Base {
            kind: ChainKind::Filter,
            hook,
            priority: priority::FILTER,
            policy: Policy::Accept,
        }),
        rules,
    }
}

fn tunnel(underlay: Underlay, local: IpAddr, ways: &Ways<'_>) -> Tunnel {
    let name = underlay.link();
    let addresses: Vec<IpAddr> = ways.tunnel_addresses().collect();
    Tunnel {
        name: name.to_owned(),
        mac: model::tunnel_mac(&ways.facts.name),
        mtu: ways.tunnel_mtu(underlay),
        vxlan: ways.snapshot.pod_network.vxlan,
        local,
        sysctls: sysctls(name, ways),
        addresses,
    }
}

/// What comes out of a tunnel has a source that leads back into it, and nothing there is a router.
fn sysctls(name: &str, ways: &Ways<'_>) -> Vec<Sysctl> {
    let own: Vec<_> = ways.blocks_of(&ways.facts.name).collect();
    let ipv6 = |setting: &str| format!("net/ipv6/conf/{name}/{setting}");
    let speaks = if own.iter().any(|block| block.addr().is_ipv6()) {
        Sysctl::new(ipv6("disable_ipv6"), "0")
    } else {
        Sysctl::where_there(ipv6("disable_ipv6"), "1")
    };
    vec![
        Sysctl::new(format!("net/ipv4/conf/{name}/rp_filter"), "1"),
        speaks,
        Sysctl::where_there(ipv6("accept_ra"), "0"),
    ]
}
