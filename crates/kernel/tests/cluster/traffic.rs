//! Who reaches whom, and under which address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bpf_abi::Counter;
use kernel::echo::Echoes;
use kernel::link::LinkChange;
use kernel::route::Route;
use kernel::{Hooks, sysctl};
use model::Packet;
use plan::{NodePlan, Verdict};
use rstest::rstest;
use testkit::{Echo, Lan, LanNode, Pong, TestNs, ask, eventually, ping};

use crate::fixture::{Cluster, Stack, alike, ip, name, net};

#[rstest]
#[case::ipv4(Stack::V4)]
#[case::ipv6(Stack::V6)]
#[case::dual_stack(Stack::Dual)]
#[tokio::test(flavor = "multi_thread")]
async fn every_pod_reaches_every_pod_under_its_own_address(#[case] stack: Stack) {
    let cluster = Cluster::running(3, 2, stack).await;
    for server in &cluster.pods {
        let echo = Echo::start(&server.netns);
        for client in cluster.pods.iter() {
            for address in &server.addresses {
                let seen = ask(&client.netns, SocketAddr::new(*address, echo.port)).unwrap();
                assert_eq!(seen, alike(&client.addresses, *address));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_and_nodes_reach_each_other_under_their_own_addresses() {
    let cluster = Cluster::running(2, 1, Stack::Dual).await;
    for pod in &cluster.pods {
        let inside = Echo::start(&pod.netns);
        for node in &cluster.lan.nodes {
            let outside = Echo::start(&node.netns);
            for address in &pod.addresses {
                let node_address = alike(&node.addresses(), *address);
                assert_eq!(
                    ask(&node.netns, SocketAddr::new(*address, inside.port)).unwrap(),
                    node_address
                );
                assert_eq!(
                    ask(&pod.netns, SocketAddr::new(node_address, outside.port)).unwrap(),
                    *address
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_the_cluster_takes_the_nodes_address() {
    let mut cluster = Cluster::running(1, 1, Stack::Dual).await;
    // The switch's bridge is the outside world: it knows nothing of pods.
    let outside = Echo::start(&cluster.lan.switch);
    let (pod, node) = (&cluster.pods[0], &cluster.lan.nodes[0]);
    for gateway in [ip("172.30.0.1"), ip("fd00:172:30::1")] {
        let seen = ask(&pod.netns, SocketAddr::new(gateway, outside.port)).unwrap();
        assert_eq!(seen, alike(&node.addresses(), gateway));
    }

    // Unless it's configured to see pods' own addresses, and has a route back.
    let netlink = cluster.lan.switch.netlink();
    let bridge = netlink.link_index("br0").await.unwrap();
    for (block, address) in [
        ("10.244.0.0/24", "172.30.0.11"),
        ("fd00:10:244::/64", "fd00:172:30::11"),
    ] {
        netlink
            .replace_route(&Route::via(net(block), ip(address), bridge))
            .await
            .unwrap();
    }
    cluster.snapshots[0].non_masquerade = vec![net("172.30.0.0/24"), net("fd00:172:30::/64")];
    cluster.apply(0).await;
    let pod = &cluster.pods[0];
    for gateway in [ip("172.30.0.1"), ip("fd00:172:30::1")] {
        let seen = ask(&pod.netns, SocketAddr::new(gateway, outside.port)).unwrap();
        assert_eq!(seen, alike(&pod.addresses, gateway));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unassigned_pod_addresses_are_refused_not_sent_round() {
    let cluster = Cluster::running(2, 1, Stack::Dual).await;
    let pod = &cluster.pods[0];
    for (nobody, refuser) in [
        ("10.244.0.200", "172.30.0.11"),
        ("10.244.1.200", "172.30.0.12"),
        ("fd00:10:244::200", "fd00:172:30::11"),
        ("fd00:10:244:1::200", "fd00:172:30::12"),
    ] {
        let pong = ping(&pod.netns, ip(nobody), 8).unwrap();
        assert_eq!(pong, Pong::Unreachable { from: ip(refuser) }, "{nobody}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_of_full_size_pass_and_larger_ones_are_cut() {
    let cluster = Cluster::running(2, 1, Stack::Dual).await;
    for address in &cluster.pods[1].addresses {
        for size in [1452, 4000] {
            assert_eq!(
                ping(&cluster.pods[0].netns, *address, size).unwrap(),
                Pong::Reply,
                "{address} {size}"
            );
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_cannot_send_under_another_ones_address(#[values(Hooks::probe(), Hooks::Clsact)] hooks: Hooks) {
    let cluster = Cluster::hooked(hooks, 1, 2, Stack::V4).await;
    let (liar, target) = (&cluster.pods[0].netns, &cluster.pods[1]);
    let netlink = liar.netlink();
    let link = netlink.link_index("eth0").await.unwrap();
    netlink.add_address(link, net("10.244.0.77/32")).await.unwrap();
    let lie = Route {
        source: Some(ip("10.244.0.77")),
        ..Route::via(net("10.244.0.3/32"), ip("169.254.1.1"), link)
    };
    netlink.replace_route(&lie).await.unwrap();
    assert_eq!(ping(liar, target.addresses[0], 8).unwrap(), Pong::Silence);
    assert!(cluster.count(0, Counter::Spoofed) > 0);
    assert!(netlink.delete_route(&lie).await.unwrap());
    assert_eq!(ping(liar, target.addresses[0], 8).unwrap(), Pong::Reply);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_on_a_pods_link() {
    let cluster = Cluster::running(1, 1, Stack::Dual).await;
    let pod = &cluster.pods[0];
    let proxy = format!("net/ipv4/conf/{}/proxy_arp", pod.id.host_link());
    assert_eq!(
        cluster.lan.nodes[0]
            .netns
            .within(|| sysctl::read(&proxy).unwrap())
            .as_deref(),
        Some("0")
    );
    let neighbours = pod.netns.netlink().neighbours().await.unwrap();
    let known: Vec<IpAddr> = neighbours.iter().map(|neighbour| neighbour.address).collect();
    assert!(
        known.contains(&plan::GATEWAY_V4.into()) && known.contains(&plan::GATEWAY_V6.into()),
        "{known:?}"
    );
}

/// What the tracer says must be what packets do: from every pod and node to every pod and node, to
/// the outside, and to addresses that nobody has.
#[tokio::test(flavor = "multi_thread")]
async fn packets_go_where_the_tracer_says() {
    let cluster = Cluster::running(2, 2, Stack::Dual).await;
    let plans: BTreeMap<String, NodePlan> = (0..2).map(|node| (name(node), cluster.plan(node))).collect();
    let mut ends: Vec<(&TestNs, Vec<IpAddr>)> = cluster
        .pods
        .iter()
        .map(|pod| (&pod.netns, pod.addresses.clone()))
        .collect();
    ends.extend(
        cluster
            .lan
            .nodes
            .iter()
            .map(|node| (&node.netns, node.addresses().to_vec())),
    );
    let outside = (&cluster.lan.switch, vec![ip("172.30.0.1"), ip("fd00:172:30::1")]);
    let nobody = [
        ip("10.244.0.99"),
        ip("10.244.1.99"),
        ip("fd00:10:244::99"),
        ip("fd00:10:244:1::99"),
    ];
    for (server, addresses) in ends.iter().chain([&outside]) {
        let echo = Echo::start(server);
        for (client, sources) in &ends {
            for destination in addresses {
                let packet = Packet::tcp(alike(sources, *destination), *destination, echo.port);
                let trace = plan::trace(&plans, &packet);
                let told = match trace.verdict {
                    Verdict::Delivered { source, .. } | Verdict::Left { source, .. } => source,
                    Verdict::Answered { .. } | Verdict::Denied { .. } | Verdict::Refused { .. } => {
                        panic!("{trace}")
                    }
                };
                let seen = ask(client, SocketAddr::new(*destination, echo.port));
                assert_eq!(seen.ok(), Some(told), "{trace}");
            }
        }
    }
    for (client, sources) in &ends {
        for destination in nobody {
            let trace = plan::trace(&plans, &Packet::icmp(alike(sources, destination), destination));
            assert!(matches!(trace.verdict, Verdict::Refused { .. }), "{trace}");
            let pong = ping(client, destination, 8).unwrap();
            assert!(matches!(pong, Pong::Unreachable { .. }), "{pong:?} {trace}");
        }
    }
}

/// As when a node loses its power: nothing else is told by its silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_kernel_answers_as_long_as_it_is_there() {
    let lan = Lan::new(3).await;
    let echoes = Echoes::open(&lan.nodes[0].netns).unwrap();
    let of = |nodes: &[LanNode]| -> BTreeSet<IpAddr> { nodes.iter().flat_map(LanNode::addresses).collect() };
    let (all, left) = (of(&lan.nodes[1..]), of(&lan.nodes[1..2]));
    let mut heard = BTreeSet::new();
    all.iter().for_each(|address| echoes.ask(*address));
    eventually(Duration::from_secs(20), || {
        heard.extend(echoes.answers());
        heard == all
    });
    let lost = lan.nodes[2].netns.netlink();
    let links = lost.links().await.unwrap();
    let link = links.iter().find(|link| link.name == "eth0").unwrap();
    let down = LinkChange {
        up: Some(false),
        ..LinkChange::default()
    };
    lost.set_link(link.index, &down).await.unwrap();
    // Whoever is there answers the question after the one that the other doesn't.
    let mut heard = BTreeSet::new();
    all.iter().chain(&left).for_each(|address| echoes.ask(*address));
    eventually(Duration::from_secs(20), || {
        heard.extend(echoes.answers());
        heard.is_superset(&left)
    });
    assert_eq!(heard, left);
}
