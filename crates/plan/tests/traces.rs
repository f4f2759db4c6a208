//! Where packets go, by the plans alone.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use model::{
    Attachment, AttachmentId, HostPort, Node, NodeFacts, Packet, PodNetwork, PodNetworkMode, PodRef,
    Protocol, Snapshot, Transport, Uplink,
};
use plan::{NodePlan, Object, PartId, Spot, Trace, Verdict, plan};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Two dual-stack nodes on a link and one beyond it; two pods on the first, one on the second.
fn plans() -> BTreeMap<String, NodePlan> {
    plans_with(Vec::new(), PodNetworkMode::Auto)
}

fn plans_with(non_masquerade: Vec<IpNet>, mode: PodNetworkMode) -> BTreeMap<String, NodePlan> {
    let nodes = [
        ("a", "172.30.0.11", "fd00:172:30::11", 0),
        ("b", "172.30.0.12", "fd00:172:30::12", 1),
        ("far", "192.0.2.9", "2001:db8::9", 2),
    ];
    let list: BTreeMap<String, Node> = nodes
        .iter()
        .map(|(name, v4, v6, n)| {
            let pod_cidrs = vec![
                net(&format!("10.244.{n}.0/24")),
                net(&format!("fd00:10:244:{n}::/64")),
            ];
            (
                (*name).to_owned(),
                Node {
                    addresses: vec![ip(v4), ip(v6)],
                    pod_cidrs,
                    ..Node::default()
                },
            )
        })
        .collect();
    let mut plans = BTreeMap::new();
    for (name, v4, v6, n) in nodes {
        let mut snapshot = Snapshot {
            nodes: list.clone(),
            non_masquerade: non_masquerade.clone(),
            pod_network: PodNetwork {
                mode,
                ..PodNetwork::default()
            },
            ..Snapshot::default()
        };
        let pods: &[u8] = if name == "a" { &[5, 6] } else { &[5] };
        snapshot
            .attachments
            .extend(pods.iter().map(|pod| attachment(name, n, *pod)));
        let uplink = Uplink {
            name: "eth0".to_owned(),
            mtu: 1500,
            addresses: vec![net(&format!("{v4}/24")), net(&format!("{v6}/64"))],
        };
        plans.insert(
            name.to_owned(),
            plan(
                &snapshot,
                &NodeFacts {
                    name: name.to_owned(),
                    uplink,
                    ..NodeFacts::default()
                },
            ),
        );
    }
    plans
}

fn attachment(node: &str, block: u8, pod: u8) -> (AttachmentId, Attachment) {
    let id = AttachmentId::new(format!("{node}{pod}"), "eth0");
    let attachment = Attachment {
        pod: PodRef {
            namespace: "default".to_owned(),
            name: format!("{node}{pod}"),
            uid: String::new(),
        },
        netns: format!("/run/netns/{node}{pod}"),
        host_link: format!("rip-{node}{pod}"),
        // The pod `.6` has no IPv6.
        addresses: if pod == 6 {
            vec![ip("10.244.0.6")]
        } else {
            vec![
                ip(&format!("10.244.{block}.{pod}")),
                ip(&format!("fd00:10:244:{block}::{pod}")),
            ]
        },
        mtu: 1500,
        host_ports: if (node, pod) == ("a", 5) {
            vec![HostPort {
                protocol: Protocol::Tcp,
                host_ip: None,
                host_port: 8080,
                container_port: 80,
            }]
        } else {
            Vec::new()
        },
        ..Attachment::default()
    };
    (id, attachment)
}

fn trace(source: &str, destination: &str) -> Trace {
    plan::trace(&plans(), &Packet::tcp(ip(source), ip(destination), 80))
}

#[test]
fn pod_to_pod_on_one_node() {
    insta::assert_snapshot!(trace("10.244.0.5", "10.244.0.6"));
}

#[test]
fn pod_to_pod_across_nodes() {
    insta::assert_snapshot!(trace("10.244.0.5", "10.244.1.5"));
    insta::assert_snapshot!(trace("fd00:10:244:1::5", "fd00:10:244::5"));
}

