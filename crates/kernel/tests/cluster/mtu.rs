//! How large packets get through, and who says so when they're too big.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bpf_abi::Counter;
use kernel::facts;
use kernel::path::Probes;
use model::PodNetworkMode;
use rstest::rstest;
use testkit::{Capture, Echo, Lan, Pong, ask, eventually, eventually_async, ping_whole};

use crate::fixture::{Cluster, Stack};
use crate::frames::{segment_size, tunnelled};

/// Two nodes on one link and one on another, a pod on each.
async fn cluster(mode: PodNetworkMode, underlay: Stack) -> Cluster {
    let lan = Lan::routed(&[2, 1]).await;
    let stack = Stack::Dual;
    Cluster::on(lan, stack, underlay, mode).await.with_pods(1).await
}

/// The largest packet gets there whole; of one byte more the sender is told what would.
fn carries(cluster: &Cluster, from: usize, to: usize, mtu: usize) {
    for address in &cluster.pods[to].addresses {
        let netns = &cluster.pods[from].netns;
        assert_eq!(
            ping_whole(netns, *address, mtu).unwrap(),
            Pong::Reply,
            "{address} {mtu}"
        );
        let pong = ping_whole(netns, *address, mtu + 1).unwrap();
        let told = match pong {
            // The pod's own link takes no more.
            Pong::TooBig { mtu: None } => mtu,
            Pong::TooBig { mtu: Some(told) } => usize::try_from(told).unwrap(),
            other => panic!("{address} {}: {other:?}", mtu + 1),
        };
        assert_eq!(told, mtu, "{address}");
    }
}

#[rstest]
#[case::over_ipv4(Stack::V4, 50)]
#[case::over_ipv6(Stack::V6, 70)]
#[tokio::test(flavor = "multi_thread")]
async fn pods_on_one_link_keep_all_of_it_and_others_what_a_tunnel_leaves(
    #[case] underlay: Stack,
    #[case] overhead: usize,
) {
    let mut auto = cluster(PodNetworkMode::Auto, underlay).await;
    // IPv6 pods of nodes with IPv4 alone have tunnels on the link, too.
    auto.pods[1]
        .addresses
        .retain(|address| address.is_ipv4() == (underlay == Stack::V4));
    carries(&auto, 0, 1, 1500);
    carries(&auto, 0, 2, 1500 - overhead);
    carries(&auto, 2, 0, 1500 - overhead);
    let vxlan = cluster(PodNetworkMode::Vxlan, underlay).await;
    carries(&vxlan, 0, 1, 1500 - overhead);
    carries(&vxlan, 2, 1, 1500 - overhead);
}

/// A router between the links passes less than they do, and says so to the nodes alone.
#[rstest]
#[case::over_ipv4(Stack::V4, 50)]
#[case::over_ipv6(Stack::V6, 70)]
#[tokio::test(flavor = "multi_thread")]
async fn a_path_narrower_than_its_links_is_found_and_pods_are_told(
    #[case] underlay: Stack,
    #[case] overhead: usize,
) {
    for mode in [PodNetworkMode::Auto, PodNetworkMode::Vxlan] {
        let mut cluster = cluster(mode, underlay).await;
        cluster.lan.set_way_mtu(1, 1400).await;
        let node = &cluster.lan.nodes[0].netns;
        let far_ends = plan::far_ends(&cluster.snapshots[0], &cluster.facts[0]);
        let probes = Probes::open(node).unwrap();
        probes.send(&far_ends, 4789, 1500);
        let netlink = node.netlink();
        let known = async || facts::path_mtus(&netlink, &far_ends).await.unwrap();
        eventually_async(Duration::from_secs(5), async || !known().await.is_empty()).await;
        cluster.facts[0].path_mtus = known().await;
        let mtus: Vec<u32> = cluster.facts[0].path_mtus.values().copied().collect();
        assert_eq!(mtus, [1400]);
        cluster.apply(0).await;
        carries(&cluster, 0, 2, 1400 - overhead);
        let echo = Echo::start(&cluster.pods[2].netns);
        for address in &cluster.pods[2].addresses {
            ask(&cluster.pods[0].netns, SocketAddr::new(*address, echo.port)).unwrap();
        }
        cluster.restart_agent(0);
        assert_eq!(cluster.apply(0).await.writes, 0);
    }
}

