//! These need root. The machine is a namespace of the test's own.

use std::path::PathBuf;
use std::time::Duration;

use kernel::netns::named;
use rstest::rstest;
use testkit::{Pong, TestNs, advertise, believes, eventually, ping};

use super::*;
use crate::cluster::Programs;
use crate::network::{FamilyRanges, IpFamily, Ranges, Wish};

const FAMILIES: [IpFamily; 3] = [IpFamily::Ipv4, IpFamily::Ipv6, IpFamily::Dual];

fn cluster(name: &str, ip_family: IpFamily) -> Cluster {
    let none = PathBuf::new();
    let programs = Programs {
        ripstop: none.clone(),
        cni: none.clone(),
        images: none.clone(),
        containerd: none.clone(),
        ctr: none.clone(),
        runc: none,
    };
    let wish = Wish {
        ip_family,
        ..Wish::default()
    };
    let ranges = Ranges::choose(&wish, &[], 2).expect("free");
    let name = name.parse().expect("a valid name");
    Cluster::new(name, 2, ranges, programs).expect("two nodes fit")
}

/// Runs work in the machine's stead.
fn on(machine: &TestNs, work: impl AsyncFnOnce() -> Result<(), Error> + Send) {
    machine.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work()).expect("built");
    });
}

/// The namespaces of a cluster, gone with the test.
struct Names(Cluster);

impl Drop for Names {
    fn drop(&mut self) {
        let nodes = self.0.nodes.iter().map(|node| self.0.name.node_netns(&node.name));
        for name in nodes.chain([self.0.name.switch_netns()]) {
            NetNs::delete_named(&name).expect("removed");
        }
    }
}

async fn machine_and_cluster(test: &str, ip_family: IpFamily) -> (TestNs, Names) {
    let machine = TestNs::new(test).await;
    let name = format!("t{}-{test}-{}", std::process::id(), ip_family.flag());
    let cluster = cluster(&name, ip_family);
    on(&machine, async || {
        build_switch(&cluster).await?;
        for node in &cluster.nodes {
            build_node(&cluster, node).await?;
        }
        Ok(())
    });
    (machine, Names(cluster))
}

fn open(name: &str) -> NetNs {
    NetNs::open_named(name).expect("it is there")
}

/// A link that has just come up takes a moment until it carries packets.
fn assert_reaches(from: &NetNs, to: IpAddr) {
    let answers = || ping(from, to, 1400).expect("sent") == Pong::Reply;
    eventually(Duration::from_secs(20), answers);
}

#[rstest]
#[case::ipv4(IpFamily::Ipv4)]
#[case::ipv6(IpFamily::Ipv6)]
#[case::dual(IpFamily::Dual)]
#[tokio::test(flavor = "multi_thread")]
async fn nodes_server_and_machine_reach_each_other(#[case] family: IpFamily) {
    let (machine, names) = machine_and_cluster("reach", family).await;
    let cluster = &names.0;
    let first = open(&cluster.name.node_netns("node-1"));
    let switch = open(&cluster.name.switch_netns());
    for (number, ranges) in cluster.ranges.iter().enumerate() {
        let second = cluster.nodes[1].addresses[number];
        for (from, to) in [
            (&first, second),
            (&first, ranges.server()),
            (&first, ranges.gateway().addr()),
            (&switch, ranges.gateway().addr()),
            (&machine, ranges.server()),
            (&machine, second),
        ] {
            assert_reaches(from, to);
        }
    }
    // Done again, it changes nothing.
    on(&machine, async || {
        build_switch(cluster).await?;
        build_node(cluster, &cluster.nodes[0]).await
    });
    assert_eq!(open(&cluster.name.node_netns("node-1")), first);
    assert_reaches(&first, cluster.ranges.preferred().gateway().addr());
    let own_routes = Netlink::open(&first)
        .expect("open")
        .own_routes()
        .await
        .expect("read");
    assert_eq!(own_routes, [], "the agent would remove what it doesn't know");
}

