//! Nodes on links: a switch namespace with a bridge for each link, and node namespaces plugged into
//! them. Between links the switch is the router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kernel::link::{LinkChange, VethEnd};
use kernel::route::Route;
use kernel::{Netlink, sysctl};
use model::MacAddr;

use crate::TestNs;

/// A switch and the nodes plugged into it.
#[derive(Debug)]
pub struct Lan {
    /// The switch's namespace; its bridges `br0`, `br1` … have the addresses ending in `.1`, as the
    /// outside world and, where there are several, as the nodes' routers.
    pub switch: TestNs,
    /// The nodes, in order; the first has the addresses ending in `.11`.
    pub nodes: Vec<LanNode>,
    routed: bool,
}

/// A node of a [`Lan`]: a namespace with `eth0`, forwarding untouched; without a default route
/// unless there's a router.
#[derive(Debug)]
pub struct LanNode {
    /// Its namespace.
    pub netns: TestNs,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// The number of its link.
    pub subnet: u8,
}

impl LanNode {
    /// Both addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

impl Lan {
    /// Makes a switch with `count` nodes on one link, `172.30.0.0/24` and `fd00:172:30::/64`.
    pub async fn new(count: u8) -> Lan {
        Lan::build(&[count], false).await
    }

    /// Makes several links, with as many nodes on each as `counts` says, and a router between
    /// them: `172.30.0.0/24` and `fd00:172:30::/64`, `172.30.1.0/24` and `fd00:172:30:1::/64` …
    pub async fn routed(counts: &[u8]) -> Lan {
        Lan::build(counts, true).await
    }

    async fn build(counts: &[u8], routed: bool) -> Lan {
        let switch = TestNs::new("switch").await;
        sysctl::write_in(&switch, &QUIET).expect("writing the switch's sysctls");
        let mut lan = Lan {
            switch,
            nodes: Vec::new(),
            routed,
        };
        if routed {
            sysctl::write_in(&lan.switch, &FORWARD).expect("making the switch a router");
        }
        let netlink = lan.switch.netlink();
        for (subnet, count) in (0_u8..).zip(counts) {
            let name = bridge(subnet);
            netlink.add_bridge(&name).await.expect("making a bridge");
            let index = index(&netlink, &name).await;
            // Or it takes that of a port, another one whenever a node comes or goes, and nodes go on
            // sending to the one that they know.
            let own = LinkChange {
                address: Some(MacAddr::local(subnet.into())),
                ..LinkChange::default()
            };
            netlink
                .set_link(index, &own)
                .await
                .expect("giving a bridge an Ethernet address of its own");
            for address in addresses(subnet, 1) {
                netlink
                    .add_address(index, address)
                    .await
                    .expect("giving a bridge its address");
            }
            for _ in 0..*count {
                let node = lan.plug(lan.nodes.len(), subnet).await;
                lan.nodes.push(node);
            }
            if *count > 0 {
                lan.settle(subnet).await;
            }
        }
        lan
    }

    /// Plugs a node into another link, where it has other addresses.
    pub async fn move_to(&mut self, number: usize, subnet: u8) {
        let switch = self.switch.netlink();
        let change = LinkChange {
            master: Some(index(&switch, &bridge(subnet)).await),
            ..LinkChange::default()
        };
        let plug = index(&switch, &port(number)).await;
        switch
            .set_link(plug, &change)
            .await
            .expect("plugging a node into another link");
        self.settle(subnet).await;
        let node = &self.nodes[number];
        let netlink = node.netns.netlink();
        let link = index(&netlink, "eth0").await;
        for address in addresses(node.subnet, host(number)) {
            netlink
                .delete_address(link, address)
                .await
                .expect("taking a node's address");
        }
        let (v4, v6) = self.settle_in(&netlink, number, subnet).await;
        let node = &mut self.nodes[number];
        (node.subnet, node.v4, node.v6) = (subnet, v4, v6);
    }

    /// How large packets may be that the router sends into a link; the link's nodes go on sending
    /// each other what their own links take.
    pub async fn set_way_mtu(&self, subnet: u8, mtu: u32) {
        let netlink = self.switch.netlink();
        set_mtu(&netlink, &bridge(subnet), mtu).await;
    }

    /// Keeps netfilter from frames on the switch's bridges, which tells senders of IPv6 packets that are
    /// too big for a port: what is too big is lost without a word then, as on any switch.
    pub fn silence(&self) {
        let keys = ["iptables", "ip6tables"].map(|tables| format!("net/bridge/bridge-nf-call-{tables}"));
        let silenced = self.switch.within(|| -> kernel::Result<()> {
            for key in &keys {
                // There are none without that kernel module.
                if sysctl::read(key)?.is_some() {
                    sysctl::write(key, "0")?;
                }
            }
            Ok(())
        });
        silenced.expect("writing the switch's sysctls");
    }

