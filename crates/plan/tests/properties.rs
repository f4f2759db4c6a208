//! What holds for every plan, whatever the cluster's objects say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use model::{Attachment, AttachmentId, Node, NodeFacts, Packet, PodRef, Snapshot, Uplink};
use plan::{Change, Identity, NodePlan, Object, plan};
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
    (vec(address(), 0..3), vec(net(), 0..3)).prop_map(|(addresses, pod_cidrs)| Node { addresses, pod_cidrs })
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
    (nodes, vec(attachment(), 0..5), vec(net(), 0..3)).prop_map(|(nodes, attachments, non_masquerade)| {
        Snapshot {
            nodes,
            attachments: attachments.into_iter().collect(),
            non_masquerade,
        }
    })
}

fn facts(name: &str) -> impl Strategy<Value = NodeFacts> + use<> {
    let name = name.to_owned();
    vec(net(), 0..3).prop_map(move |addresses| NodeFacts {
        name: name.clone(),
        uplink: Uplink {
            name: "eth0".to_owned(),
            mtu: 1500,
            addresses,
        },
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
            let nets: Vec<IpNet> = elements.of(&set.name).map(nft::Key::net).collect();
            for (i, a) in nets.iter().enumerate() {
                prop_assert!(nets[i + 1..].iter().all(|b| !a.contains(b) && !b.contains(a)), "{} {nets:?}", set.name);
            }
        }
    }

    #[test]
    fn every_trace_ends(snapshot in snapshot(), one in facts("n0"), two in facts("n1"), from in address(), to in address()) {
        let plans = [one, two].map(|facts| (facts.name.clone(), plan(&snapshot, &facts)));
        let trace = plan::trace(&plans.into_iter().collect(), &Packet::icmp(from, to));
        prop_assert!(trace.hops.len() < 64, "{trace}");
    }
}
