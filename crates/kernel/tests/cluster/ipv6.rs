//! What is special about IPv6: links that talk by themselves, and errors that have to arrive.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kernel::sysctl;
use rstest::rstest;
use testkit::{Echo, Pong, TestNs, advertise, ask, believes, eventually, ping};

use crate::fixture::{Cluster, Stack, ip};

/// A counter of a namespace's ICMPv6, since it was made.
fn icmp6(netns: &TestNs, name: &str) -> u64 {
    let text = netns.within(|| fs::read_to_string("/proc/thread-self/net/snmp6").unwrap());
    let mut lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words[0] == name).unwrap();
    line[1].parse().unwrap()
}

#[rstest]
#[case::ipv4(Stack::V4)]
#[case::ipv6(Stack::V6)]
#[case::dual_stack(Stack::Dual)]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_plays_router_is_not_believed(#[case] stack: Stack) {
    let mut cluster = Cluster::new(1, stack).await;
    // As on a fresh machine, where every link listens to routers; and as on one that goes on
    // doing so although it forwards.
    let learn = [("net/ipv6/conf/default/accept_ra", "2")];
    sysctl::write_in(&cluster.lan.nodes[0].netns, &learn).unwrap();
    cluster.add_pod(0).await;
    cluster.apply(0).await;
    let (pod, node) = (&cluster.pods[0], &cluster.lan.nodes[0]);
    advertise(&pod.netns, "eth0").await;
    // What was sent before has arrived when this is answered.
    let addresses = node.addresses();
    let own = addresses
        .iter()
        .find(|address| address.is_ipv4() == pod.addresses[0].is_ipv4());
    assert_eq!(ping(&pod.netns, *own.unwrap(), 8).unwrap(), Pong::Reply);
    assert!(!believes(&node.netns).await);

    // The other way round: whatever the node says, the pod keeps its way.
    let link = pod.id.host_link();
    advertise(&node.netns, &link).await;
    assert_eq!(ping(&node.netns, pod.addresses[0], 8).unwrap(), Pong::Reply);
    let believed = pod.netns.netlink().addresses().await.unwrap();
    let global = believed
        .iter()
        .filter(|address| address.global && !address.address.addr().is_loopback());
    let global: Vec<IpAddr> = global.map(|address| address.address.addr()).collect();
    assert_eq!(global, pod.addresses);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_an_ipv4_cluster_has_no_ipv6_beyond_loopback() {
    let cluster = Cluster::running(1, 1, Stack::V4).await;
    let addresses = cluster.pods[0].netns.netlink().addresses().await.unwrap();
    let mut six: Vec<IpAddr> = addresses.iter().map(|address| address.address.addr()).collect();
    six.retain(IpAddr::is_ipv6);
    assert_eq!(six, [ip("::1")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_on_pods_links_are_never_asked_for() {
    let cluster = Cluster::running(2, 2, Stack::V6).await;
    for server in &cluster.pods {
        let echo = Echo::start(&server.netns);
        for client in &cluster.pods {
            ask(&client.netns, SocketAddr::new(server.addresses[0], echo.port)).unwrap();
        }
    }
    for pod in &cluster.pods {
        for counter in ["Icmp6OutNeighborSolicits", "Icmp6InNeighborSolicits"] {
            assert_eq!(icmp6(&pod.netns, counter), 0, "{counter}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_is_too_big_for_the_last_link_comes_back_as_such() {
    let mut cluster = Cluster::new(2, Stack::V6).await;
    cluster.add_pod(0).await;
    let narrow = cluster.add_pod(1).await;
    let id = cluster.pods[narrow].id.clone();
    cluster.snapshots[1].attachments.get_mut(&id).unwrap().mtu = 1300;
    cluster.apply(0).await;
    cluster.apply(1).await;
    let (wide, narrow) = (&cluster.pods[0].netns, cluster.pods[narrow].addresses[0]);
    // The first one is lost: its sender hears how large the next may be.
    eventually(Duration::from_secs(20), || {
        ping(wide, narrow, 1400).unwrap() == Pong::Reply
    });
    assert!(icmp6(&cluster.pods[0].netns, "Icmp6InPktTooBigs") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_no_pod_has_is_unreachable_at_once() {
    let cluster = Cluster::running(2, 1, Stack::V6).await;
    let nobody = ip("fd00:10:244:1::99");
    let answer = ping(&cluster.pods[0].netns, nobody, 8).unwrap();
    assert_eq!(
        answer,
        Pong::Unreachable {
            from: cluster.lan.nodes[1].v6.into()
        }
    );
}
