//! Plans as text: what a reviewer reads.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::net::IpAddr;

use ipnet::IpNet;
use model::{
    Attachment, AttachmentId, HostPort, Limits, Node, NodeFacts, PodNetwork, PodNetworkMode, PodRef,
    Protocol, Rate, Snapshot, Uplink, Vxlan,
};
use plan::{Change, NodePlan, Object, PartId, plan};

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn node(addresses: &[&str], pod_cidrs: &[&str]) -> Node {
    Node {
        addresses: ips(addresses),
        pod_cidrs: nets(pod_cidrs),
        ..Node::default()
    }
}

fn facts(name: &str, addresses: &[&str]) -> NodeFacts {
    let uplink = Uplink {
        name: "eth0".to_owned(),
        mtu: 1500,
        addresses: nets(addresses),
    };
    NodeFacts {
        name: name.to_owned(),
        uplink,
        ..NodeFacts::default()
    }
}

fn pod(name: &str, addresses: &[&str]) -> (AttachmentId, Attachment) {
    let id = AttachmentId::new(format!("container-of-{name}"), "eth0");
    let attachment = Attachment {
        pod: PodRef {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: String::new(),
        },
        netns: format!("/run/netns/{name}"),
        host_link: id.host_link(),
        addresses: ips(addresses),
        mtu: 1500,
        ..Attachment::default()
    };
    (id, attachment)
}

fn two_nodes() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot
        .nodes
        .insert("a".to_owned(), node(&["172.30.0.11"], &["10.244.0.0/24"]));
    snapshot
        .nodes
        .insert("b".to_owned(), node(&["172.30.0.12"], &["10.244.1.0/24"]));
    snapshot
}

fn facts_of_a() -> NodeFacts {
    facts("a", &["172.30.0.11/24"])
}

#[test]
fn ipv4_two_nodes_one_pod() {
    let mut snapshot = two_nodes();
    snapshot.non_masquerade = nets(&["192.168.0.0/16", "192.168.7.0/24"]);
    snapshot.attachments.extend([pod("web", &["10.244.0.5"])]);
    insta::assert_snapshot!(plan(&snapshot, &facts_of_a()));
}

#[test]
fn what_each_node_answers_itself_is_on_its_loopback() {
    let mut snapshot = two_nodes();
    snapshot.node_local = ips(&["10.96.0.10", "fd00:10:96::a"]).into_iter().collect();
    let plan = plan(&snapshot, &facts_of_a());
    let lines: Vec<String> = plan
        .objects()
        .filter(|object| matches!(object, Object::Address(_)))
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        lines,
        ["address 10.96.0.10/32 dev lo", "address fd00:10:96::a/128 dev lo"]
    );
}

#[test]
fn host_ports_and_a_port_of_one_address() {
    let mut snapshot = two_nodes();
    let port = |protocol, host_ip: Option<&str>, host_port, container_port| HostPort {
        protocol,
        host_ip: host_ip.map(|text| text.parse().unwrap()),
        host_port,
        container_port,
    };
    let (id, mut attachment) = pod("web", &["10.244.0.5"]);
    attachment.host_ports = vec![
        port(Protocol::Tcp, None, 8080, 80),
        port(Protocol::Udp, Some("172.30.0.11"), 53, 5353),
        port(Protocol::Sctp, Some("0.0.0.0"), 38412, 38412),
        port(Protocol::Tcp, Some("fd00:172:30::11"), 8081, 80),
        port(Protocol::Tcp, Some("127.0.0.1"), 8082, 80),
        port(Protocol::Udp, Some("::1"), 8082, 80),
    ];
    snapshot.attachments.insert(id.clone(), attachment);
    let (other, mut attachment) = pod("xerox", &["10.244.0.6"]);
    attachment.host_ports = vec![port(Protocol::Tcp, None, 8080, 9)];
    snapshot.attachments.insert(other.clone(), attachment);
    let plan = plan(&snapshot, &facts_of_a());
    for id in [id, other] {
        insta::assert_snapshot!(plan.parts[&PartId::Attachment(id)]);
    }
}

#[test]
fn a_pod_that_is_held_to_rates() {
    let mut snapshot = two_nodes();
    let (id, mut attachment) = pod("web", &["10.244.0.5"]);
    attachment.limits = Limits {
        ingress: Some(Rate {
            bits: 10_000_000,
            burst: None,
        }),
        egress: Some(Rate {
            bits: 1_000_000,
            burst: Some(800_000),
        }),
    };
    snapshot.attachments.insert(id.clone(), attachment);
    insta::assert_snapshot!(plan(&snapshot, &facts_of_a()).parts[&PartId::Attachment(id)]);
}