    /// The name of the switch's port that a node is plugged into.
    pub fn port(&self, number: usize) -> String {
        port(number)
    }

    /// How large packets may be on a node's link.
    pub async fn set_link_mtu(&self, number: usize, mtu: u32) {
        set_mtu(&self.switch.netlink(), &port(number), mtu).await;
        set_mtu(&self.nodes[number].netns.netlink(), "eth0", mtu).await;
    }

    async fn plug(&self, number: usize, subnet: u8) -> LanNode {
        let netns = TestNs::new("node").await;
        sysctl::write_in(&netns, &QUIET).expect("writing the node's sysctls");
        let (switch, port) = (self.switch.netlink(), port(number));
        let near = VethEnd {
            name: &port,
            master: Some(index(&switch, &bridge(subnet)).await),
            up: true,
            ..VethEnd::default()
        };
        let far = VethEnd {
            name: "eth0",
            netns: Some(&netns),
            ..VethEnd::default()
        };
        switch
            .add_veth(&near, &far)
            .await
            .expect("plugging a node into the switch");
        let netlink = netns.netlink();
        netlink.set_up("eth0").await.expect("setting a node's link up");
        for (netlink, link) in [(&netlink, "eth0"), (&switch, &port)] {
            netlink
                .wait_running(link)
                .await
                .expect("the link of a node to run");
        }
        let (v4, v6) = self.settle_in(&netlink, number, subnet).await;
        LanNode {
            netns,
            v4,
            v6,
            subnet,
        }
    }

    /// Gives a node its addresses on a link, and the way to the others.
    async fn settle_in(&self, netlink: &Netlink, number: usize, subnet: u8) -> (Ipv4Addr, Ipv6Addr) {
        let link = index(netlink, "eth0").await;
        let own = addresses(subnet, host(number));
        for address in own {
            netlink
                .add_address(link, address)
                .await
                .expect("giving a node its address");
            netlink
                .wait_address(address.addr())
                .await
                .expect("a node's address to be in use");
        }
        if self.routed {
            for gateway in addresses(subnet, 1) {
                let route = Route {
                    protocol: STATIC,
                    ..Route::default_via(gateway.addr(), link)
                };
                // That of an earlier link went with its address in IPv4, and stays in IPv6.
                netlink
                    .replace_route(&route)
                    .await
                    .expect("giving a node its default route");
            }
        }
        match own.map(|net| net.addr()) {
            [IpAddr::V4(v4), IpAddr::V6(v6)] => (v4, v6),
            _ => unreachable!("addresses() yields IPv4 first"),
        }
    }

    /// Waits until a bridge with nodes passes packets.
    async fn settle(&self, subnet: u8) {
        let netlink = self.switch.netlink();
        netlink
            .wait_running(&bridge(subnet))
            .await
            .expect("a bridge with ports to run");
        for address in addresses(subnet, 1) {
            netlink
                .wait_address(address.addr())
                .await
                .expect("a bridge's address to be in use");
        }
    }
}

/// `RTPROT_STATIC`: a default route is nobody's plan.
const STATIC: u8 = 4;

/// No waiting for duplicate detection; bridged frames don't meet iptables.
const QUIET: [(&str, &str); 3] = [
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
];

const FORWARD: [(&str, &str); 2] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
];

fn bridge(subnet: u8) -> String {
    format!("br{subnet}")
}

fn port(number: usize) -> String {
    format!("port{number}")
}

fn host(number: usize) -> u16 {
    11 + u16::try_from(number).expect("a test has few nodes")
}

async fn index(netlink: &Netlink, name: &str) -> u32 {
    netlink.link_index(name).await.expect("a link of the test's own")
}

async fn set_mtu(netlink: &Netlink, link: &str, mtu: u32) {
    let change = LinkChange {
        mtu: Some(mtu),
        ..LinkChange::default()
    };
    let index = index(netlink, link).await;
    netlink
        .set_link(index, &change)
        .await
        .expect("setting the MTU of a link of the test's own");
}

/// The addresses of a host on a link.
fn addresses(subnet: u8, host: u16) -> [IpNet; 2] {
    let [_, low] = host.to_be_bytes();
    // Written alike for people: 172.30.0.11 and fd00:172:30::11.
    let v6 = u16::from_str_radix(&host.to_string(), 16).expect("decimal digits are hexadecimal digits");
    let v6 = Ipv6Addr::new(0xfd00, 0x172, 0x30, subnet.into(), 0, 0, 0, v6);
    [
        IpNet::new(Ipv4Addr::new(172, 30, subnet, low).into(), 24).expect("24 is a prefix length"),
        IpNet::new(v6.into(), 64).expect("64 is a prefix length"),
    ]
}
