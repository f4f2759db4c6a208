//! To a Service: at the socket, or on the link where the socket's programs didn't see it.

use std::net::{IpAddr, SocketAddr};

use bpf_abi::service::mark;
use model::{Packet, Protocol, ServiceName, Transport};
use nft::Nat;

use super::{Hop, Spot, Verdict, Walk, addresses};
use crate::{Endpoint, Frontend, NodePlan, Object, Scope, ServicePort, any_address};

/// In a trace's marks, that a backend was picked: which one is told beside it, as ids are the kernel's.
pub(super) const PICKED: u32 = 1;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Pod,
    Cluster,
    Outside,
}

/// A port that the packet is for.
struct Found<'a> {
    port: &'a ServicePort,
    frontend: &'a Frontend,
}

impl<'a> Walk<'a> {
    /// What the programs on sockets do where the packet starts.
    pub(super) fn at_socket(&mut self, plan: &'a NodePlan, spot: &Spot) -> Result<(), Verdict> {
        let is_there = plan.objects().any(|object| matches!(object, Object::Sockets(_)));
        // Other protocols, and pings, they don't see.
        if !is_there || !matches!(self.packet.transport, Transport::Tcp(_) | Transport::Udp(_)) {
            return Ok(());
        }
        let Some(found) = find(plan, &self.packet) else {
            if matches!(spot, Spot::Node(_)) {
                self.at_loopback(plan);
            }
            return Ok(());
        };
        let to = found.pick(self.packet.source, From::Pod);
        let to = to.map_err(|why| why.verdict(spot.clone()))?;
        self.arrive(plan, &found, to, true);
        self.packet.destination = to.ip();
        self.packet.transport = self.packet.transport.to_port(to.port());
        Ok(())
    }

    /// A port of the node's loopback, for a socket of its own.
    fn at_loopback(&mut self, plan: &NodePlan) {
        let (destination, port) = (self.packet.destination, self.packet.transport.port());
        let found = plan.objects().find_map(|object| match object {
            Object::LoopbackPort(own)
                if own.address == destination && port == Some((own.protocol, own.port)) =>
            {
                Some(own)
            }
            _ => None,
        });
        if let Some(found) = found {
            self.packet.destination = found.to.ip();
            self.packet.transport = self.packet.transport.to_port(found.to.port());
            self.hops.push(Hop::Translated {
                node: plan.node.clone(),
                nat: Nat::Destination,
                to: self.packet,
                rule: format!("{found}, at the socket"),
            });
        }
    }

    /// What the programs on the link `iif` do, if the packet is for a Service.
    pub(super) fn on_link(&mut self, plan: &'a NodePlan, iif: &str) -> Result<(), Verdict> {
        self.mark = 0;
        self.backend = None;
        let at = Spot::Node(plan.node.clone());
        if let Some(answered) = self.ping(plan) {
            return Err(answered);
        }
        let sends = self.is_from_pod(plan, iif);
        let (destination, transport) = (self.packet.destination, self.packet.transport);
        let Some(found) = find(plan, &self.packet) else {
            return if sends {
                self.egress(plan, destination, transport)
            } else {
                Ok(())
            };
        };
        let from = self.asks(plan, iif);
        match found.pick(self.packet.source, from) {
            Ok(to) => {
                self.arrive(plan, &found, to, false);
                if sends {
                    self.egress(plan, to.ip(), transport.to_port(to.port()))?;
                }
                self.backend = Some(to);
                self.mark = mark::SERVICE | PICKED;
                if found.masquerades(self.packet.source, to, from) {
                    self.mark |= mark::MASQUERADE;
                }
                Ok(())
            }
            // Netfilter tells the sender.
            Err(Why::Nobody(_)) => {
                self.mark = mark::SERVICE;
                if sends {
                    self.egress(plan, destination, transport)
                } else {
                    Ok(())
                }
            }
            Err(why) => Err(why.verdict(at)),
        }
    }

    fn arrive(&mut self, plan: &NodePlan, found: &Found<'_>, to: SocketAddr, at_socket: bool) {
        self.hops.push(Hop::Service {
            node: plan.node.clone(),
            service: found.port.id.service.clone(),
            at_socket,
            to,
            strategy: found.port.strategy,
        });
    }