#[test]
fn ipv6_only() {
    let mut snapshot = Snapshot::default();
    snapshot
        .nodes
        .insert("a".to_owned(), node(&["fd00:172:30::11"], &["fd00:10:244::/64"]));
    snapshot.nodes.insert(
        "b".to_owned(),
        node(&["fd00:172:30::12"], &["fd00:10:244:1::/64"]),
    );
    snapshot.attachments.extend([pod("web", &["fd00:10:244::5"])]);
    insta::assert_snapshot!(plan(&snapshot, &facts("a", &["fd00:172:30::11/64"])));
}

#[test]
fn dual_stack() {
    let mut snapshot = Snapshot::default();
    let a = node(
        &["172.30.0.11", "fd00:172:30::11"],
        &["10.244.0.0/24", "fd00:10:244::/64"],
    );
    let b = node(
        &["172.30.0.12", "fd00:172:30::12"],
        &["10.244.1.0/24", "fd00:10:244:1::/64"],
    );
    snapshot.nodes.extend([("a".to_owned(), a), ("b".to_owned(), b)]);
    snapshot
        .attachments
        .extend([pod("web", &["10.244.0.5", "fd00:10:244::5"])]);
    insta::assert_snapshot!(plan(
        &snapshot,
        &facts("a", &["172.30.0.11/24", "fd00:172:30::11/64"])
    ));
}

#[test]
fn a_node_beyond_the_link_is_refused_with_the_reason() {
    let mut snapshot = with_far();
    snapshot.pod_network.mode = PodNetworkMode::Native;
    snapshot.nodes.insert(
        "six".to_owned(),
        node(&["172.30.0.14"], &["10.244.3.0/24", "fd00:10:244:3::/64"]),
    );
    let plan = plan(&snapshot, &facts_of_a());
    insta::assert_snapshot!(plan.parts[&PartId::Peer("far".to_owned())]);
    insta::assert_snapshot!(plan.parts[&PartId::Peer("six".to_owned())]);
}

fn with_far() -> Snapshot {
    let mut snapshot = two_nodes();
    snapshot
        .nodes
        .insert("far".to_owned(), node(&["192.0.2.7"], &["10.244.2.0/24"]));
    snapshot
}

/// The parts of a plan without our table, which is the same in each.
fn without_table(plan: &mut NodePlan) -> &NodePlan {
    for part in plan.parts.values_mut() {
        part.objects.retain(|object| !matches!(object, Object::Table(_)));
    }
    plan
}

#[test]
fn auto_routes_on_the_link_and_tunnels_beyond_it() {
    insta::assert_snapshot!(without_table(&mut plan(&with_far(), &facts_of_a())));
}

#[test]
fn vxlan_tunnels_to_nodes_on_the_same_link_too() {
    let mut snapshot = two_nodes();
    snapshot.pod_network = PodNetwork {
        mode: PodNetworkMode::Vxlan,
        vxlan: Vxlan { vni: 7, port: 8472 },
    };
    insta::assert_snapshot!(without_table(&mut plan(&snapshot, &facts_of_a())));
}

#[test]
fn each_family_of_pods_goes_its_own_way() {
    let mut snapshot = Snapshot::default();
    let blocks = |n: u8| [format!("10.244.{n}.0/24"), format!("fd00:10:244:{n}::/64")];
    for (name, n, addresses) in [
        ("a", 0, vec!["172.30.0.11", "fd00:172:30::11"]),
        // No IPv6 between the nodes, so IPv6 in IPv4.
        ("four", 1, vec!["172.30.0.12"]),
        // IPv6 on the link, and IPv4 beyond it.
        ("mixed", 2, vec!["192.0.2.7", "fd00:172:30::13"]),
        ("six", 3, vec!["2001:db8::7"]),
        ("none", 4, vec![]),
    ] {
        let blocks = blocks(n);
        let blocks: Vec<&str> = blocks.iter().map(String::as_str).collect();
        snapshot.nodes.insert(name.to_owned(), node(&addresses, &blocks));
    }
    let facts = facts("a", &["172.30.0.11/24", "fd00:172:30::11/64"]);
    insta::assert_snapshot!(without_table(&mut plan(&snapshot, &facts)));
}

