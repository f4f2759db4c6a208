//! Where a packet would go, by the plans alone: no kernel is asked.
//!
//! ```text
//!   pod ─► its gateway ─► node: route, rules ─► another node: route ─► pod
//!                                    └─► outside, masqueraded
//! ```
//!
//! The tracer reads what the plans tell the kernels, routes and rules, never the cluster's objects:
//! a mistake of the planner shows as a wrong trace. What a plan doesn't hold, a node's own default
//! route for one, is named as such.

mod policy;
mod rules;
mod service;
mod shortcut;
mod text;
mod tunnel;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use model::{Packet, ServiceName, Strategy};
use nft::{Hook, Nat, Tuple};

use crate::base::same_family;
pub use policy::{Denial, Passed, Question};

use crate::policy::PolicyPlan;
use crate::{Forward, NextHop, NodePlan, Object, Part, PartId, Route, Veth};

/// A packet's way, step by step, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The packet as it was sent.
    pub packet: Packet,
    /// The steps, in order.
    pub hops: Vec<Hop>,
    /// How it ends.
    pub verdict: Verdict,
}

/// A place that sends or receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spot {
    /// A pod.
    Pod {
        /// Its namespace and name.
        pod: String,
        /// Its node.
        node: String,
    },
    /// A node itself, or a pod on its network.
    Node(String),
    /// Neither.
    Outside,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hop {
    /// The packet starts here.
    Sent {
        /// Where.
        from: Spot,
    },
    /// A pod hands it to its node.
    Gateway {
        /// The pod.
        pod: String,
        /// By this route of the pod's.
        route: Route,
    },
    /// A route of a node's plan is followed.
    Routed {
        /// The node.
        node: String,
        /// The route.
        route: Route,
    },
    /// The destination is on a link of the node's.
    OnLink {
        /// The node.
        node: String,
        /// The block that says so.
        net: IpNet,
        /// The link.
        link: String,
    },
    /// No route of ours matches; the node's own default route decides.
    DefaultRoute {
        /// The node.
        node: String,
    },
    /// A program brings it straight into a pod of the node, past the node's network stack.
    Peered {
        /// The node.
        node: String,
        /// The node's end of that pod's link.
        link: String,
    },
    /// A program sends it to another node, past the network stack of its own.
    Forwarded {
        /// The node that sends it.
        node: String,
        /// The way.
        forward: Forward,
    },
    /// The packet goes to another node inside a tunnel.
    Tunnelled {
        /// The node that sends it.
        node: String,
        /// By this end of its own.
        link: String,
        /// The source of the packet outside.
        local: IpAddr,
        /// Its destination.
        remote: IpAddr,
    },
    /// The packet is for somebody else from here on, or from somebody else.
    Translated {
        /// The node that does it.
        node: String,
        /// Which of its addresses.
        nat: Nat,
        /// The packet after.
        to: Packet,
        /// The rule that says so.
        rule: String,
    },
    /// The packet is for a Service, and a backend is picked.
    Service {
        /// The node that does it.
        node: String,
        /// The Service.
        service: ServiceName,
        /// Whether the packet has the backend's address from the start; on a link netfilter translates.
        at_socket: bool,
        /// The backend: in a trace the first of them.
        to: SocketAddr,
        /// How one of them is picked.
        strategy: Strategy,
    },
    /// The packet takes another source address.
    Masqueraded {
        /// The node that does it.
        node: String,
        /// The address before.
        from: IpAddr,
        /// The address after.
        to: IpAddr,
        /// The rule that says so.
        rule: String,
    },
    /// Policies are asked, and let it pass.
    Judged {
        /// What they are asked.
        question: Question,
        /// Why they do.
        passed: Passed,
    },
}

/// How a packet's way ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives.
    Delivered {
        /// Where.
        to: Spot,
        /// The source address that the receiver sees.
        source: IpAddr,
    },
    /// A node answers for a Service.
    Answered {
        /// The node.
        node: String,
        /// The Service.
        service: ServiceName,
    },
    /// It leaves the cluster.
    Left {
        /// By this node.
        node: String,
        /// With this source address.
        source: IpAddr,
    },
    /// Policies don't let it pass.
    Denied {
        /// What they were asked.
        question: Box<Question>,
        /// Why they don't.
        why: Denial,
    },
    /// It's refused or dropped.
    Refused {
        /// Where.
        at: Spot,
        /// Why.
        reason: String,
    },
}

/// More nodes than any packet crosses: reached only if plans lead it in a circle.
const MOST_NODES: usize = 8;

/// Walks a packet through the plans of all nodes, by name.
pub fn trace(plans: &BTreeMap<String, NodePlan>, packet: &Packet) -> Trace {
    trace_with_policies(plans, &BTreeMap::new(), packet)
}

