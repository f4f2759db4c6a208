//! Our nft table's rules, evaluated on a packet.

use std::net::{IpAddr, SocketAddr};

use model::{Packet, Transport};
use nft::{
    Atom, Chain, Elements, Expr, Family, Field, Hook, Nat, Op, Policy, Rule, Table, Tuple, Value, Verdict,
};

use crate::{NodePlan, Object, backends_map, elements};

/// What rules may ask about a packet.
pub(super) struct Context<'a> {
    pub(super) packet: Packet,
    pub(super) iif: Option<&'a str>,
    /// Nothing before routing.
    pub(super) oif: &'a str,
    /// Whether it is for an address of the node's own.
    pub(super) local: bool,
    /// The packet's mark.
    pub(super) mark: u32,
    /// What the mark is translated to.
    pub(super) backend: Option<SocketAddr>,
}

/// What the rules of a hook decide.
pub(super) enum Decision<'a> {
    Pass,
    Drop(String),
    Masquerade(&'a Rule),
    Reject(&'a Rule),
    Translate { nat: Nat, to: Tuple, rule: &'a Rule },
}

/// Where a chain's rules lead.
enum Flow<'a> {
    /// No rule decided.
    Through,
    /// A rule ended the hook.
    Decided(Decision<'a>),
}

/// Evaluates the chains of a hook, in the order of their priorities.
pub(super) fn evaluate<'a>(plan: &'a NodePlan, hook: Hook, context: &Context<'_>) -> Decision<'a> {
    let elements = elements(plan.objects());
    for table in tables(plan) {
        let mut chains: Vec<_> = table
            .chains
            .iter()
            .filter_map(|chain| Some((chain.base?, chain)))
            .filter(|(base, _)| base.hook == hook)
            .collect();
        chains.sort_by_key(|(base, _)| base.priority);
        for (base, chain) in chains {
            let evaluation = Evaluation {
                table,
                elements: &elements,
                context,
            };
            match evaluation.chain(chain) {
                Flow::Decided(Decision::Pass) => {}
                Flow::Decided(decision) => return decision,
                Flow::Through if base.policy == Policy::Drop => {
                    return Decision::Drop(format!("policy of chain {}", chain.name));
                }
                Flow::Through => {}
            }
        }
    }
    Decision::Pass
}

fn tables(plan: &NodePlan) -> impl Iterator<Item = &Table> {
    plan.objects().filter_map(|object| match object {
        Object::Table(table) => Some(table),
        _ => None,
    })
}

struct Evaluation<'a, 'c> {
    table: &'a Table,
    elements: &'c Elements,
    context: &'c Context<'c>,
}

impl<'a> Evaluation<'a, '_> {
    fn chain(&self, chain: &'a Chain) -> Flow<'a> {
        for rule in &chain.rules {
            match self.rule(rule) {
                None => {}
                Some(Verdict::Return) => return Flow::Through,
                Some(Verdict::Accept) => return Flow::Decided(Decision::Pass),
                Some(Verdict::Drop) => return Flow::Decided(Decision::Drop(rule.to_string())),
                Some(Verdict::Jump(name)) => {
                    if let decided @ Flow::Decided(_) = self.named(name) {
                        return decided;
                    }
                }
                Some(Verdict::Goto(name)) => return self.named(name),
            }
            if self.is_rejected(rule) {
                return Flow::Decided(Decision::Reject(rule));
            }
            if let Some(translation) = self.translation(rule) {
                return Flow::Decided(translation);
            }
        }
        Flow::Through
    }

    fn named(&self, name: &str) -> Flow<'a> {
        let chain = self.table.chains.iter().find(|chain| chain.name == name);
        chain.map_or(Flow::Through, |chain| self.chain(chain))
    }

    /// The rule's verdict, if the packet gets that far.
    fn rule<'r>(&self, rule: &'r Rule) -> Option<&'r Verdict> {
        rule.exprs
            .iter()
            .take_while(|expr| self.goes_on(expr))
            .find_map(|expr| match expr {
                Expr::Verdict(verdict) => Some(verdict),
                _ => None,
            })
    }

    fn is_rejected(&self, rule: &Rule) -> bool {
        let mut reached = rule.exprs.iter().take_while(|expr| self.goes_on(expr));
        reached.any(|expr| matches!(expr, Expr::Reject(_)))
    }

    fn translation(&self, rule: &'a Rule) -> Option<Decision<'a>> {
        let mut reached = rule.exprs.iter().take_while(|expr| self.goes_on(expr));
        reached.find_map(|expr| match expr {
            Expr::Masquerade { .. } => Some(Decision::Masquerade(rule)),
            Expr::Translate { nat, .. } => {
                self.leads_to(expr)
                    .map(|to| Decision::Translate { nat: *nat, to, rule })
            }
            _ => None,
        })
    }

    /// What the map of a translation says for this packet.
    fn leads_to(&self, expr: &Expr) -> Option<Tuple> {
        let Expr::Translate { family, key, map, .. } = expr else {
            return None;
        };
        let is_ipv4 = self.context.packet.destination.is_ipv4();
        if (*family == Family::Ip) != is_ipv4 {
            return None;
        }
        let key: Option<Vec<Atom>> = key.iter().map(|field| self.atom(*field)).collect();
        let key = Tuple::new(key?);
        if map == backends_map(is_ipv4) {
            // The ids in it are the kernel's.
            return self
                .context
                .backend
                .filter(|_| key.mark() == Some(super::service::PICKED))
                .map(Tuple::from);
        }
        self.elements.get(map, &key).cloned()
    }

    /// A field as a part of a key.
    fn atom(&self, field: Field) -> Option<Atom> {
        let port = self.context.packet.transport.port();
        match field {
            Field::Protocol => port.map(|(protocol, _)| Atom::Protocol(protocol.number())),
            Field::DestinationPort => port.map(|(_, port)| Atom::Port(port)),
            field => match self.field(field)? {
                Is::Address(address) => Some(Atom::Address(address)),
                Is::Protocol(protocol) => Some(Atom::Protocol(protocol)),
                Is::Mark(mark) => Some(Atom::Mark(mark)),
                Is::Name(_) => None,
            },
        }
    }

    fn goes_on(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Match { field, op, value } => self.compare(*field, *op, |is| match (is, value) {
                (Is::Name(name), Value::Name(wanted)) => name == wanted,
                (Is::Address(address), Value::Address(wanted)) => address == *wanted,
                (Is::Address(address), Value::Net(net)) => net.contains(&address),
                (Is::Protocol(protocol), Value::Protocol(wanted)) => protocol == *wanted,
                (Is::Mark(mark), Value::Mark(wanted)) => mark == *wanted,
                _ => false,
            }),
            Expr::Lookup { field, op, set } => self.compare(*field, *op, |is| match is {
                Is::Address(address) => self.elements.matches(set, address),
                Is::Name(_) | Is::Protocol(_) | Is::Mark(_) => false,
            }),
            Expr::TcpSyn => matches!(self.context.packet.transport, Transport::Tcp(_)),
            // A trace follows the first packet.
            Expr::Established => false,
            Expr::New => true,
            Expr::Local => self.context.local,
            // What a trace sends to that port is our tunnels', or pretends to be.
            Expr::Vxlan { port, .. } => self.context.packet.transport == Transport::Udp(*port),
            Expr::Translate { .. } => true,
            // Marks are for our programs, which decide about later packets.
            Expr::Untranslated | Expr::SetMark(_) | Expr::ClearMark(_) | Expr::Reject(_) => true,
            Expr::ClampMss | Expr::Counter | Expr::Masquerade { .. } | Expr::Verdict(_) => true,
        }
    }

    /// Compares a field. A packet that hasn't the field matches nothing, not even "not equal".
    fn compare(&self, field: Field, op: Op, holds: impl Fn(Is<'_>) -> bool) -> bool {
        self.field(field).is_some_and(|is| holds(is) == (op == Op::Eq))
    }

    fn field(&self, field: Field) -> Option<Is<'_>> {
        let Packet {
            source, destination, ..
        } = self.context.packet;
        let of_family = |address: IpAddr, v4: bool| (address.is_ipv4() == v4).then_some(Is::Address(address));
        match field {
            Field::IifName => Some(Is::Name(self.context.iif.unwrap_or_default())),
            Field::OifName => Some(Is::Name(self.context.oif)),
            Field::Ip4Source => of_family(source, true),
            Field::Ip4Destination => of_family(destination, true),
            Field::Ip6Source => of_family(source, false),
            Field::Ip6Destination => of_family(destination, false),
            Field::Protocol => self
                .context
                .packet
                .transport
                .port()
                .map(|(protocol, _)| Is::Protocol(protocol.number())),
            Field::Mark(bits) => Some(Is::Mark(self.context.mark & bits)),
            // Only keys of maps have it.
            Field::DestinationPort => None,
        }
    }
}

/// What a field is.
enum Is<'a> {
    Name(&'a str),
    Address(IpAddr),
    Protocol(u8),
    Mark(u32),
}