/// TCP begins with segments that fit: no packet is lost to find out.
#[rstest]
#[case::over_ipv4(Stack::V4, 50)]
#[case::over_ipv6(Stack::V6, 70)]
#[tokio::test(flavor = "multi_thread")]
async fn tcp_segments_are_clamped_to_the_way(#[case] underlay: Stack, #[case] overhead: u16) {
    let cluster = cluster(PodNetworkMode::Auto, underlay).await;
    let echo = Echo::start(&cluster.pods[2].netns);
    let at_client = Capture::start(&cluster.pods[0].netns);
    let at_server = Capture::start(&cluster.pods[2].netns);
    for address in &cluster.pods[2].addresses {
        ask(&cluster.pods[0].netns, SocketAddr::new(*address, echo.port)).unwrap();
    }
    for (capture, pod) in [(&at_client, 0), (&at_server, 2)] {
        let heard = || -> BTreeSet<(bool, u16)> {
            let frames = capture.frames();
            let sizes = frames.iter().filter_map(|frame| segment_size(frame));
            let to_pod =
                sizes.filter(|(packet, _)| cluster.pods[pod].addresses.contains(&packet.destination));
            to_pod
                .map(|(packet, size)| (packet.destination.is_ipv6(), size))
                .collect()
        };
        let headers = |address: IpAddr| if address.is_ipv4() { 20 + 20 } else { 40 + 20 };
        let wanted: BTreeSet<(bool, u16)> = cluster.pods[pod]
            .addresses
            .iter()
            .map(|address| (address.is_ipv6(), 1500 - overhead - headers(*address)))
            .collect();
        // A frame is noted a moment after it has passed.
        eventually(Duration::from_secs(5), || heard().len() >= wanted.len());
        assert_eq!(heard(), wanted, "what pod {pod} is told");
    }
}

/// What begins a connection goes by the network stack, which clamps its segments, only where the way
/// carries less than the pods' links; what follows takes the shortcut on both.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_begins_by_the_stack_where_its_way_is_narrower() {
    let auto = cluster(PodNetworkMode::Auto, Stack::V4).await;
    let vxlan = cluster(PodNetworkMode::Vxlan, Stack::V4).await;
    // Pods of the same node's link, and of another: only between links there are tunnels in the first.
    for (cluster, to, by_stack) in [(&auto, 2, true), (&auto, 1, false), (&vxlan, 2, false)] {
        let server = cluster.pods[to].addresses[0];
        let echo = Echo::start(&cluster.pods[to].netns);
        let before = (cluster.stack(), cluster.count(0, Counter::Forwarded));
        ask(&cluster.pods[0].netns, SocketAddr::new(server, echo.port)).unwrap();
        let more = |node: usize| cluster.stack()[node] - before.0[node];
        for node in [0, to] {
            // The beginning and its answer, and again if they were late.
            let expected = if by_stack { 2..6 } else { 0..1 };
            assert!(expected.contains(&more(node)), "{} on node {node}", more(node));
        }
        assert!(cluster.count(0, Counter::Forwarded) - before.1 > 10);
    }
}

/// Nothing outside is fragmented, whatever pods send.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_outside_is_whole() {
    let cluster = cluster(PodNetworkMode::Auto, Stack::V4).await;
    let capture = Capture::start(&cluster.lan.switch);
    let echo = Echo::start(&cluster.pods[2].netns);
    for address in &cluster.pods[2].addresses {
        ask(&cluster.pods[0].netns, SocketAddr::new(*address, echo.port)).unwrap();
    }
    let outside = |frames: &[Vec<u8>]| frames.iter().filter(|frame| tunnelled(frame).is_some()).count();
    eventually(Duration::from_secs(5), || outside(&capture.frames()) > 0);
    let frames = capture.frames();
    let mut outside = frames.iter().filter_map(|frame| tunnelled(frame));
    assert!(outside.all(|tunnel| tunnel.outer.never_fragmented));
}
