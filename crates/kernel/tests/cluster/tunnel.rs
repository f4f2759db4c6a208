//! Through tunnels: who reaches whom between links, and what is seen on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use kernel::fdb::Fdb;
use kernel::neigh::Neighbour;
use kernel::sysctl;
use kernel::vxlan::NewVxlan;
use model::{MacAddr, Node, Packet, PodNetwork, PodNetworkMode, Vxlan, tunnel_mac};
use plan::{NextHop, NodePlan, Object, PartId, Verdict};
use rstest::rstest;
use testkit::{Capture, Echo, Lan, Pong, TestNs, ask, eventually, ping};

use crate::fixture::{Cluster, Stack, ip, name, net};
use crate::frames::{packet, target, tunnelled};

const MODES: [PodNetworkMode; 3] = PodNetworkMode::ALL;

/// Two nodes on one link and one on another, a pod on each.
async fn cluster(mode: PodNetworkMode, stack: Stack, underlay: Stack) -> Cluster {
    let lan = Lan::routed(&[2, 1]).await;
    Cluster::on(lan, stack, underlay, mode).await.with_pods(1).await
}

/// The address of the same family.
fn alike(addresses: &[IpAddr], like: IpAddr) -> IpAddr {
    *addresses
        .iter()
        .find(|address| address.is_ipv4() == like.is_ipv4())
        .unwrap()
}

/// Who reaches whom, each under its own address.
fn reached(cluster: &Cluster) -> BTreeSet<(usize, usize)> {
    let mut pairs = BTreeSet::new();
    for (to, server) in cluster.pods.iter().enumerate() {
        let echo = Echo::start(&server.netns);
        for (from, client) in cluster.pods.iter().enumerate() {
            let seen = server.addresses.iter().map(|address| {
                let seen = ask(&client.netns, SocketAddr::new(*address, echo.port)).ok();
                assert!(
                    seen.is_none() || seen == Some(alike(&client.addresses, *address)),
                    "{from} to {to}: seen as {seen:?}"
                );
                seen.is_some()
            });
            if seen.collect::<Vec<_>>() == vec![true; server.addresses.len()] {
                pairs.insert((from, to));
            }
        }
    }
    pairs
}

fn all_pairs(count: usize) -> BTreeSet<(usize, usize)> {
    (0..count)
        .flat_map(|from| (0..count).map(move |to| (from, to)))
        .collect()
}

#[rstest]
#[case::ipv4(Stack::V4, Stack::V4)]
#[case::ipv6(Stack::V6, Stack::V6)]
#[case::dual_stack(Stack::Dual, Stack::Dual)]
#[case::ipv6_over_ipv4(Stack::V6, Stack::V4)]
#[case::ipv4_over_ipv6(Stack::V4, Stack::V6)]
#[tokio::test(flavor = "multi_thread")]
async fn every_pod_reaches_every_pod_by_routes_or_tunnels(
    #[case] stack: Stack,
    #[case] underlay: Stack,
    #[values(PodNetworkMode::Auto, PodNetworkMode::Vxlan)] mode: PodNetworkMode,
) {
    let mut cluster = cluster(mode, stack, underlay).await;
    assert_eq!(reached(&cluster), all_pairs(3));
    for node in 0..3 {
        assert_eq!(cluster.apply(node).await.writes, 0, "the same plan again");
        cluster.restart_agent(node);
        assert_eq!(
            cluster.apply(node).await.writes,
            0,
            "a new agent, nothing changed"
        );
    }
}

