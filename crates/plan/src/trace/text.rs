//! Traces for people: one step a line.

use std::fmt;

use nft::Nat;

use model::Direction;

use super::{Denial, Hop, Passed, Question, Spot, Trace, Verdict};

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.packet)?;
        for hop in &self.hops {
            writeln!(f, "  {hop}")?;
        }
        write!(f, "{}", self.verdict)
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spot::Pod { pod, node } => write!(f, "pod {pod} on node {node}"),
            Spot::Node(node) => write!(f, "node {node}"),
            Spot::Outside => f.write_str("outside the cluster"),
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hop::Sent { from } => write!(f, "sent by {from}"),
            Hop::Gateway { pod, route } => write!(f, "pod {pod}: {route}"),
            Hop::Routed { node, route } => write!(f, "node {node}: {route}"),
            Hop::OnLink { node, net, link } => write!(f, "node {node}: {net} is on link {link}"),
            Hop::DefaultRoute { node } => {
                write!(f, "node {node}: no route of ours, so its own default route")
            }
            Hop::Peered { node, link } => {
                write!(f, "node {node}: by the fast path, into the pod behind {link}")
            }
            Hop::Forwarded { node, forward } => write!(f, "node {node}: by the fast path, {forward}"),
            Hop::Tunnelled {
                node,
                link,
                local,
                remote,
            } => write!(
                f,
                "node {node}: through the tunnel {link}, from {local} to {remote}"
            ),
            Hop::Translated { node, nat, to, rule } => match nat {
                Nat::Destination => write!(
                    f,
                    "node {node}: destination becomes {} {}, by: {rule}",
                    to.destination, to.transport
                ),
                Nat::Source => write!(f, "node {node}: source becomes {}, by: {rule}", to.source),
            },
            Hop::Service {
                node,
                service,
                at_socket,
                to,
                strategy,
            } => {
                let place = if *at_socket {
                    "at the socket"
                } else {
                    "on the link"
                };
                write!(
                    f,
                    "node {node}: {place}, Service {service} leads to {to} ({strategy})"
                )
            }
            Hop::Masqueraded { node, from, to, rule } => {
                write!(f, "node {node}: source {from} becomes {to}, by: {rule}")
            }
            Hop::Judged { question, passed } => write!(f, "{question}: {passed}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Delivered { to, source } => write!(f, "delivered to {to}, which sees {source}"),
            Verdict::Answered { node, service } => {
                write!(f, "answered by node {node} for Service {service}")
            }
            Verdict::Left { node, source } => write!(f, "left the cluster by node {node}, as {source}"),
            Verdict::Denied { question, why } => {
                write!(f, "denied on node {}: {question}: {why}", question.node)
            }
            Verdict::Refused { at, reason } => write!(f, "refused at {at}: {reason}"),
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (direction, pod, peer) = (self.direction, &self.pod, self.peer);
        let word = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        write!(f, "{direction} of pod {pod}, {word} {peer}, {}", self.transport)?;
        match self.instead_of {
            Some(other) => write!(f, " (a node has put it in the place of {other})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Passed::Free => f.write_str("no policy isolates it"),
            Passed::Rule(rule) => write!(f, "allowed by {rule}"),
            Passed::OwnNode => f.write_str("allowed, as its own node sends it"),
            Passed::Itself => f.write_str("allowed, as it's the pod itself that sends it"),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policies = match self {
            Denial::Unknown => return f.write_str("the API has no such pod, so nothing is known of it"),
            Denial::Isolated(policies) => policies,
        };
        match policies.as_slice() {
            [policy] => write!(f, "policy {policy} isolates it, and no rule of it allows this"),
            policies => {
                let names: Vec<String> = policies.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "policies {} isolate it, and no rule of theirs allows this",
                    names.join(", ")
                )
            }
        }
    }
}
