//! A host that plays router: it tells its link to use it, as anybody on a link can.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};

use ipnet::{IpNet, Ipv6Net};
use kernel::{NetNs, Netlink, sysctl};

use crate::icmp6_socket;

/// Where it says that the way out is.
pub const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x66);
/// What it says that addresses begin with, a /64.
pub const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x66, 0, 0, 0, 0, 0);

/// Sends a router advertisement to everybody on a link, from [`ROUTER`].
pub async fn advertise(netns: &NetNs, link: &str) {
    let netlink = Netlink::open(netns).expect("connecting to a namespace of the test's own");
    let index = netlink.link_index(link).await.expect("the link");
    let own = IpNet::from(Ipv6Net::new(ROUTER, 64).expect("64 is a prefix length"));
    // Where nobody planned IPv6 it has to be switched on first.
    let speak = [
        (format!("net/ipv6/conf/{link}/disable_ipv6"), "0"),
        (format!("net/ipv6/conf/{link}/accept_dad"), "0"),
    ];
    sysctl::write_in(netns, &speak).expect("writing sysctls of the test's own namespace");
    netlink.add_address(index, own).await.expect("adding an address");
    netlink
        .wait_address(own.addr())
        .await
        .expect("the address to be in use");
    let all_nodes = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, index);
    netns
        .run(|| {
            // Only what nobody has forwarded counts.
            let socket = icmp6_socket(255).expect("a raw socket");
            socket.send_to(&message(), all_nodes).expect("sending");
        })
        .expect("entering a namespace of the test's own");
}

/// Whether a namespace has believed it.
pub async fn believes(netns: &NetNs) -> bool {
    let netlink = Netlink::open(netns).expect("connecting to a namespace of the test's own");
    let prefix = IpNet::from(Ipv6Net::new(PREFIX, 64).expect("64 is a prefix length"));
    let addresses = netlink.addresses().await.expect("reading addresses");
    let routes = netlink.routes().await.expect("reading routes");
    addresses.iter().any(|address| prefix.contains(&address.address))
        || routes
            .iter()
            .any(|route| route.gateway == Some(IpAddr::V6(ROUTER)))
}

/// That it is the default router, and a prefix to make addresses from (RFC 4861, 4.2 and 4.6.2).
fn message() -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([3, 4, 64, 0xc0]);
    message.extend([0xff; 8]);
    message.extend([0; 4]);
    message.extend(PREFIX.octets());
    message
}
