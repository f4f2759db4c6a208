//! Nodes on one link: a switch namespace with a bridge, and node namespaces plugged into it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kernel::link::VethEnd;
use kernel::sysctl;

use crate::TestNs;

/// The node network of [`Lan`]: `172.30.0.0/24` and `fd00:172:30::/64`.
const V6_NET: [u16; 4] = [0xfd00, 0x172, 0x30, 0];

/// A switch and the nodes plugged into it.
#[derive(Debug)]
pub struct Lan {
    /// The switch's namespace; its bridge `br0` has the addresses ending in `.1`, as the outside
    /// world.
    pub switch: TestNs,
    /// The nodes, in order; the first has the addresses ending in `.11`.
    pub nodes: Vec<LanNode>,
}

/// A node of a [`Lan`]: a namespace with `eth0`, no default route, forwarding untouched.
#[derive(Debug)]
pub struct LanNode {
    /// Its namespace.
    pub netns: TestNs,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

impl LanNode {
    /// Both addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

impl Lan {
    /// Makes a switch with `count` nodes.
    pub async fn new(count: u8) -> Lan {
        let switch = TestNs::new("switch").await;
        sysctl::write_in(&switch, &QUIET).expect("writing the switch's sysctls");
        let netlink = switch.netlink();
        netlink.add_bridge("br0").await.expect("making the bridge");
        let bridge = netlink
            .link_index("br0")
            .await
            .expect("the bridge that was just made");
        for address in addresses(1) {
            netlink
                .add_address(bridge, address)
                .await
                .expect("giving the bridge its address");
        }
        let mut nodes = Vec::new();
        for number in 0..count {
            nodes.push(plug(&switch, bridge, number).await);
        }
        if count > 0 {
            netlink
                .wait_running("br0")
                .await
                .expect("a bridge with ports to run");
        }
        Lan { switch, nodes }
    }
}

async fn plug(switch: &TestNs, bridge: u32, number: u8) -> LanNode {
    let netns = TestNs::new("node").await;
    sysctl::write_in(&netns, &QUIET).expect("writing the node's sysctls");
    let port = format!("port{number}");
    let near = VethEnd {
        name: &port,
        master: Some(bridge),
        up: true,
        ..VethEnd::default()
    };
    let far = VethEnd {
        name: "eth0",
        netns: Some(&netns),
        ..VethEnd::default()
    };
    switch
        .netlink()
        .add_veth(&near, &far)
        .await
        .expect("plugging a node into the switch");
    let netlink = netns.netlink();
    netlink.set_up("eth0").await.expect("setting a node's link up");
    for (netlink, link) in [(&netlink, "eth0"), (&switch.netlink(), &port)] {
        netlink
            .wait_running(link)
            .await
            .expect("the link of a node to run");
    }
    let link = netlink
        .link_index("eth0")
        .await
        .expect("the link that was just made");
    let host = 11 + u16::from(number);
    for address in addresses(host) {
        netlink
            .add_address(link, address)
            .await
            .expect("giving a node its address");
        netlink
            .wait_address(address.addr())
            .await
            .expect("a node's address to be in use");
    }
    let [IpAddr::V4(v4), IpAddr::V6(v6)] = addresses(host).map(|net| net.addr()) else {
        unreachable!("addresses() yields IPv4 first")
    };
    LanNode { netns, v4, v6 }
}

/// No waiting for duplicate detection; bridged frames don't meet iptables.
const QUIET: [(&str, &str); 3] = [
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
];

fn addresses(host: u16) -> [IpNet; 2] {
    let [_, low] = host.to_be_bytes();
    let [a, b, c, d] = V6_NET;
    // Written alike for people: 172.30.0.11 and fd00:172:30::11.
    let v6 = u16::from_str_radix(&host.to_string(), 16).expect("decimal digits are hexadecimal digits");
    [
        IpNet::new(Ipv4Addr::new(172, 30, 0, low).into(), 24).expect("24 is a prefix length"),
        IpNet::new(Ipv6Addr::new(a, b, c, d, 0, 0, 0, v6).into(), 64).expect("64 is a prefix length"),
    ]
}
