//! Who gets frames into the tunnels between nodes: the cluster's nodes, and nobody else.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use kernel::NetNs;
use kernel::vxlan::NewVxlan;
use model::{MacAddr, PodNetworkMode, Vxlan, tunnel_mac};
use rstest::rstest;
use testkit::{Capture, Lan, eventually, eventually_async};

use crate::craft::Ends;
use crate::fixture::{Cluster, Stack, alike, ip, name};
use crate::frames::packet;

const PATIENCE: Duration = Duration::from_secs(5);

/// A packet from a pod of the last node to one of the first, inside a tunnel of that identifier.
fn tunnelled(cluster: &Cluster, vni: u32, data: &[u8]) -> Vec<u8> {
    let (from, to) = (&cluster.pods[2], &cluster.pods[0]);
    let ends = Ends::new(from.addresses[0], to.addresses[0]);
    let frame = ends.udp(tunnel_mac(&name(0)).0, tunnel_mac(&name(2)).0, data);
    let [_, vni @ ..] = vni.to_be_bytes();
    [&[8, 0, 0, 0][..], &vni, &[0], &frame].concat()
}

fn send(netns: &NetNs, to: SocketAddr, datagram: &[u8]) {
    let any: IpAddr = if to.is_ipv4() {
        [0; 4].into()
    } else {
        [0_u16; 8].into()
    };
    let send = || UdpSocket::bind((any, 0))?.send_to(datagram, to);
    netns.run(send).unwrap().unwrap();
}

/// Whether what was inside has come out, in the name of the pod that it's from.
fn arrived(capture: &Capture, cluster: &Cluster, data: &[u8]) -> bool {
    let from = cluster.pods[2].addresses[0];
    let is_it = |frame: &Vec<u8>| {
        packet(frame).is_some_and(|packet| packet.source == from)
            && frame.windows(data.len()).any(|part| part == data)
    };
    capture.frames().iter().any(is_it)
}

/// How many packets the rules of a chain have dropped.
fn dropped(netns: &NetNs, chain: &str) -> u64 {
    let list = || {
        Command::new("nft")
            .args(["list", "chain", "inet", plan::TABLE, chain])
            .output()
    };
    let output = netns.run(list).unwrap().expect("nft is installed");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let counts = words.windows(2).filter(|pair| pair[0] == "packets");
    counts.map(|pair| pair[1].parse::<u64>().unwrap()).sum()
}