#[rstest]
#[case::ipv4(IpFamily::Ipv4)]
#[case::ipv6(IpFamily::Ipv6)]
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_comes_back_under_the_same_addresses(#[case] family: IpFamily) {
    let (machine, names) = machine_and_cluster("back", family).await;
    let cluster = &names.0;
    let node = &cluster.nodes[1];
    let first = open(&cluster.name.node_netns("node-1"));
    let ethernet = async || {
        let link = Netlink::open(&open(&cluster.name.node_netns(&node.name)))
            .expect("open")
            .link(NODE_LINK)
            .await
            .expect("read");
        link.expect("the node's link").address
    };
    assert_reaches(&first, node.address());
    let before = ethernet().await;
    on(&machine, async || remove_node(cluster, &node.name).await);
    assert!(!named(&cluster.name.node_netns(&node.name)).exists());
    on(&machine, async || build_node(cluster, node).await);
    assert_eq!(ethernet().await, before);
    // What the others have in their neighbour tables is still true.
    assert_reaches(&first, node.address());
}

/// The addresses of a namespace beyond loopback's.
async fn addresses(netns: &NetNs) -> Vec<kernel::addr::Address> {
    let netlink = Netlink::open(netns).expect("open");
    let mut addresses = netlink.addresses().await.expect("read");
    addresses.retain(|address| !address.address.addr().is_loopback());
    addresses
}

#[tokio::test(flavor = "multi_thread")]
async fn every_namespace_has_the_planned_addresses_alone() {
    for family in FAMILIES {
        let (machine, names) = machine_and_cluster("planned", family).await;
        let cluster = &names.0;
        let switch = open(&cluster.name.switch_netns());
        let node = open(&cluster.name.node_netns("node-1"));
        let of =
            |address: fn(&FamilyRanges) -> IpAddr| cluster.ranges.iter().map(address).collect::<Vec<_>>();
        for (netns, planned) in [
            (&*machine, of(|ranges| ranges.gateway().addr())),
            (&switch, of(FamilyRanges::server)),
            (&node, cluster.nodes[0].addresses.clone()),
        ] {
            let found = addresses(netns).await;
            let global: Vec<IpAddr> = found
                .iter()
                .filter(|address| address.global)
                .map(|address| address.address.addr())
                .collect();
            assert_eq!(global, planned, "{family}");
            let others = found.iter().filter(|address| !address.global);
            if family == IpFamily::Ipv4 {
                assert_eq!(others.count(), 0, "no IPv6 at all");
            } else {
                let waiting = others.filter(|address| address.tentative);
                assert_eq!(waiting.count(), 0, "nothing waits for duplicates");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_plays_router_is_believed_by_nobody() {
    for family in FAMILIES {
        let (machine, names) = machine_and_cluster("router", family).await;
        let cluster = &names.0;
        // As on a machine that learns its own way out from a router.
        let learn = [("net/ipv6/conf/default/accept_ra", "2")];
        sysctl::write_in(&machine, &learn).expect("written");
        let believer = TestNs::new("believer").await;
        plug_in(cluster, &believer).await;
        let first = open(&cluster.name.node_netns("node-1"));
        advertise(&first, NODE_LINK).await;
        // Who believes routers has heard it: so have the others.
        while !believes(&believer).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let second = open(&cluster.name.node_netns("node-2"));
        let switch = open(&cluster.name.switch_netns());
        for netns in [&*machine, &switch, &first, &second] {
            assert!(!believes(netns).await, "{family}: {netns:?}");
        }
    }
}

/// Plugs a host of another kind into the switch: one that listens to routers.
async fn plug_in(cluster: &Cluster, host: &TestNs) {
    let switch = Netlink::open(&open(&cluster.name.switch_netns())).expect("open");
    let bridge = switch.link_index(SWITCH).await.expect("the bridge");
    let port = VethEnd {
        name: "stranger",
        master: Some(bridge),
        up: true,
        ..VethEnd::default()
    };
    let end = VethEnd {
        name: "eth0",
        netns: Some(host),
        ..VethEnd::default()
    };
    let believe = [
        ("net/ipv6/conf/default/accept_ra", "1"),
        ("net/ipv6/conf/default/accept_dad", "0"),
    ];
    sysctl::write_in(host, &believe).expect("written");
    switch.add_veth(&port, &end).await.expect("plugged in");
    let netlink = host.netlink();
    netlink.set_up("eth0").await.expect("up");
    netlink.wait_running("eth0").await.expect("running");
    switch.wait_running("stranger").await.expect("running");
}
