use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().expect("a range")
}

fn taken(ranges: &[&str]) -> Vec<Taken> {
    let taken = |range: &&str| Taken {
        range: net(range),
        by: "route by eth0".to_owned(),
    };
    ranges.iter().map(taken).collect()
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let ranges = Ranges::choose(&Wish::default(), &taken(&["192.168.1.0/24"]), 3).expect("free");
    assert_eq!(ranges.node_network, net("172.30.0.0/24"));
    assert_eq!(ranges.pod_cidr, net("10.244.0.0/16"));
    assert_eq!(ranges.service_cidr, net("10.96.0.0/16"));
}

#[test]
fn a_node_network_in_use_is_passed_over() {
    let used = taken(&["172.30.0.0/24", "172.30.1.128/25", "172.30.2.7/32"]);
    let ranges = Ranges::choose(&Wish::default(), &used, 3).expect("free");
    assert_eq!(ranges.node_network, net("172.30.3.0/24"));
}

#[test]
fn a_machine_that_uses_the_whole_block_is_told() {
    let error = Ranges::choose(&Wish::default(), &taken(&["172.16.0.0/12"]), 3);
    assert!(matches!(error, Err(Error::NoNodeNetwork)), "{error:?}");
}

#[test]
fn a_node_network_that_was_asked_for_is_used_or_refused() {
    let wish = Wish {
        node_network: Some(net("192.168.77.1/24")),
        ..Wish::default()
    };
    let ranges = Ranges::choose(&wish, &[], 3).expect("free");
    assert_eq!(ranges.node_network, net("192.168.77.0/24"));
    let error = Ranges::choose(&wish, &taken(&["192.168.0.0/16"]), 3).expect_err("taken");
    assert!(error.to_string().contains("192.168.0.0/16"), "{error}");
    let small = Wish {
        node_network: Some(net("192.168.77.0/28")),
        ..Wish::default()
    };
    assert!(Ranges::choose(&small, &[], 3).is_ok(), ".11 to .13 of 16");
    assert!(Ranges::choose(&small, &[], 5).is_err());
}

#[test]
fn a_cluster_does_not_overlap_itself() {
    let wish = |pods: &str, services: &str, nodes: &str| Wish {
        pod_cidr: Some(net(pods)),
        service_cidr: Some(net(services)),
        node_network: Some(net(nodes)),
    };
    for bad in [
        wish("10.0.0.0/8", "10.96.0.0/16", "172.30.0.0/24"),
        wish("10.1.0.0/16", "10.96.0.0/16", "10.1.3.0/24"),
        wish("10.1.0.0/16", "10.96.0.0/16", "10.96.3.0/24"),
    ] {
        assert!(Ranges::choose(&bad, &[], 3).is_err(), "{bad:?}");
    }
}

#[test]
fn a_pod_range_has_room_for_every_node() {
    let wish = Wish {
        pod_cidr: Some(net("10.1.0.0/23")),
        ..Wish::default()
    };
    assert!(Ranges::choose(&wish, &[], 2).is_ok());
    let error = Ranges::choose(&wish, &[], 3).expect_err("two parts of /24");
    assert!(
        matches!(error, Error::PodRangeTooSmall { room: 2, .. }),
        "{error}"
    );
}

#[test]
fn the_roles_have_their_addresses() {
    let network = net("172.30.0.0/24");
    assert_eq!(gateway_address(network).to_string(), "172.30.0.1");
    assert_eq!(server_address(network).to_string(), "172.30.0.2");
    assert_eq!(node_address(network, 0).expect("room").to_string(), "172.30.0.11");
    assert_eq!(
        first_service_address(net("10.96.0.0/16")).to_string(),
        "10.96.0.1"
    );
    assert_eq!(
        with_prefix(gateway_address(network), network),
        net("172.30.0.1/24")
    );
}

proptest! {
    #[test]
    fn what_is_chosen_overlaps_nothing(
        used in prop::collection::vec((any::<u16>(), 20_u8..=32), 0..40),
    ) {
        let used: Vec<Taken> = used
            .into_iter()
            .map(|(low, length)| {
                let address = Ipv4Addr::from(0xac1e_0000 | u32::from(low));
                let range = IpNet::V4(Ipv4Net::new_assert(address, length)).trunc();
                Taken { range, by: String::new() }
            })
            .collect();
        if let Ok(ranges) = Ranges::choose(&Wish::default(), &used, 3) {
            for other in used {
                prop_assert!(!overlap(ranges.node_network, other.range));
            }
        }
    }
}