/// The same, with the policies of those nodes that are asked for any, by name. On other nodes none are
/// in force.
pub fn trace_with_policies(
    plans: &BTreeMap<String, NodePlan>,
    policies: &BTreeMap<String, PolicyPlan>,
    packet: &Packet,
) -> Trace {
    let mut walk = Walk {
        plans,
        policies,
        sent: *packet,
        packet: *packet,
        mark: 0,
        backend: None,
        hops: Vec::new(),
    };
    let verdict = walk.start();
    Trace {
        packet: *packet,
        hops: walk.hops,
        verdict,
    }
}

struct Walk<'a> {
    plans: &'a BTreeMap<String, NodePlan>,
    policies: &'a BTreeMap<String, PolicyPlan>,
    /// The packet as it was sent.
    sent: Packet,
    /// The packet as it is now.
    packet: Packet,
    /// Its mark on the node where it is, and the backend that it stands for.
    mark: u32,
    backend: Option<SocketAddr>,
    hops: Vec<Hop>,
}

/// What a node does with a packet next.
enum Next<'a> {
    Node { plan: &'a NodePlan, iif: &'a str },
    End(Verdict),
}

/// What matches best on a node.
enum Match<'a> {
    Planned(&'a PartId, &'a Part, &'a Route),
    OnLink(IpNet),
    Default,
}

impl<'a> Walk<'a> {
    fn start(&mut self) -> Verdict {
        let source = self.packet.source;
        if let Some((plan, part, veth)) = self.pod_with(source) {
            self.hops.push(Hop::Sent {
                from: spot_of(plan, part),
            });
            return self.leave_pod(plan, part, veth);
        }
        if let Some(plan) = self.node_with(source) {
            let spot = Spot::Node(plan.node.clone());
            self.hops.push(Hop::Sent { from: spot.clone() });
            if let Err(verdict) = self.at_socket(plan, &spot) {
                return verdict;
            }
            return self.across(plan, None);
        }
        self.hops.push(Hop::Sent { from: Spot::Outside });
        self.enter()
    }

    fn leave_pod(&mut self, plan: &'a NodePlan, part: &'a Part, veth: &'a Veth) -> Verdict {
        let spot = spot_of(plan, part);
        if let Err(verdict) = self.at_socket(plan, &spot) {
            return verdict;
        }
        let destination = self.packet.destination;
        if veth.pod.addresses.iter().any(|own| own.addr() == destination) {
            return Verdict::Delivered {
                to: spot,
                source: self.packet.source,
            };
        }
        let routes = veth
            .pod
            .routes
            .iter()
            .filter(|route| route.destination.contains(&destination));
        let Some(route) = routes.max_by_key(|route| route.destination.prefix_len()) else {
            let family = if destination.is_ipv4() { "IPv4" } else { "IPv6" };
            return Verdict::Refused {
                at: spot,
                reason: format!("the pod has no {family} address and no route to {destination}"),
            };
        };
        self.hops.push(Hop::Gateway {
            pod: part.title.clone(),
            route: route.clone(),
        });
        self.across(plan, Some(&veth.name))
    }

    /// From outside it enters at the node that the destination belongs to, if anything leads there.
    fn enter(&mut self) -> Verdict {
        let destination = self.packet.destination;
        let entry = self
            .node_with(destination)
            .or_else(|| self.node_with_block(destination))
            .or_else(|| self.node_with_service(destination));
        match entry {
            Some(plan) => self.across(plan, Some(&plan.uplink.name)),
            None => Verdict::Refused {
                at: Spot::Outside,
                reason: format!(
                    "neither {} nor {destination} belongs to the cluster",
                    self.packet.source
                ),
            },
        }
    }

    /// From node to node until it ends. `iif` is the link by which it came to the first one.
    fn across(&mut self, plan: &'a NodePlan, iif: Option<&str>) -> Verdict {
        let (mut plan, mut iif) = (plan, iif);
        for _ in 0..MOST_NODES {
            match self.through(plan, iif) {
                Next::End(verdict) => return verdict,
                Next::Node { plan: next, iif: by } => (plan, iif) = (next, Some(by)),
            }
        }
        Verdict::Refused {
            at: Spot::Node(plan.node.clone()),
            reason: "the routes lead in a circle".to_owned(),
        }
    }

