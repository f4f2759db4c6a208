//! What holds for every plan, whatever the cluster's objects say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use model::{
    Attachment, AttachmentId, Node, NodeFacts, Packet, PodNetwork, PodNetworkMode, PodRef, Snapshot, Uplink,
};
use plan::{Change, Identity, NextHop, NodePlan, Object, Route, plan};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// Few enough addresses that things collide.
fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = (0..3_u8, 0..4_u8, 0..4_u8).prop_map(|(a, b, c)| IpAddr::from(Ipv4Addr::new(10, a, b, c)));
    let v6 = (0..3_u16, 0..4_u16).prop_map(|(a, b)| IpAddr::from(Ipv6Addr::new(0xfd00, a, 0, 0, 0, 0, 0, b)));
    prop_oneof![v4, v6]
}

fn net() -> impl Strategy<Value = IpNet> {
    (address(), 0..=32_u8).prop_filter_map("a length that fits", |(address, length)| {
        IpNet::new(address, length).ok()
    })
}

fn node() -> impl Strategy<Value = Node> {
    (vec(address(), 0..3), vec(net(), 0..3)).prop_map(|(addresses, pod_cidrs)| Node {
        addresses,
        pod_cidrs,
        ..Node::default()
    })
}

fn attachment() -> impl Strategy<Value = (AttachmentId, Attachment)> {
    (0..6_u8, vec(address(), 0..3)).prop_map(|(number, addresses)| {
        let id = AttachmentId::new(format!("c{number}"), "eth0");
        let pod = PodRef::default();
        let (netns, host_link) = (format!("/run/netns/{number}"), id.host_link());
        (
            id,
            Attachment {
                pod,
                netns,
                host_link,
                addresses,
                mtu: 1500,
                ..Attachment::default()
            },
        )
    })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let nodes = btree_map((0..5_u8).prop_map(|n| format!("n{n}")), node(), 0..5);
    let mode = proptest::sample::select(PodNetworkMode::ALL.to_vec());
    (nodes, vec(attachment(), 0..5), vec(net(), 0..3), mode).prop_map(
        |(nodes, attachments, non_masquerade, mode)| Snapshot {
            nodes,
            attachments: attachments.into_iter().collect(),
            non_masquerade,
            pod_network: PodNetwork {
                mode,
                ..PodNetwork::default()
            },
            ..Snapshot::default()
        },
    )
}

fn facts(name: &str) -> impl Strategy<Value = NodeFacts> + use<> {
    let name = name.to_owned();
    (vec(net(), 0..3), btree_map(address(), 1280..1600_u32, 0..3)).prop_map(move |(addresses, path_mtus)| {
        NodeFacts {
            name: name.clone(),
            uplink: Uplink {
                name: "eth0".to_owned(),
                mtu: 1500,
                addresses,
            },
            cgroup: Some("/ripstop/c/a".to_owned()),
            path_mtus,
        }
    })
}

fn held(plan: &NodePlan) -> BTreeMap<Identity, Object> {
    plan.objects()
        .map(|object| (object.identity(), object.clone()))
        .collect()
}