#[rstest]
#[case::ipv4(Stack::V4)]
#[case::ipv6(Stack::V6)]
#[case::dual_stack(Stack::Dual)]
#[tokio::test(flavor = "multi_thread")]
async fn a_native_network_reaches_pods_on_its_link_and_refuses_others(#[case] stack: Stack) {
    let cluster = cluster(PodNetworkMode::Native, stack, stack).await;
    let near = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2)];
    assert_eq!(reached(&cluster), BTreeSet::from(near));
    for address in &cluster.pods[2].addresses {
        let pong = ping(&cluster.pods[0].netns, *address, 8).unwrap();
        assert!(matches!(pong, Pong::Unreachable { .. }), "{pong:?}");
    }
    let links = cluster.lan.nodes[0].netns.netlink().links().await.unwrap();
    assert!(links.iter().all(|link| link.vxlan.is_none()));
}

/// What the links carry: pods' packets as they are between nodes that share one, inside the nodes'
/// own packets otherwise, and never with another address.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn on_the_wire_are_pods_addresses_or_nodes_around_them(
    #[values(PodNetworkMode::Auto, PodNetworkMode::Vxlan)] mode: PodNetworkMode,
) {
    let cluster = cluster(mode, Stack::Dual, Stack::Dual).await;
    let capture = Capture::start(&cluster.lan.switch);
    for (from, to) in [(0, 1), (0, 2)] {
        for address in &cluster.pods[to].addresses {
            let pong = ping(&cluster.pods[from].netns, *address, 8).unwrap();
            assert_eq!(pong, Pong::Reply, "{address}");
        }
    }
    let pod = |address: &IpAddr| {
        cluster
            .pods
            .iter()
            .position(|pod| pod.addresses.contains(address))
    };
    let (mut plain, mut inside) = (BTreeSet::new(), BTreeSet::new());
    eventually(Duration::from_secs(5), || {
        let frames = capture.frames();
        for frame in &frames {
            if let Some(tunnel) = tunnelled(frame) {
                let inner = packet(tunnel.frame).unwrap();
                let ends = (pod(&inner.source).unwrap(), pod(&inner.destination).unwrap());
                assert_eq!(tunnel.vni, Vxlan::default().vni);
                assert_eq!(tunnel.outer.source, cluster.lan.nodes[ends.0].addresses()[0]);
                assert_eq!(tunnel.outer.destination, cluster.lan.nodes[ends.1].addresses()[0]);
                inside.insert((ends, inner.source.is_ipv4()));
            } else if let Some(packet) = packet(frame)
                && let Some(from) = pod(&packet.source)
            {
                plain.insert(((from, pod(&packet.destination).unwrap()), packet.source.is_ipv4()));
            }
        }
        inside.len() + plain.len() == 8
    });
    let both = |pairs: &[(usize, usize)]| -> BTreeSet<_> {
        pairs
            .iter()
            .flat_map(|pair| [(*pair, true), (*pair, false)])
            .collect()
    };
    match mode {
        PodNetworkMode::Vxlan => assert_eq!(inside, both(&[(0, 1), (1, 0), (0, 2), (2, 0)])),
        _ => {
            assert_eq!(plain, both(&[(0, 1), (1, 0)]));
            assert_eq!(inside, both(&[(0, 2), (2, 0)]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_pods_reach_each_other_between_links() {
    for mode in [PodNetworkMode::Auto, PodNetworkMode::Vxlan] {
        let cluster = cluster(mode, Stack::Dual, Stack::Dual).await;
        let (near, far) = (&cluster.lan.nodes[0], &cluster.pods[2]);
        let inside = Echo::start(&far.netns);
        let outside = Echo::start(&near.netns);
        for address in &far.addresses {
            // Under the node's address in the tunnel, or the answer would go round it.
            let own = alike(&[ip("10.244.0.0"), ip("fd00:10:244::")], *address);
            let server = SocketAddr::new(*address, inside.port);
            assert_eq!(ask(&near.netns, server).unwrap(), own);
            assert_eq!(
                ask(&far.netns, SocketAddr::new(own, outside.port)).unwrap(),
                *address
            );
            // To the node itself under the pod's node, which the network between them knows.
            let server = SocketAddr::new(alike(&near.addresses(), *address), outside.port);
            let seen = ask(&far.netns, server).unwrap();
            assert_eq!(seen, alike(&cluster.lan.nodes[2].addresses(), *address));
        }
    }
}

/// Broadcasts, multicasts and unknown addresses have nobody to go to.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_flooded_and_nothing_learned() {
    let cluster = cluster(PodNetworkMode::Auto, Stack::Dual, Stack::Dual).await;
    let node = &cluster.lan.nodes[0].netns;
    let netlink = node.netlink();
    let link = netlink.link_index("rip-vxlan4").await.unwrap();
    let entries = netlink.fdb(link).await.unwrap();
    let known = Fdb {
        link,
        mac: tunnel_mac(&name(2)),
        remote: cluster.lan.nodes[2].v4.into(),
    };
    assert_eq!(entries, [known]);

    let stranger = Neighbour {
        link,
        address: ip("10.244.2.77"),
        mac: MacAddr::local(77),
    };
    let capture = Capture::start(&cluster.lan.switch);
    netlink.replace_neighbour(&stranger).await.unwrap();
    let broadcast = kernel::route::Route {
        onlink: true,
        ..kernel::route::Route::via(net("10.244.2.77/32"), ip("10.244.2.77"), link)
    };
    netlink.replace_route(&broadcast).await.unwrap();
    assert_eq!(ping(node, ip("10.244.2.77"), 8).unwrap(), Pong::Silence);
    node.within(|| {
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let _ = socket.send_to(b"anybody?", SocketAddrV6::new(all_nodes, 9, 0, link));
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_broadcast(true).unwrap();
        nix::sys::socket::setsockopt(
            &socket,
            nix::sys::socket::sockopt::BindToDevice,
            &"rip-vxlan4".into(),
        )
        .unwrap();
        let _ = socket.send_to(b"anybody?", (Ipv4Addr::BROADCAST, 9));
    });
    // A frame that names nobody known teaches the tunnel nothing either, though a node sends it.
    let target_mac = tunnel_mac(&name(0)).0;
    let spoofed = cluster.lan.nodes[0].v4;
    cluster.lan.nodes[2].netns.within(|| {
        let mut datagram = vec![8, 0, 0, 0, 0, 0, 82, 0];
        datagram.extend_from_slice(&target_mac);
        datagram.extend_from_slice(&MacAddr::local(66).0);
        datagram.extend_from_slice(&[0x08, 0x00]);
        datagram.extend_from_slice(&[0; 20]);
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.send_to(&datagram, (spoofed, 4789)).unwrap();
    });
    // What is known still gets there, after all that.
    let far = cluster.pods[2].addresses[0];
    assert_eq!(ping(&cluster.pods[0].netns, far, 8).unwrap(), Pong::Reply);
    let sent_by_node = |outer: IpAddr| outer == IpAddr::V4(cluster.lan.nodes[0].v4);
    for frame in capture.frames() {
        if let Some(tunnel) = tunnelled(&frame).filter(|tunnel| sent_by_node(tunnel.outer.source)) {
            assert_eq!(target(tunnel.frame), tunnel_mac(&name(2)).0, "{tunnel:?}");
        }
    }
    assert_eq!(netlink.fdb(link).await.unwrap(), [known_again(&cluster, link)]);
}

fn known_again(cluster: &Cluster, link: u32) -> Fdb {
    Fdb {
        link,
        mac: tunnel_mac(&name(2)),
        remote: cluster.lan.nodes[2].v4.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_moves_between_links_is_followed() {
    let mut cluster = cluster(PodNetworkMode::Auto, Stack::Dual, Stack::Dual).await;
    let has_tunnel = async |cluster: &Cluster, node: usize| {
        let netlink = cluster.lan.nodes[node].netns.netlink();
        netlink.link("rip-vxlan4").await.unwrap().is_some()
    };
    cluster.move_node(2, 0).await;
    assert_eq!(reached(&cluster), all_pairs(3));
    for node in 0..3 {
        assert!(!has_tunnel(&cluster, node).await, "all are on one link");
    }
    cluster.move_node(0, 1).await;
    assert_eq!(reached(&cluster), all_pairs(3));
    for node in 0..3 {
        assert!(has_tunnel(&cluster, node).await);
        cluster.restart_agent(node);
        assert_eq!(cluster.apply(node).await.writes, 0);
    }
    // From one link to another, both beyond the others': the tunnel stays, its ends change.
    cluster.move_node(1, 1).await;
    cluster.move_node(0, 0).await;
    assert_eq!(reached(&cluster), all_pairs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_come_and_go_and_write_only_their_own() {
    let mut cluster = cluster(PodNetworkMode::Auto, Stack::V4, Stack::V4).await;
    let joined = Node {
        addresses: vec![ip("192.0.2.9")],
        pod_cidrs: vec![net("10.244.9.0/24")],
        ..Node::default()
    };
    cluster.snapshots[0].nodes.insert(name(9), joined.clone());
    // The block among the pods', its address among those that tunnels are taken from, an entry, a
    // neighbour, a route, the same and its address for our programs.
    assert_eq!(cluster.apply(0).await.writes, 7);
    cluster.snapshots[0].nodes.get_mut(&name(9)).unwrap().addresses = vec![ip("192.0.2.10")];
    assert_eq!(
        cluster.apply(0).await.writes,
        5,
        "the entry, and two elements more, two less"
    );
    cluster.snapshots[0].nodes.remove(&name(9));
    assert_eq!(cluster.apply(0).await.writes, 7);
    // The last one beyond the link takes the tunnel with it, and our programs on it; the other's
    // address goes too, and the two chains that see to whom tunnels are taken from.
    cluster.snapshots[0].nodes.remove(&name(2));
    assert_eq!(cluster.apply(0).await.writes, 7 + 2 + 2 * 2);
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_kind_of_pod_network_is_taken_up_by_a_new_agent() {
    let mut cluster = cluster(PodNetworkMode::Auto, Stack::Dual, Stack::Dual).await;
    let other = Vxlan {
        vni: 4711,
        port: 8472,
    };
    let mut wanted: Vec<PodNetwork> = MODES
        .map(|mode| PodNetwork {
            mode,
            vxlan: Vxlan::default(),
        })
        .to_vec();
    wanted.push(PodNetwork {
        mode: PodNetworkMode::Auto,
        vxlan: other,
    });
    for pod_network in wanted {
        for node in 0..3 {
            cluster.snapshots[node].pod_network = pod_network;
            cluster.restart_agent(node);
            cluster.apply(node).await;
            cluster.restart_agent(node);
            assert_eq!(cluster.apply(node).await.writes, 0, "{pod_network:?}");
        }
        let expected = match pod_network.mode {
            PodNetworkMode::Native => BTreeSet::from([(0, 0), (0, 1), (1, 0), (1, 1), (2, 2)]),
            _ => all_pairs(3),
        };
        assert_eq!(reached(&cluster), expected, "{pod_network:?}");
    }
    // And by one that goes on.
    for node in 0..3 {
        cluster.snapshots[node].pod_network = PodNetwork::default();
        cluster.apply(node).await;
    }
    assert_eq!(reached(&cluster), all_pairs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn others_tunnels_stay_and_live_beside_ours() {
    let mut cluster = cluster(PodNetworkMode::Auto, Stack::Dual, Stack::Dual).await;
    let netlink = cluster.lan.nodes[0].netns.netlink();
    let foreign = NewVxlan {
        name: "flannel.1",
        address: MacAddr::local(1),
        mtu: 1450,
        vxlan: Vxlan { vni: 1, port: 4789 },
        local: cluster.lan.nodes[0].v4.into(),
    };
    netlink.add_vxlan(&foreign).await.unwrap();
    netlink.set_up("flannel.1").await.unwrap();
    let link = netlink.link_index("flannel.1").await.unwrap();
    let entry = Fdb {
        link,
        mac: MacAddr::local(9),
        remote: ip("192.0.2.1"),
    };
    netlink.replace_fdb(&entry).await.unwrap();
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);
    assert_eq!(reached(&cluster), all_pairs(3));

    cluster.snapshots[0].nodes.clear();
    cluster.snapshots[0].attachments.clear();
    cluster.apply(0).await;
    assert!(netlink.link("rip-vxlan4").await.unwrap().is_none());
    assert!(netlink.own_routes().await.unwrap().is_empty());
    assert_eq!(netlink.fdb(link).await.unwrap(), [entry]);
    assert!(
        netlink
            .link("flannel.1")
            .await
            .unwrap()
            .is_some_and(|link| link.up)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_is_an_error_that_says_what_to_set() {
    let lan = Lan::routed(&[1, 1]).await;
    let cluster = Cluster::on(lan, Stack::V4, Stack::V4, PodNetworkMode::Auto).await;
    let node = &cluster.lan.nodes[0];
    let netlink = node.netns.netlink();
    let foreign = NewVxlan {
        name: "theirs",
        address: MacAddr::local(1),
        mtu: 1450,
        vxlan: Vxlan::default(),
        local: node.v4.into(),
    };
    netlink.add_vxlan(&foreign).await.unwrap();
    let netns = kernel::NetNs::open(node.netns.path()).unwrap();
    let mut kernel = kernel::Kernel::open(netns, node.netns.pins()).unwrap();
    let failure = async |kernel: &mut kernel::Kernel| {
        let applied = kernel.apply(&cluster.plan(0)).await.unwrap();
        let (_, error) = applied
            .failures
            .into_iter()
            .find(|(part, _)| *part == PartId::Base)
            .unwrap();
        error.to_string()
    };
    let error = failure(&mut kernel).await;
    assert!(
        error.contains("id 82 on UDP port 4789; set network.vxlan.vni"),
        "{error}"
    );

    netlink.delete_link("theirs").await.unwrap();
    let taken = node
        .netns
        .within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 4789)).unwrap());
    let error = failure(&mut kernel).await;
    assert!(error.contains("UDP port 4789 is taken"), "{error}");
    drop(taken);
    let applied = kernel.apply(&cluster.plan(0)).await.unwrap();
    assert!(applied.failures.is_empty(), "{:?}", applied.failures);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_did_to_our_tunnel_is_undone() {
    let mut cluster = cluster(PodNetworkMode::Auto, Stack::Dual, Stack::Dual).await;
    let netlink = cluster.lan.nodes[0].netns.netlink();
    let link = netlink.link_index("rip-vxlan4").await.unwrap();
    for (mac, remote) in [
        (MacAddr::local(5), "192.0.2.1"),
        (tunnel_mac(&name(2)), "192.0.2.2"),
    ] {
        let entry = Fdb {
            link,
            mac,
            remote: ip(remote),
        };
        netlink.replace_fdb(&entry).await.unwrap();
    }
    netlink.add_address(link, net("10.9.9.9/32")).await.unwrap();
    netlink.set_vxlan_local(link, ip("192.0.2.3")).await.unwrap();
    cluster.restart_agent(0);
    assert!(cluster.apply(0).await.writes > 0);
    assert_eq!(reached(&cluster), all_pairs(3));
    assert_eq!(netlink.fdb(link).await.unwrap(), [known_again(&cluster, link)]);
    netlink.delete_link("rip-vxlan4").await.unwrap();
    cluster.restart_agent(0);
    cluster.apply(0).await;
    assert_eq!(reached(&cluster), all_pairs(3));
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);
}

/// What the tracer says must be what packets do, through tunnels too.
#[tokio::test(flavor = "multi_thread")]
async fn packets_go_where_the_tracer_says_between_links() {
    for mode in MODES {
        let cluster = cluster(mode, Stack::Dual, Stack::Dual).await;
        let plans: BTreeMap<String, NodePlan> = (0..3).map(|node| (name(node), cluster.plan(node))).collect();
        let mut ends: Vec<(&TestNs, Vec<IpAddr>, Option<usize>)> = cluster
            .pods
            .iter()
            .map(|pod| (&pod.netns, pod.addresses.clone(), None))
            .collect();
        let nodes = cluster.lan.nodes.iter().enumerate();
        ends.extend(nodes.map(|(n, node)| (&node.netns, node.addresses().to_vec(), Some(n))));
        for (server, addresses, _) in &ends {
            let echo = Echo::start(server);
            for (client, sources, node) in &ends {
                for destination in addresses {
                    let own = alike(sources, *destination);
                    let source = node.map_or(own, |node| chosen(&cluster, node, *destination).unwrap_or(own));
                    let packet = Packet::tcp(source, *destination, echo.port);
                    let trace = plan::trace(&plans, &packet);
                    let told = match trace.verdict {
                        Verdict::Delivered { source, .. } | Verdict::Left { source, .. } => Some(source),
                        Verdict::Answered { .. } | Verdict::Denied { .. } | Verdict::Refused { .. } => None,
                    };
                    let seen = ask(client, SocketAddr::new(*destination, echo.port)).ok();
                    assert_eq!(seen, told, "{mode} {trace}");
                }
            }
        }
    }
}

/// The source that a node's own packets take, by its plan.
fn chosen(cluster: &Cluster, node: usize, destination: IpAddr) -> Option<IpAddr> {
    let plan = cluster.plan(node);
    let routes = plan.objects().filter_map(|object| match object {
        Object::Route(route) if route.destination.contains(&destination) => Some(route),
        _ => None,
    });
    routes.max_by_key(|route| route.destination.prefix_len())?.source
}

/// Work, not time: each object once, and nothing at all the second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_peers_are_written_once() {
    let lan = Lan::routed(&[1]).await;
    let mut cluster = Cluster::on(lan, Stack::Dual, Stack::Dual, PodNetworkMode::Auto).await;
    for n in 1..=1000_u16 {
        let [high, low] = n.to_be_bytes();
        // Every second one is on the link, as far as addresses tell.
        let (v4, v6) = if n % 2 == 0 && n < 400 {
            (
                format!("172.30.0.{}", 20 + n / 2),
                format!("fd00:172:30::{:x}", 0x1000 + n),
            )
        } else {
            (format!("192.168.{high}.{low}"), format!("fd00:172:31::{n:x}"))
        };
        let peer = Node {
            addresses: vec![ip(&v4), ip(&v6)],
            pod_cidrs: vec![
                net(&format!("10.{}.{low}.0/24", 64 + high)),
                net(&format!("fd00:10:245:{n:x}::/64")),
            ],
            ..Node::default()
        };
        cluster.snapshots[0].nodes.insert(format!("peer-{n}"), peer);
    }
    let plan = cluster.plan(0);
    let tunnelled = plan.objects().filter(
        |object| matches!(object, Object::Route(route) if matches!(route.to, NextHop::OnLink { .. })),
    );
    assert_eq!(tunnelled.count(), 2 * 801);
    assert!(cluster.apply(0).await.writes > 4000);
    assert_eq!(cluster.apply(0).await.writes, 0);
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);
    // One of them moves.
    cluster.snapshots[0].nodes.get_mut("peer-7").unwrap().addresses[0] = ip("192.168.77.7");
    assert_eq!(cluster.apply(0).await.writes, 5);
    let forwards = cluster.lan.nodes[0]
        .netns
        .within(|| sysctl::read("net/ipv4/ip_forward").unwrap());
    assert_eq!(forwards.as_deref(), Some("1"));
}