    fn through(&mut self, plan: &'a NodePlan, iif: Option<&str>) -> Next<'a> {
        if let Some(next) = iif.and_then(|link| self.shortcut(plan, link)) {
            return next;
        }
        if let Some(Err(verdict)) = iif.map(|link| self.on_link(plan, link)) {
            return Next::End(verdict);
        }
        let hook = if iif.is_some() {
            Hook::Prerouting
        } else {
            Hook::Output
        };
        if let Err(verdict) = self.rules(plan, hook, iif, "") {
            return Next::End(verdict);
        }
        let destination = self.packet.destination;
        if addresses(plan).any(|own| own == destination) || on_loopback(plan, destination) {
            if let Err(verdict) = self.rules(plan, Hook::Input, iif, "") {
                return Next::End(verdict);
            }
            let to = Spot::Node(plan.node.clone());
            return Next::End(Verdict::Delivered {
                to,
                source: self.packet.source,
            });
        }
        let node = plan.node.clone();
        match best(plan, destination) {
            Match::Planned(id, part, route) => {
                self.hops.push(Hop::Routed {
                    node,
                    route: route.clone(),
                });
                self.planned(plan, id, part, route, iif)
            }
            Match::OnLink(net) => {
                let link = plan.uplink.name.clone();
                self.hops.push(Hop::OnLink { node, net, link });
                self.leave(plan, iif, destination)
            }
            Match::Default => {
                self.hops.push(Hop::DefaultRoute { node });
                self.leave(plan, iif, destination)
            }
        }
    }

    fn planned(
        &mut self,
        plan: &'a NodePlan,
        id: &PartId,
        part: &'a Part,
        route: &Route,
        iif: Option<&str>,
    ) -> Next<'a> {
        match &route.to {
            NextHop::Unreachable => Next::End(Verdict::Refused {
                at: Spot::Node(plan.node.clone()),
                reason: why_unreachable(id, part, self.packet.destination),
            }),
            NextHop::Link(link) => match self.rules_of_leaving(plan, iif, link) {
                Err(verdict) => Next::End(verdict),
                Ok(()) => Next::End(self.deliver(plan, part, iif)),
            },
            NextHop::Via { gateway, .. } => self.leave(plan, iif, *gateway),
            NextHop::OnLink { gateway, link } => self.tunnel(plan, iif, link, *gateway),
        }
    }

    /// By the uplink, to whoever has the address `next`.
    fn leave(&mut self, plan: &'a NodePlan, iif: Option<&str>, next: IpAddr) -> Next<'a> {
        if let Err(verdict) = self.rules_of_leaving(plan, iif, &plan.uplink.name) {
            return Next::End(verdict);
        }
        self.hand_over(plan, next)
    }

    /// To whoever has the address `next`, on the uplink.
    fn hand_over(&mut self, plan: &'a NodePlan, next: IpAddr) -> Next<'a> {
        match self.node_with(next) {
            Some(plan) => Next::Node {
                plan,
                iif: &plan.uplink.name,
            },
            None => Next::End(Verdict::Left {
                node: plan.node.clone(),
                source: self.packet.source,
            }),
        }
    }

    /// Our rules for what leaves by a link: of what came by one, those for what passes through first.
    fn rules_of_leaving(&mut self, plan: &NodePlan, iif: Option<&str>, oif: &str) -> Result<(), Verdict> {
        if iif.is_some() {
            self.rules(plan, Hook::Forward, iif, oif)?;
        }
        self.rules(plan, Hook::Postrouting, iif, oif)
    }

    /// Our rules of a hook.
    fn rules(&mut self, plan: &NodePlan, hook: Hook, iif: Option<&str>, oif: &str) -> Result<(), Verdict> {
        let context = rules::Context {
            packet: self.packet,
            iif,
            oif,
            local: addresses(plan).any(|own| own == self.packet.destination),
            mark: self.mark,
            backend: self.backend,
        };
        match rules::evaluate(plan, hook, &context) {
            rules::Decision::Pass => Ok(()),
            rules::Decision::Translate { nat, to, rule } => {
                self.translate(plan, nat, &to, rule);
                Ok(())
            }
            rules::Decision::Drop(rule) => Err(dropped(plan, &rule)),
            rules::Decision::Reject(rule) => Err(Verdict::Refused {
                at: Spot::Node(plan.node.clone()),
                reason: format!("refused by the rule: {rule}"),
            }),
            rules::Decision::Masquerade(rule) => {
                let from = self.packet.source;
                let Some(to) = same_family(addresses(plan), from) else {
                    let reason = format!(
                        "it should be masqueraded and the node has no address of the family of {from}"
                    );
                    return Err(Verdict::Refused {
                        at: Spot::Node(plan.node.clone()),
                        reason,
                    });
                };
                self.packet.source = to;
                self.hops.push(Hop::Masqueraded {
                    node: plan.node.clone(),
                    from,
                    to,
                    rule: rule.to_string(),
                });
                Ok(())
            }
        }
    }

    fn translate(&mut self, plan: &NodePlan, nat: Nat, to: &Tuple, rule: &nft::Rule) {
        let packet = &mut self.packet;
        match nat {
            Nat::Destination => {
                packet.destination = to.address().unwrap_or(packet.destination);
                packet.transport = to
                    .port()
                    .map_or(packet.transport, |port| packet.transport.to_port(port));
            }
            // A trace has no source ports.
            Nat::Source => packet.source = to.address().unwrap_or(packet.source),
        }
        self.hops.push(Hop::Translated {
            node: plan.node.clone(),
            nat,
            to: self.packet,
            rule: rule.to_string(),
        });
    }

    fn pod_with(&self, address: IpAddr) -> Option<(&'a NodePlan, &'a Part, &'a Veth)> {
        self.plans.values().find_map(|plan| {
            plan.parts.values().find_map(|part| {
                let veth = part.objects.iter().find_map(|object| match object {
                    Object::Veth(veth) => Some(veth),
                    _ => None,
                })?;
                veth.pod
                    .addresses
                    .iter()
                    .any(|own| own.addr() == address)
                    .then_some((plan, part, veth))
            })
        })
    }

    fn node_with(&self, address: IpAddr) -> Option<&'a NodePlan> {
        self.plans
            .values()
            .find(|plan| addresses(plan).any(|own| own == address))
    }

    /// A node that a Service's address is brought to: whichever, as all know it. One with an endpoint
    /// of its own rather than another, as announcers have it.
    fn node_with_service(&self, address: IpAddr) -> Option<&'a NodePlan> {
        let serves = |plan: &NodePlan, has: fn(&crate::BackendSet) -> bool| {
            plan.objects().any(|object| {
                let Object::Service(port) = object else {
                    return false;
                };
                let frontend = port.frontends.iter().find(|one| one.address == address);
                frontend.is_some_and(|one| port.set(one.outside).is_some_and(has))
            })
        };
        let mut plans = self.plans.values();
        let best = plans.find(|plan| serves(plan, |set| !set.backends.is_empty()));
        best.or_else(|| self.plans.values().find(|plan| serves(plan, |_| true)))
    }

