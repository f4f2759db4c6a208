//! Through a tunnel: which node a frame comes out at.

use std::net::IpAddr;

use model::{Packet, Transport};
use nft::Hook;

use super::{Hop, Next, Spot, Verdict, Walk, rules};
use crate::{NodePlan, Object, Tunnel};

impl<'a> Walk<'a> {
    /// By a tunnel of the node's, to the end with the address `gateway`.
    pub(super) fn tunnel(
        &mut self,
        plan: &'a NodePlan,
        iif: Option<&str>,
        link: &str,
        gateway: IpAddr,
    ) -> Next<'a> {
        if let Err(verdict) = self.rules_of_leaving(plan, iif, link) {
            return Next::End(verdict);
        }
        self.encapsulate(plan, link, gateway)
    }

    /// Into the tunnel, whatever decided so.
    pub(super) fn encapsulate(&mut self, plan: &'a NodePlan, link: &str, gateway: IpAddr) -> Next<'a> {
        let refused = |reason| {
            Next::End(Verdict::Refused {
                at: Spot::Node(plan.node.clone()),
                reason,
            })
        };
        let Some((own, remote)) = leads_to(plan, link, gateway) else {
            return refused(format!("the tunnel {link} leads to nobody who has {gateway}"));
        };
        self.hops.push(Hop::Tunnelled {
            node: plan.node.clone(),
            link: link.to_owned(),
            local: own.local,
            remote,
        });
        let Some(next) = self.node_with(remote) else {
            return refused(format!(
                "no node has the address {remote}, where the tunnel {link} leads"
            ));
        };
        match ends(next).find(|end| end.local == remote && end.vxlan == own.vxlan) {
            Some(end) => match refused_outside(next, own, remote) {
                Some(verdict) => Next::End(verdict),
                None => Next::Node {
                    plan: next,
                    iif: &end.name,
                },
            },
            None => Next::End(Verdict::Refused {
                at: Spot::Node(next.node.clone()),
                reason: format!("node {} has no tunnel that ends at {remote}", next.node),
            }),
        }
    }
}

/// What the other node's rules say of the packet outside, before anything comes out of it.
fn refused_outside(plan: &NodePlan, own: &Tunnel, remote: IpAddr) -> Option<Verdict> {
    let outside = rules::Context {
        packet: Packet {
            source: own.local,
            destination: remote,
            transport: Transport::Udp(own.vxlan.port),
        },
        iif: Some(&plan.uplink.name),
        oif: "",
        local: true,
        mark: 0,
        backend: None,
    };
    match rules::evaluate(plan, Hook::Input, &outside) {
        rules::Decision::Drop(rule) => Some(super::dropped(plan, &rule)),
        _ => None,
    }
}

/// A node's ends of tunnels.
pub(super) fn ends(plan: &NodePlan) -> impl Iterator<Item = &Tunnel> {
    plan.objects().filter_map(|object| match object {
        Object::Tunnel(tunnel) => Some(tunnel),
        _ => None,
    })
}

/// The node's own end, and the address of the node that the other end is on: as the kernel finds
/// it, by the neighbour's Ethernet address.
fn leads_to<'a>(plan: &'a NodePlan, link: &str, gateway: IpAddr) -> Option<(&'a Tunnel, IpAddr)> {
    let own = ends(plan).find(|end| end.name == link)?;
    let mac = plan.objects().find_map(|object| match object {
        Object::Neighbour(found) if found.link == link && found.address == gateway => Some(found.mac),
        _ => None,
    })?;
    let remote = plan.objects().find_map(|object| match object {
        Object::Fdb(found) if found.link == link && found.mac == mac => Some(found.remote),
        _ => None,
    })?;
    Some((own, remote))
}