proptest! {
    // A failure is a message, not a file: what was found becomes a test with a name.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_lead_from_any_plan_to_any_other(one in snapshot(), two in snapshot(), facts in facts("n0")) {
        let (old, new) = (plan(&one, &facts), plan(&two, &facts));
        let mut kernel = held(&old);
        let mut removing = false;
        for change in NodePlan::diff(&old, &new) {
            match change {
                Change::Put { object, .. } => {
                    prop_assert!(!removing, "something is written after a removal");
                    kernel.insert(object.identity(), object);
                }
                Change::Remove { object, .. } => {
                    removing = true;
                    prop_assert_eq!(kernel.remove(&object.identity()), Some(object));
                }
            }
        }
        prop_assert_eq!(kernel, held(&new));
    }

    #[test]
    fn no_two_objects_are_about_the_same_thing(snapshot in snapshot(), facts in facts("n0")) {
        let plan = plan(&snapshot, &facts);
        let objects: Vec<&Object> = plan.objects().collect();
        let distinct: BTreeSet<&Object> = objects.iter().copied().collect();
        let identities: BTreeSet<Identity> = distinct.iter().map(|object| object.identity()).collect();
        prop_assert_eq!(identities.len(), distinct.len());
    }

    #[test]
    fn blocks_in_a_set_never_overlap(snapshot in snapshot(), facts in facts("n0")) {
        let plan = plan(&snapshot, &facts);
        let elements = plan::elements(plan.objects());
        for set in plan::table().sets.iter().filter(|set| set.interval) {
            let nets: Vec<IpNet> = elements.of(&set.name).iter().filter_map(|entry| match &entry.key {
                nft::Key::Net(net) => Some(*net),
                nft::Key::Joined(_) => None,
            }).collect();
            for (i, a) in nets.iter().enumerate() {
                prop_assert!(nets[i + 1..].iter().all(|b| !a.contains(b) && !b.contains(a)), "{} {nets:?}", set.name);
            }
        }
    }

    /// Whatever goes into a tunnel has exactly one node to come out at: nothing is flooded.
    #[test]
    fn every_route_through_a_tunnel_has_one_other_end(snapshot in snapshot(), facts in facts("n0")) {
        let plan = plan(&snapshot, &facts);
        for object in plan.objects() {
            let Object::Route(Route { to: NextHop::OnLink { gateway, link }, .. }) = object else { continue };
            let tunnels = plan.objects().filter(|object| matches!(object, Object::Tunnel(tunnel) if tunnel.name == *link));
            prop_assert_eq!(tunnels.count(), 1, "{}", object);
            let mac = plan.objects().find_map(|object| match object {
                Object::Neighbour(found) if found.link == *link && found.address == *gateway => Some(found.mac),
                _ => None,
            });
            let ends = plan.objects().filter(|object| matches!(object, Object::Fdb(fdb) if fdb.link == *link && Some(fdb.mac) == mac));
            prop_assert_eq!(ends.count(), 1, "{}", object);
        }
    }

    /// Nodes don't agree about tunnels, they conclude alike: where the network between them is one
    /// and the same for both, what one sends the other takes.
    #[test]
    fn both_ends_choose_the_same_way(mode in proptest::sample::select(PodNetworkMode::ALL.to_vec()), families in 1..4_u8, others in 1..4_u8, apart: bool) {
        let ends = [(0_u8, "n0", families), (1, "n1", others)].map(|(n, name, families)| {
            let subnet = if apart { n } else { 0 };
            let v4: IpNet = format!("10.0.{subnet}.{}/24", n + 1).parse().expect("a block");
            let v6: IpNet = format!("fd00:{subnet}::{}/64", n + 1).parse().expect("a block");
            let own: Vec<IpNet> = [(1, v4), (2, v6)].into_iter().filter(|(bit, _)| families & bit != 0).map(|(_, net)| net).collect();
            let pod_cidrs = [format!("10.1.{n}.0/24"), format!("fd01:{n}::/64")].map(|text| text.parse().expect("a block")).to_vec();
            let node = Node { addresses: own.iter().map(IpNet::addr).collect(), pod_cidrs, ..Node::default() };
            let uplink = Uplink { name: "eth0".to_owned(), mtu: 1500, addresses: own };
            (node, NodeFacts { name: name.to_owned(), uplink, ..NodeFacts::default() })
        });
        let snapshot = Snapshot {
            nodes: ends.iter().map(|(node, facts)| (facts.name.clone(), node.clone())).collect(),
            pod_network: PodNetwork { mode, ..PodNetwork::default() },
            ..Snapshot::default()
        };
        let plans: BTreeMap<String, NodePlan> = ends.iter().map(|(_, facts)| (facts.name.clone(), plan(&snapshot, facts))).collect();
        for (there, back) in [("10.1.1.0", "10.1.0.0"), ("fd01:1::", "fd01:0::")] {
            let hops = [(&ends[0].1.name, there), (&ends[1].1.name, back)].map(|(node, to)| {
                let to: IpAddr = to.parse().expect("an address");
                let mut routes = plans[node].objects().filter_map(|object| match object {
                    Object::Route(route) if route.destination.contains(&to) => Some(route.to.clone()),
                    _ => None,
                });
                match routes.next().expect("there's a route to each block") {
                    NextHop::OnLink { link, .. } | NextHop::Via { link, .. } => Some(link),
                    _ => None,
                }
            });
            prop_assert_eq!(&hops[0], &hops[1]);
        }
    }

    #[test]
    fn every_trace_ends(snapshot in snapshot(), one in facts("n0"), two in facts("n1"), from in address(), to in address()) {
        let plans = [one, two].map(|facts| (facts.name.clone(), plan(&snapshot, &facts)));
        let trace = plan::trace(&plans.into_iter().collect(), &Packet::icmp(from, to));
        prop_assert!(trace.hops.len() < 64, "{trace}");
    }
}