    /// The node whose own pods' block has the address.
    fn node_with_block(&self, address: IpAddr) -> Option<&'a NodePlan> {
        self.plans.values().find(|plan| {
            let base = plan.parts.get(&PartId::Base);
            base.is_some_and(|base| routes(base).any(|route| route.destination.contains(&address)))
        })
    }
}

fn dropped(plan: &NodePlan, rule: &str) -> Verdict {
    Verdict::Refused {
        at: Spot::Node(plan.node.clone()),
        reason: format!("dropped by the rule: {rule}"),
    }
}

fn routes(part: &Part) -> impl Iterator<Item = &Route> {
    part.objects.iter().filter_map(|object| match object {
        Object::Route(route) => Some(route),
        _ => None,
    })
}

/// Whether each node has this address for itself.
fn on_loopback(plan: &NodePlan, address: IpAddr) -> bool {
    plan.objects()
        .any(|object| matches!(object, Object::Address(own) if *own == address))
}

/// The node's own addresses, that of its uplink first.
fn addresses(plan: &NodePlan) -> impl Iterator<Item = IpAddr> {
    let uplink = plan.uplink.addresses.iter().map(|net| net.addr());
    let inside = tunnel::ends(plan).flat_map(|end| end.addresses.iter().copied());
    uplink.chain(plan.addresses.iter().copied()).chain(inside)
}

/// The most specific match for a destination.
fn best(plan: &NodePlan, destination: IpAddr) -> Match<'_> {
    let planned = plan
        .parts
        .iter()
        .flat_map(|(id, part)| routes(part).map(move |route| (id, part, route)));
    let planned = planned
        .filter(|(_, _, route)| route.destination.contains(&destination))
        .max_by_key(|(_, _, route)| route.destination.prefix_len());
    let on_link = plan
        .uplink
        .addresses
        .iter()
        .filter(|net| net.contains(&destination))
        .max_by_key(|net| net.prefix_len());
    match (planned, on_link) {
        (Some((_, _, route)), Some(net)) if net.prefix_len() > route.destination.prefix_len() => {
            Match::OnLink(net.trunc())
        }
        (Some((id, part, route)), _) => Match::Planned(id, part, route),
        (None, Some(net)) => Match::OnLink(net.trunc()),
        (None, None) => Match::Default,
    }
}

fn spot_of(plan: &NodePlan, part: &Part) -> Spot {
    Spot::Pod {
        pod: part.title.clone(),
        node: plan.node.clone(),
    }
}

fn why_unreachable(id: &PartId, part: &Part, destination: IpAddr) -> String {
    match id {
        PartId::Peer(_) if !part.notes.is_empty() => part.notes.join("; "),
        _ => format!("no pod has the address {destination}"),
    }
}