/// Two nodes on one link and one on another, a pod on each.
async fn cluster(mode: PodNetworkMode, underlay: Stack) -> Cluster {
    let lan = Lan::routed(&[2, 1]).await;
    let cluster = Cluster::on(lan, Stack::Dual, underlay, mode).await;
    cluster.with_pods(1).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_nodes_of_the_cluster_put_frames_into_its_tunnels(
    #[values(Stack::V4, Stack::V6)] underlay: Stack,
    #[values(PodNetworkMode::Auto, PodNetworkMode::Vxlan)] mode: PodNetworkMode,
) {
    let cluster = cluster(mode, underlay).await;
    let [node, near, far] = [0, 1, 2].map(|node| &cluster.lan.nodes[node].netns);
    let address = cluster.snapshots[0].nodes[&name(0)].addresses[0];
    let to = SocketAddr::new(address, 4789);
    let target = Capture::start(&cluster.pods[0].netns);

    // A node's frame gets in; one of another tunnel has nowhere to go.
    send(far, to, &tunnelled(&cluster, 82, b"from a node"));
    eventually(PATIENCE, || arrived(&target, &cluster, b"from a node"));
    send(far, to, &tunnelled(&cluster, 83, b"from another tunnel"));

    // The router, a pod beside the target, the node itself; and pods that pass for their node.
    let strangers = [&cluster.lan.switch, &cluster.pods[0].netns, node];
    for (number, stranger) in strangers.into_iter().enumerate() {
        send(stranger, to, &tunnelled(&cluster, 82, b"from a stranger"));
        let counted = u64::try_from(number).unwrap() + 1;
        eventually(PATIENCE, || dropped(node, "tunnels") == counted);
    }
    send(
        &cluster.pods[2].netns,
        to,
        &tunnelled(&cluster, 82, b"from a pod"),
    );
    eventually(PATIENCE, || dropped(far, "pod_tunnels") == 1);
    send(
        &cluster.pods[1].netns,
        to,
        &tunnelled(&cluster, 82, b"from a pod"),
    );
    eventually(PATIENCE, || {
        dropped(near, "pod_tunnels") + dropped(node, "tunnels") == 4
    });

    // To the address that the node has inside, through the tunnel.
    let inside = SocketAddr::new(ip("10.244.0.0"), 4789);
    send(
        &cluster.pods[2].netns,
        inside,
        &tunnelled(&cluster, 82, b"from within"),
    );
    eventually(PATIENCE, || {
        dropped(near, "pod_tunnels") + dropped(node, "tunnels") == 5
    });
    for stranger in [
        &b"from a stranger"[..],
        b"from a pod",
        b"from within",
        b"from another tunnel",
    ] {
        assert!(!arrived(&target, &cluster, stranger));
    }

    // It's these rules and nothing else.
    let flush = || {
        Command::new("nft")
            .args(["flush", "chain", "inet", plan::TABLE, "tunnels"])
            .status()
    };
    assert!(node.run(flush).unwrap().unwrap().success());
    send(
        &cluster.lan.switch,
        to,
        &tunnelled(&cluster, 82, b"from a stranger"),
    );
    eventually(PATIENCE, || arrived(&target, &cluster, b"from a stranger"));
}

/// Who is in is the cluster's list of nodes: one that joins, moves or leaves is followed.
#[tokio::test(flavor = "multi_thread")]
async fn whom_tunnels_are_taken_from_follows_the_clusters_nodes() {
    let mut cluster = cluster(PodNetworkMode::Auto, Stack::V4).await;
    let to = SocketAddr::new(cluster.lan.nodes[0].addresses()[0], 4789);
    let router = model::Node {
        addresses: vec![ip("172.30.0.1")],
        ..model::Node::default()
    };
    let target = Capture::start(&cluster.pods[0].netns);
    cluster.snapshots[0].nodes.insert(name(9), router);
    cluster.apply(0).await;
    send(&cluster.lan.switch, to, &tunnelled(&cluster, 82, b"joined"));
    eventually(PATIENCE, || arrived(&target, &cluster, b"joined"));

    cluster.snapshots[0].nodes.get_mut(&name(9)).unwrap().addresses = vec![ip("172.30.0.2")];
    cluster.apply(0).await;
    let before = dropped(&cluster.lan.nodes[0].netns, "tunnels");
    send(&cluster.lan.switch, to, &tunnelled(&cluster, 82, b"moved"));
    eventually(PATIENCE, || {
        dropped(&cluster.lan.nodes[0].netns, "tunnels") == before + 1
    });
    assert!(!arrived(&target, &cluster, b"moved"));
}

/// Without tunnels of ours the port is others'.
#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_no_tunnels_the_port_is_left_alone() {
    let mut cluster = cluster(PodNetworkMode::Auto, Stack::Dual).await;
    let chains = |cluster: &Cluster| {
        let nft = kernel::nftables::Nft::open(&cluster.lan.nodes[0].netns).unwrap();
        let place = nft::Place::new(nft::Family::Inet, plan::TABLE);
        let observed = nft.observe(&place).unwrap().unwrap();
        let names = observed.chains.into_keys();
        names.filter(|name| name.contains("tunnels")).count()
    };
    assert_eq!(chains(&cluster), 2);
    cluster.snapshots[0].nodes.remove(&name(2));
    cluster.apply(0).await;
    assert_eq!(chains(&cluster), 0);
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);

    // Somebody else's tunnel, with the numbers that would be ours.
    let node = &cluster.lan.nodes[0].netns;
    let netlink = node.netlink();
    let theirs = NewVxlan {
        name: "theirs",
        address: MacAddr::local(7),
        mtu: 1450,
        vxlan: Vxlan::default(),
        local: alike(&cluster.lan.nodes[0].addresses(), ip("10.0.0.1")),
    };
    netlink.add_vxlan(&theirs).await.unwrap();
    netlink.set_up("theirs").await.unwrap();
    let (to, seen) = (SocketAddr::new(theirs.local, 4789), Capture::start(node));
    let datagram = tunnelled(&cluster, 82, b"theirs");
    // Once outside, once inside.
    let twice = async || {
        send(&cluster.lan.switch, to, &datagram);
        let frames = seen.frames();
        frames.iter().any(|frame| {
            frame.windows(6).any(|part| part == b"theirs") && frame[..6] == tunnel_mac(&name(0)).0
        })
    };
    eventually_async(PATIENCE, twice).await;
}