    fn asks(&self, plan: &NodePlan, iif: &str) -> From {
        let source = self.packet.source;
        let is_pod = |object: &Object| matches!(object, Object::Endpoint(Endpoint { address, link, .. }) if *address == source && link == iif);
        if plan.objects().any(is_pod) {
            return From::Pod;
        }
        let elsewhere = super::shortcut::forward(plan, source).is_some() || self.node_with(source).is_some();
        if elsewhere { From::Cluster } else { From::Outside }
    }

    fn ping(&self, plan: &NodePlan) -> Option<Verdict> {
        if self.packet.transport != Transport::Icmp {
            return None;
        }
        plan.objects().find_map(|object| match object {
            Object::ServiceAddress(own) if own.address == self.packet.destination => Some(if own.served {
                Verdict::Answered {
                    node: plan.node.clone(),
                    service: own.service.clone(),
                }
            } else {
                Why::Nobody(own.service.clone()).verdict(Spot::Node(plan.node.clone()))
            }),
            _ => None,
        })
    }
}

/// Why there is no backend.
enum Why {
    Nobody(ServiceName),
    NotHere(ServiceName),
    Barred(ServiceName),
}

impl Why {
    fn verdict(self, at: Spot) -> Verdict {
        let reason = match self {
            Why::Nobody(service) => format!("Service {service} has no endpoints that serve it"),
            Why::NotHere(service) => format!(
                "Service {service} has no endpoint on this node, and its externalTrafficPolicy is Local"
            ),
            Why::Barred(service) => {
                format!("the source is in none of the loadBalancerSourceRanges of Service {service}")
            }
        };
        Verdict::Refused { at, reason }
    }
}

impl Found<'_> {
    /// The first of the backends that may be picked: one does for all in a trace.
    fn pick(&self, source: IpAddr, from: From) -> Result<SocketAddr, Why> {
        let service = || self.port.id.service.clone();
        let within = self.port.ranges.iter().any(|net| net.contains(&source));
        if self.frontend.restricted && !within {
            return Err(Why::Barred(service()));
        }
        let from_outside = match from {
            From::Pod => false,
            // Whoever comes from elsewhere has chosen this node.
            From::Cluster => self.frontend.address.is_unspecified(),
            From::Outside => true,
        };
        let scope = if from_outside {
            self.frontend.outside
        } else {
            self.frontend.inside
        };
        let set = self.port.set(scope);
        let first = set.and_then(|set| set.slots().next().map(|backend| backend.socket));
        first.ok_or_else(|| {
            if from_outside && self.frontend.silent {
                Why::NotHere(service())
            } else {
                Why::Nobody(service())
            }
        })
    }

    fn masquerades(&self, source: IpAddr, to: SocketAddr, from: From) -> bool {
        let scopes = [Scope::Cluster, Scope::Local];
        let sets = scopes.into_iter().filter_map(|scope| self.port.set(scope));
        let mut backends = sets.flat_map(|set| &set.backends);
        let is_local = backends.any(|backend| backend.socket == to && backend.local);
        match from {
            From::Pod => to.ip() == source,
            From::Cluster => !is_local,
            From::Outside => !is_local && !self.frontend.keeps_source,
        }
    }
}

/// The port that a packet is for, as the node knows it.
fn find<'a>(plan: &'a NodePlan, packet: &Packet) -> Option<Found<'a>> {
    let (protocol, number): (Protocol, u16) = packet.transport.port()?;
    let is_own = addresses(plan).any(|own| own == packet.destination);
    let address = if is_own {
        any_address(packet.destination.is_ipv4())
    } else {
        packet.destination
    };
    plan.objects().find_map(|object| {
        let Object::Service(port) = object else {
            return None;
        };
        let mut frontends = port.frontends.iter().filter(|_| port.id.protocol == protocol);
        let frontend = frontends.find(|one| one.address == address && one.port == number)?;
        Some(Found { port, frontend })
    })
}
