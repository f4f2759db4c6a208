//! A pod of this node: a routed veth pair, no bridge.
//!
//! ```text
//!   pod                                  node
//!   eth0  10.244.0.5/32  ── veth ──  rip-…            route 10.244.0.5 dev rip-…
//!   default via 169.254.1.1, fe80::1     (no address)
//! ```
//!
//! Both ends know each other's Ethernet address from the start (permanent neighbours), so neither
//! ever asks: there's no proxy ARP and no neighbour discovery to fail or to be spoofed. Our programs
//! on the node's end let nothing else pass than what is the pod's own to say, and bring what is for
//! another pod of the node straight into it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::{Attachment, AttachmentId, MacAddr, NodeFacts};

use crate::{
    Endpoint, Neighbour, NextHop, Object, Part, PodEnd, Route, Shaper, Sysctl, Veth, host_port, own_address,
};

/// The gateway that a pod sees in IPv4. Nobody has this address; the neighbour entry leads to the node.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The gateway that a pod sees in IPv6.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The Ethernet address of the node's end of every pod's link: each is a network of its own, so one
/// address does for all.
pub const NODE_MAC: MacAddr = MacAddr(bpf_abi::NODE_MAC);

/// The part for one attachment.
pub(crate) fn attachment(id: &AttachmentId, attachment: &Attachment, facts: &NodeFacts) -> Part {
    let mac = MacAddr::local(id.digest());
    let link = &attachment.host_link;
    let mut part = Part {
        title: attachment.pod.to_string(),
        ..Part::default()
    };
    part.objects.insert(Object::Veth(Veth {
        name: link.clone(),
        mac: NODE_MAC,
        mtu: attachment.mtu,
        alias: id.to_string(),
        sysctls: node_sysctls(attachment),
        shaper: attachment
            .limits
            .ingress
            .map(|rate| Shaper::new(rate, attachment.mtu)),
        pod: pod_end(id, attachment, mac),
    }));
    for address in &attachment.addresses {
        part.objects.insert(Object::Endpoint(Endpoint {
            address: *address,
            link: link.clone(),
            mac,
            mtu: attachment.mtu,
            shaped: attachment.limits.shapes_ingress(),
        }));
        part.objects.insert(Object::Neighbour(Neighbour {
            link: link.clone(),
            address: *address,
            mac,
        }));
        part.objects.insert(Object::Route(Route {
            destination: IpNet::from(*address),
            to: NextHop::Link(link.clone()),
            source: own_address(facts, *address),
            mtu: None,
        }));
    }
    host_port::host_ports(&mut part, attachment, facts);
    part
}

fn pod_end(id: &AttachmentId, attachment: &Attachment, mac: MacAddr) -> PodEnd {
    let name = id.interface.clone();
    let mut end = PodEnd {
        netns: attachment.netns.clone(),
        name: name.clone(),
        mac,
        sysctls: pod_sysctls(attachment, &id.interface),
        shaper: attachment
            .limits
            .egress
            .map(|rate| Shaper::new(rate, attachment.mtu)),
        addresses: attachment
            .addresses
            .iter()
            .map(|address| IpNet::from(*address))
            .collect(),
        neighbours: Vec::new(),
        routes: Vec::new(),
    };
    for address in &attachment.addresses {
        let (gateway, everything) = match address {
            IpAddr::V4(_) => (IpAddr::V4(GATEWAY_V4), IpNet::V4(Ipv4Net::default())),
            IpAddr::V6(_) => (IpAddr::V6(GATEWAY_V6), IpNet::V6(Ipv6Net::default())),
        };
        end.neighbours.push(Neighbour {
            link: name.clone(),
            address: gateway,
            mac: NODE_MAC,
        });
        if address.is_ipv4() {
            // IPv4 accepts only gateways that a route says are on the link.
            let to = NextHop::Link(name.clone());
            end.routes.push(Route {
                destination: IpNet::from(gateway),
                to,
                source: None,
                mtu: None,
            });
        }
        let to = NextHop::Via {
            gateway,
            link: name.clone(),
        };
        end.routes.push(Route {
            destination: everything,
            to,
            source: None,
            mtu: None,
        });
    }
    end
}

/// A pod's IPv6 address is usable at once, and no router advertisement changes its addresses and
/// routes. A pod without IPv6 doesn't speak it: its own link-local address would be one that nobody
/// planned.
fn pod_sysctls(attachment: &Attachment, interface: &str) -> Vec<Sysctl> {
    let default = |name: &str| format!("net/ipv6/conf/default/{name}");
    let mut sysctls = if has_ipv6(attachment) {
        vec![
            Sysctl::new(default("disable_ipv6"), "0"),
            Sysctl::new(default("accept_dad"), "0"),
        ]
    } else {
        vec![Sysctl::where_there(default("disable_ipv6"), "1")]
    };
    // The interface has the default's value from birth; one of before this rule has not.
    for key in [
        default("accept_ra"),
        format!("net/ipv6/conf/{interface}/accept_ra"),
    ] {
        sysctls.push(Sysctl::where_there(key, "0"));
    }
    sysctls
}

/// What the node's end takes from a pod: packets under the pod's own address, and nothing that
/// pretends to be a router, which any pod could do where the link speaks IPv6 for no reason.
fn node_sysctls(attachment: &Attachment) -> Vec<Sysctl> {
    let link = &attachment.host_link;
    let ipv6 = |name: &str| format!("net/ipv6/conf/{link}/{name}");
    let speaks = if has_ipv6(attachment) {
        Sysctl::new(ipv6("disable_ipv6"), "0")
    } else {
        Sysctl::where_there(ipv6("disable_ipv6"), "1")
    };
    vec![
        Sysctl::new(format!("net/ipv4/conf/{link}/rp_filter"), "1"),
        speaks,
        Sysctl::where_there(ipv6("accept_ra"), "0"),
    ]
}

fn has_ipv6(attachment: &Attachment) -> bool {
    attachment.addresses.iter().any(IpAddr::is_ipv6)
}
