//! What leads to another node's pods: a route by that node's address, where both share a link.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{Node, NodeFacts};

use crate::base::{SetName, same_family};
use crate::blocks::Blocks;
use crate::{NextHop, Object, Part, Route, own_address};

/// The part for one other node.
pub(crate) fn peer(name: &str, node: &Node, facts: &NodeFacts, blocks: &Blocks<'_>) -> Part {
    let mut part = Part::default();
    for address in &node.addresses {
        part.objects.insert(SetName::Nodes.element(IpNet::from(*address)));
    }
    for net in blocks.of(name) {
        part.objects.insert(SetName::Pods.element(net));
        let route = match next_hop(name, node, facts, net) {
            Ok(to) => Route {
                destination: net,
                to,
                source: own_address(facts, net.addr()),
            },
            Err(reason) => {
                // Refused here rather than sent to the default route, where pods' addresses mean
                // nothing, or something else.
                part.notes
                    .push(format!("{net} is unreachable natively: {reason}"));
                Route {
                    destination: net,
                    to: NextHop::Unreachable,
                    source: None,
                }
            }
        };
        part.objects.insert(Object::Route(route));
    }
    part
}

fn next_hop(name: &str, node: &Node, facts: &NodeFacts, net: IpNet) -> Result<NextHop, String> {
    let uplink = &facts.uplink;
    let family = if net.addr().is_ipv4() { "IPv4" } else { "IPv6" };
    let gateway = same_family(node.addresses.iter().copied(), net.addr())
        .ok_or_else(|| format!("node {name} has no {family} address"))?;
    if shares_link(&uplink.addresses, gateway) {
        return Ok(NextHop::Via {
            gateway,
            link: uplink.name.clone(),
        });
    }
    let own: Vec<String> = uplink
        .addresses
        .iter()
        .filter(|own| own.addr().is_ipv4() == gateway.is_ipv4())
        .map(ToString::to_string)
        .collect();
    let own = if own.is_empty() {
        format!("no {family} address")
    } else {
        own.join(", ")
    };
    Err(format!(
        "node {name} ({gateway}) is not on this node's link {} ({own})",
        uplink.name
    ))
}

fn shares_link(own: &[IpNet], address: IpAddr) -> bool {
    own.iter().any(|net| net.contains(&address))
}