#[test]
fn a_node_that_moves_to_another_network_is_followed() {
    let before = plan(&with_far(), &facts_of_a());
    let mut snapshot = with_far();
    snapshot
        .nodes
        .insert("b".to_owned(), node(&["198.51.100.2"], &["10.244.1.0/24"]));
    snapshot
        .nodes
        .insert("far".to_owned(), node(&["172.30.0.77"], &["10.244.2.0/24"]));
    let changes = NodePlan::diff(&before, &plan(&snapshot, &facts_of_a()));
    let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn a_path_that_carries_less_is_in_the_route() {
    let mut facts = facts_of_a();
    facts.path_mtus.insert("192.0.2.7".parse().unwrap(), 1400);
    facts.path_mtus.insert("172.30.0.12".parse().unwrap(), 1400);
    let plan = plan(&with_far(), &facts);
    let routes: Vec<String> = plan
        .objects()
        .filter(|object| matches!(object, Object::Route(_)))
        .map(ToString::to_string)
        .collect();
    insta::assert_snapshot!(routes.join("\n"));
}

#[test]
fn pods_take_the_whole_link_unless_all_is_tunnelled() {
    let mtu = |mode, addresses: &[&str]| {
        let pod_network = PodNetwork {
            mode,
            ..PodNetwork::default()
        };
        plan::pod_mtu(pod_network, &facts("a", addresses))
    };
    for addresses in [&["172.30.0.11/24"][..], &["fd00:172:30::11/64"]] {
        assert_eq!(mtu(PodNetworkMode::Auto, addresses), 1500);
        assert_eq!(mtu(PodNetworkMode::Native, addresses), 1500);
    }
    assert_eq!(
        mtu(PodNetworkMode::Vxlan, &["172.30.0.11/24", "fd00::1/64"]),
        1450
    );
    assert_eq!(mtu(PodNetworkMode::Vxlan, &["fd00:172:30::11/64"]), 1430);
}

#[test]
fn a_link_too_small_for_ipv6_in_tunnels_is_named() {
    let mut snapshot = Snapshot::default();
    snapshot
        .nodes
        .insert("a".to_owned(), node(&["172.30.0.11"], &["fd00:10:244::/64"]));
    snapshot
        .nodes
        .insert("b".to_owned(), node(&["192.0.2.7"], &["fd00:10:244:1::/64"]));
    let mut facts = facts_of_a();
    facts.uplink.mtu = 1300;
    let plan = plan(&snapshot, &facts);
    insta::assert_snapshot!(plan.parts[&PartId::Base].notes.join("\n"));
}

#[test]
fn overlapping_blocks_are_resolved_alike_everywhere() {
    let mut snapshot = two_nodes();
    snapshot.nodes.insert(
        "c".to_owned(),
        node(&["172.30.0.13"], &["10.244.0.128/25", "10.244.3.0/24"]),
    );
    snapshot
        .nodes
        .insert("d".to_owned(), node(&["172.30.0.14"], &["10.244.0.0/16"]));
    let plan = plan(&snapshot, &facts_of_a());
    insta::assert_snapshot!(plan.parts[&PartId::Base].notes.join("\n"));
    insta::assert_snapshot!(plan.parts[&PartId::Peer("c".to_owned())]);
}

#[test]
fn a_node_that_the_cluster_does_not_know_yet_still_has_a_plan() {
    let plan = plan(&Snapshot::default(), &facts_of_a());
    insta::assert_snapshot!(plan.parts[&PartId::Base].notes.join("\n"));
}

#[test]
fn the_same_input_gives_the_same_plan_and_no_change() {
    let snapshot = two_nodes();
    let (one, two) = (plan(&snapshot, &facts_of_a()), plan(&snapshot, &facts_of_a()));
    assert_eq!(one, two);
    assert!(NodePlan::diff(&one, &two).is_empty());
}

#[test]
fn changes_put_before_they_remove() {
    let mut snapshot = two_nodes();
    snapshot.attachments.extend([pod("old", &["10.244.0.5"])]);
    let before = plan(&snapshot, &facts_of_a());
    snapshot.attachments.clear();
    snapshot.attachments.extend([pod("new", &["10.244.0.6"])]);
    snapshot
        .nodes
        .insert("b".to_owned(), node(&["172.30.0.22"], &["10.244.1.0/24"]));
    let changes = NodePlan::diff(&before, &plan(&snapshot, &facts_of_a()));
    let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn an_address_that_moves_to_another_pod_is_not_removed() {
    let mut snapshot = two_nodes();
    snapshot.attachments.extend([pod("old", &["10.244.0.5"])]);
    let before = plan(&snapshot, &facts_of_a());
    snapshot.attachments.clear();
    snapshot.attachments.extend([pod("new", &["10.244.0.5"])]);
    let changes = NodePlan::diff(&before, &plan(&snapshot, &facts_of_a()));
    let removed: Vec<String> = changes
        .iter()
        .filter(|change| matches!(change, Change::Remove { .. }))
        .map(ToString::to_string)
        .collect();
    assert!(
        !removed.iter().any(|text| text.starts_with("- route")),
        "{removed:?}"
    );
}

#[test]
fn an_address_that_two_pods_claim_goes_to_the_first() {
    let mut snapshot = two_nodes();
    snapshot
        .attachments
        .extend([pod("one", &["10.244.0.5"]), pod("two", &["10.244.0.5"])]);
    let plan = plan(&snapshot, &facts_of_a());
    let notes: Vec<&str> = plan
        .parts
        .values()
        .flat_map(|part| &part.notes)
        .map(String::as_str)
        .collect();
    insta::assert_snapshot!(notes.join("\n"));
}