#[test]
fn pod_to_node_and_node_to_pod() {
    insta::assert_snapshot!(trace("10.244.0.5", "172.30.0.11"));
    insta::assert_snapshot!(trace("10.244.0.5", "172.30.0.12"));
    insta::assert_snapshot!(trace("172.30.0.12", "10.244.0.5"));
    insta::assert_snapshot!(trace("fd00:172:30::11", "fd00:10:244::5"));
}

#[test]
fn pod_to_outside_is_masqueraded_unless_told_otherwise() {
    insta::assert_snapshot!(trace("10.244.0.5", "192.0.2.77"));
    insta::assert_snapshot!(trace("fd00:10:244::5", "2001:db8::77"));
    let plans = plans_with(vec![net("192.0.2.0/24")], PodNetworkMode::Auto);
    let direct = plan::trace(&plans, &Packet::icmp(ip("10.244.0.5"), ip("192.0.2.77")));
    assert_eq!(
        direct.verdict,
        Verdict::Left {
            node: "a".to_owned(),
            source: ip("10.244.0.5")
        }
    );
}

#[test]
fn what_nobody_has_is_refused_with_the_reason() {
    insta::assert_snapshot!(trace("10.244.0.5", "10.244.0.200"));
    insta::assert_snapshot!(trace("10.244.0.5", "10.244.1.200"));
    insta::assert_snapshot!(trace("10.244.0.6", "fd00:10:244:1::5"));
    insta::assert_snapshot!(trace("198.51.100.1", "198.51.100.2"));
}

#[test]
fn pod_to_pod_through_a_tunnel() {
    insta::assert_snapshot!(trace("10.244.0.5", "10.244.2.5"));
    insta::assert_snapshot!(trace("fd00:10:244:2::5", "fd00:10:244:1::5"));
    let tunnelled = plans_with(Vec::new(), PodNetworkMode::Vxlan);
    insta::assert_snapshot!(plan::trace(
        &tunnelled,
        &Packet::icmp(ip("10.244.0.5"), ip("10.244.1.5"))
    ));
    let native = plans_with(Vec::new(), PodNetworkMode::Native);
    insta::assert_snapshot!(plan::trace(
        &native,
        &Packet::icmp(ip("10.244.0.5"), ip("10.244.2.5"))
    ));
}

#[test]
fn between_a_node_and_pods_beyond_its_link() {
    // What the node sends from inside the tunnel is answered through it.
    insta::assert_snapshot!(trace("10.244.0.0", "10.244.2.5"));
    insta::assert_snapshot!(trace("10.244.2.5", "10.244.0.0"));
    insta::assert_snapshot!(trace("10.244.2.5", "172.30.0.11"));
}

/// A tunnel that the other node hasn't made yet, or makes differently, is no way.
#[test]
fn a_tunnel_needs_both_ends() {
    let mut plans = plans();
    let base = plans
        .get_mut("far")
        .unwrap()
        .parts
        .get_mut(&PartId::Base)
        .unwrap();
    base.objects.retain(|object| !matches!(object, Object::Tunnel(_)));
    insta::assert_snapshot!(plan::trace(
        &plans,
        &Packet::icmp(ip("10.244.0.5"), ip("10.244.2.5"))
    ));
}

/// Whoever isn't a node of the cluster gets nothing into its tunnels.
#[test]
fn a_tunnels_packet_from_a_stranger_is_dropped() {
    let to_tunnel = |source: &str, destination: &str| {
        let packet = Packet {
            transport: Transport::Udp(4789),
            ..Packet::icmp(ip(source), ip(destination))
        };
        plan::trace(&plans(), &packet)
    };
    insta::assert_snapshot!(to_tunnel("198.51.100.1", "172.30.0.11"));
    // Pods, of this node and of others, and the node itself are strangers to it, too.
    for stranger in ["10.244.0.5", "10.244.1.5", "172.30.0.11"] {
        let verdict = to_tunnel(stranger, "172.30.0.11").verdict;
        assert!(
            matches!(verdict, Verdict::Refused { .. }),
            "{stranger}: {verdict:?}"
        );
    }
    // It would take its node's address on the way.
    insta::assert_snapshot!(to_tunnel("10.244.2.5", "172.30.0.11"));
    insta::assert_snapshot!(to_tunnel("fd00:10:244:2::5", "fd00:172:30::11"));
    for node in [("172.30.0.12", "172.30.0.11"), ("2001:db8::9", "fd00:172:30::11")] {
        let verdict = to_tunnel(node.0, node.1).verdict;
        assert!(
            matches!(verdict, Verdict::Delivered { .. }),
            "{node:?}: {verdict:?}"
        );
    }
}

