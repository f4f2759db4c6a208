//! Past a node's network stack, as the programs on its links take what begins a conversation.
//!
//! UDP's first packet, what is for a shaped pod, and everything that isn't between pods goes by the stack; see
//! `docs/datapath.md`.

use std::net::IpAddr;

use model::Transport;

use super::{Hop, Next, Verdict, Walk, spot_of};
use crate::{Endpoint, Forward, NodePlan, Object, Part};

impl<'a> Walk<'a> {
    /// What the programs on the link `iif` do with the packet; none if they leave it to the stack.
    pub(super) fn shortcut(&mut self, plan: &'a NodePlan, iif: &str) -> Option<Next<'a>> {
        let begins = matches!(self.packet.transport, Transport::Icmp | Transport::Tcp(_));
        if !begins {
            return None;
        }
        match self.endpoint(plan, self.packet.source) {
            Some((_, own)) if own.link == iif => self.leave_by_program(plan, own),
            Some(_) => None,
            None => self.arrive_by_program(plan, iif),
        }
    }

    fn leave_by_program(&mut self, plan: &'a NodePlan, own: &Endpoint) -> Option<Next<'a>> {
        if let Some((part, to)) = self.endpoint(plan, self.packet.destination) {
            let direct = to.link != own.link && !to.shaped;
            return direct.then(
                || match self.egress(plan, self.packet.destination, self.packet.transport) {
                    Ok(()) => self.peered(plan, part, to),
                    Err(verdict) => Next::End(verdict),
                },
            );
        }
        let forward = forward(plan, self.packet.destination)?;
        let is_connection = matches!(self.packet.transport, Transport::Tcp(_));
        // The stack lowers the segment size in what begins a connection.
        if is_connection && forward.mtu < own.mtu {
            return None;
        }
        if let Err(verdict) = self.egress(plan, self.packet.destination, self.packet.transport) {
            return Some(Next::End(verdict));
        }
        self.hops.push(Hop::Forwarded {
            node: plan.node.clone(),
            forward: forward.clone(),
        });
        Some(self.forwarded(plan, forward))
    }

    fn arrive_by_program(&mut self, plan: &'a NodePlan, iif: &str) -> Option<Next<'a>> {
        let programmed = plan
            .objects()
            .any(|object| matches!(object, Object::Wire(link) if link == iif));
        let from = forward(plan, self.packet.source)?;
        let (part, to) = self.endpoint(plan, self.packet.destination)?;
        let direct = programmed && from.link == iif && !to.shaped;
        direct.then(|| self.peered(plan, part, to))
    }

    fn peered(&mut self, plan: &'a NodePlan, part: &Part, to: &Endpoint) -> Next<'a> {
        // It never comes by the pod's own link: that is no shortcut.
        if let Err(verdict) = self.ingress(plan, part, Some("")) {
            return Next::End(verdict);
        }
        self.hops.push(Hop::Peered {
            node: plan.node.clone(),
            link: to.link.clone(),
        });
        Next::End(Verdict::Delivered {
            to: spot_of(plan, part),
            source: self.packet.source,
        })
    }

    fn forwarded(&mut self, plan: &'a NodePlan, forward: &Forward) -> Next<'a> {
        if super::tunnel::ends(plan).any(|end| end.name == forward.link) {
            self.encapsulate(plan, &forward.link, forward.gateway)
        } else {
            self.hand_over(plan, forward.gateway)
        }
    }

    /// The pod of this node that has the address, as the programs know it.
    pub(super) fn endpoint(&self, plan: &'a NodePlan, address: IpAddr) -> Option<(&'a Part, &'a Endpoint)> {
        plan.parts.values().find_map(|part| {
            part.objects.iter().find_map(|object| match object {
                Object::Endpoint(endpoint) if endpoint.address == address => Some((part, endpoint)),
                _ => None,
            })
        })
    }
}

/// The most specific way to another node's pods.
pub(super) fn forward(plan: &NodePlan, address: IpAddr) -> Option<&Forward> {
    let forwards = plan.objects().filter_map(|object| match object {
        Object::Forward(forward) if forward.destination.contains(&address) => Some(forward),
        _ => None,
    });
    forwards.max_by_key(|forward| forward.destination.prefix_len())
}