/// A node that the other one doesn't know yet isn't let in.
#[test]
fn a_tunnel_is_taken_from_known_nodes_alone() {
    let mut plans = plans();
    plans
        .get_mut("far")
        .unwrap()
        .parts
        .remove(&PartId::Peer("a".to_owned()));
    insta::assert_snapshot!(plan::trace(
        &plans,
        &Packet::icmp(ip("10.244.0.5"), ip("10.244.2.5"))
    ));
}

#[test]
fn to_a_host_port_from_outside_from_pods_and_from_the_pod_itself() {
    let to_port = |source: &str, destination: &str, port| {
        plan::trace(&plans(), &Packet::tcp(ip(source), ip(destination), port))
    };
    insta::assert_snapshot!(to_port("198.51.100.1", "172.30.0.11", 8080));
    insta::assert_snapshot!(to_port("10.244.1.5", "172.30.0.11", 8080));
    insta::assert_snapshot!(to_port("fd00:10:244::5", "fd00:172:30::11", 8080));
    insta::assert_snapshot!(to_port("172.30.0.11", "172.30.0.11", 8080));
    // Another port, another node, another protocol: the node itself.
    for (destination, port) in [("172.30.0.11", 8081), ("172.30.0.12", 8080)] {
        let trace = to_port("10.244.0.5", destination, port);
        assert!(
            matches!(
                &trace.verdict,
                Verdict::Delivered {
                    to: Spot::Node(_),
                    ..
                }
            ),
            "{trace}"
        );
    }
    let udp = Packet {
        transport: Transport::Udp(8080),
        ..Packet::icmp(ip("10.244.0.5"), ip("172.30.0.11"))
    };
    let trace = plan::trace(&plans(), &udp);
    assert!(
        matches!(
            &trace.verdict,
            Verdict::Delivered {
                to: Spot::Node(_),
                ..
            }
        ),
        "{trace}"
    );
}

#[test]
fn from_outside_to_a_pod() {
    insta::assert_snapshot!(trace("198.51.100.1", "10.244.1.5"));
}

#[test]
fn a_pod_reaches_itself() {
    insta::assert_snapshot!(trace("10.244.0.5", "10.244.0.5"));
}

/// What the kernel tests prove with packets, for every pair.
#[test]
fn every_pod_that_is_reachable_sees_the_senders_own_address() {
    let pods = [
        "10.244.0.5",
        "10.244.0.6",
        "10.244.1.5",
        "fd00:10:244::5",
        "fd00:10:244:1::5",
    ]
    .map(ip);
    let plans = plans();
    for source in pods {
        for destination in pods
            .into_iter()
            .filter(|destination| destination.is_ipv4() == source.is_ipv4())
        {
            let trace = plan::trace(&plans, &Packet::icmp(source, destination));
            assert!(
                matches!(&trace.verdict, Verdict::Delivered { source: seen, .. } if *seen == source),
                "{trace}"
            );
        }
    }
}

#[test]
fn what_each_node_answers_itself_is_delivered_there() {
    let mut plans = plans();
    let dns = ip("10.96.0.10");
    for plan in plans.values_mut() {
        let base = plan.parts.get_mut(&PartId::Base).unwrap();
        base.objects.insert(Object::Address(dns));
    }
    let packet = Packet {
        transport: Transport::Udp(53),
        ..Packet::icmp(ip("10.244.1.5"), dns)
    };
    let verdict = Verdict::Delivered {
        to: Spot::Node("b".to_owned()),
        source: ip("10.244.1.5"),
    };
    assert_eq!(plan::trace(&plans, &packet).verdict, verdict);
}
