use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().expect("a range")
}

fn nets(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(net).collect()
}

fn taken(ranges: &[&str]) -> Vec<Taken> {
    let taken = |range: &&str| Taken {
        range: net(range),
        by: "route by eth0".to_owned(),
    };
    ranges.iter().map(taken).collect()
}

/// Ranges in words, separated by spaces.
fn wish(ip_family: IpFamily, pods: &str, services: &str, nodes: &str) -> Wish {
    Wish {
        ip_family,
        pod_cidr: nets(pods),
        service_cidr: nets(services),
        node_network: nets(nodes),
    }
}

fn of(ip_family: IpFamily) -> Wish {
    wish(ip_family, "", "", "")
}

#[rstest]
#[case(IpFamily::Ipv4, "172.30.0.0/24", "10.244.0.0/16", "10.96.0.0/16")]
#[case(IpFamily::Ipv6, "fd00:172:30::/64", "fd00:10:244::/56", "fd00:10:96::/112")]
#[case(
    IpFamily::Dual,
    "172.30.0.0/24 fd00:172:30::/64",
    "10.244.0.0/16 fd00:10:244::/56",
    "10.96.0.0/16 fd00:10:96::/112"
)]
fn the_defaults_are_the_documented_ones(
    #[case] family: IpFamily,
    #[case] nodes: &str,
    #[case] pods: &str,
    #[case] services: &str,
) {
    let used = taken(&["192.168.1.0/24", "2001:db8::/64", "fe80::/64"]);
    let ranges = Ranges::choose(&of(family), &used, 3).expect("free");
    assert_eq!(ranges.node_networks(), nets(nodes));
    assert_eq!(ranges.pod_cidrs(), nets(pods));
    assert_eq!(ranges.service_cidrs(), nets(services));
    assert_eq!(ranges.ip_family(), family);
}

#[test]
fn a_node_network_in_use_is_passed_over_in_its_own_family() {
    let used = taken(&[
        "172.30.0.0/24",
        "172.30.1.128/25",
        "172.30.2.7/32",
        "fd00:172:30::1/128",
    ]);
    let ranges = Ranges::choose(&of(IpFamily::Dual), &used, 3).expect("free");
    assert_eq!(ranges.node_networks(), nets("172.30.3.0/24 fd00:172:30:1::/64"));
}

#[rstest]
#[case(IpFamily::Ipv4, "172.16.0.0/12", "192.168.77.0/24")]
#[case(IpFamily::Ipv6, "fd00::/8", "fd00:77::/64")]
fn a_machine_that_uses_all_that_is_tried_is_told(
    #[case] family: IpFamily,
    #[case] used: &str,
    #[case] example: &str,
) {
    let error = Ranges::choose(&of(family), &taken(&[used]), 3).expect_err("none is free");
    assert!(matches!(error, Error::NoNodeNetwork { .. }), "{error:?}");
    assert!(error.cure().contains(example), "{}", error.cure());
}

#[rstest]
#[case(IpFamily::Ipv4, "192.168.77.1/24", "192.168.0.0/16", "192.168.77.0/28")]
#[case(IpFamily::Ipv6, "fd00:77::1/64", "fd00:77::/32", "fd00:77::/123")]
fn a_node_network_that_was_asked_for_is_used_or_refused(
    #[case] family: IpFamily,
    #[case] asked: &str,
    #[case] used: &str,
    #[case] small: &str,
) {
    let asked = wish(family, "", "", asked);
    let ranges = Ranges::choose(&asked, &[], 3).expect("free");
    assert_eq!(ranges.node_networks(), [asked.node_network[0].trunc()]);
    let error = Ranges::choose(&asked, &taken(&[used]), 3).expect_err("taken");
    assert!(error.to_string().contains("route by eth0"), "{error}");
    let small = wish(family, "", "", small);
    assert!(Ranges::choose(&small, &[], 3).is_ok());
    assert!(Ranges::choose(&small, &[], 30).is_err());
}

#[rstest]
#[case(IpFamily::Ipv4, "10.0.0.0/8", "10.96.0.0/16", "172.30.0.0/24")]
#[case(IpFamily::Ipv4, "10.1.0.0/16", "10.96.0.0/16", "10.1.3.0/24")]
#[case(IpFamily::Ipv4, "10.1.0.0/16", "10.96.0.0/16", "10.96.3.0/24")]
#[case(IpFamily::Ipv6, "fd00::/48", "fd00::/108", "")]
#[case(IpFamily::Dual, "fd01::/48", "", "fd01:0:0:7::/64")]
fn a_cluster_does_not_overlap_itself(
    #[case] family: IpFamily,
    #[case] pods: &str,
    #[case] services: &str,
    #[case] nodes: &str,
) {
    let error = Ranges::choose(&wish(family, pods, services, nodes), &[], 3).expect_err("an overlap");
    assert!(error.to_string().contains("overlap"), "{error}");
}

#[rstest]
#[case(IpFamily::Ipv4, "10.1.0.0/23", 2, "/24")]
#[case(IpFamily::Ipv6, "fd01::/63", 2, "/64")]
#[case(IpFamily::Ipv6, "fd01::/72", 0, "/64")]
fn a_pod_range_has_a_block_for_every_node(
    #[case] family: IpFamily,
    #[case] pods: &str,
    #[case] room: usize,
    #[case] block: &str,
) {
    let asked = wish(family, pods, "", "");
    assert!(room == 0 || Ranges::choose(&asked, &[], room).is_ok());
    let error = Ranges::choose(&asked, &[], room + 1).expect_err("too few blocks");
    assert!(
        matches!(error, Error::PodRangeTooSmall { room: found, .. } if found == room),
        "{error}"
    );
    assert!(error.cure().contains(block), "{}", error.cure());
}

#[rstest]
#[case::family(
    IpFamily::Ipv4,
    "fd01::/56",
    "add `--ip-family dual` for both families or `--ip-family ipv6`"
)]
#[case::the_other(IpFamily::Ipv6, "10.1.0.0/16", "or give --pod-cidr an IPv6 range")]
#[case::two(IpFamily::Ipv4, "10.1.0.0/16 10.2.0.0/16", "give --pod-cidr one range")]
#[case::two_of_dual(IpFamily::Dual, "fd01::/56 fd02::/56", "give --pod-cidr one range")]
#[case::loopback(IpFamily::Ipv4, "127.0.0.0/16", "`--pod-cidr 10.80.0.0/16`")]
#[case::link_local(IpFamily::Ipv6, "fe80::/56", "`--pod-cidr fd00:80::/56`")]
#[case::mapped(IpFamily::Ipv6, "::ffff:0:0/96", "a private range")]
#[case::all(IpFamily::Ipv4, "0.0.0.0/0", "a private range")]
fn what_cannot_be_is_refused_with_what_to_do(
    #[case] family: IpFamily,
    #[case] pods: &str,
    #[case] cure: &str,
) {
    let error = Ranges::choose(&wish(family, pods, "", ""), &[], 1).expect_err("refused");
    assert!(error.cure().contains(cure), "{error}\n{}", error.cure());
}

#[test]
fn the_family_that_is_written_first_is_preferred() {
    let six_first = wish(IpFamily::Dual, "fd01::/56 10.1.0.0/16", "10.9.0.0/16", "");
    let ranges = Ranges::choose(&six_first, &[], 3).expect("free");
    assert_eq!(ranges.pod_cidrs(), nets("fd01::/56 10.1.0.0/16"));
    assert_eq!(ranges.service_cidrs(), nets("fd00:10:96::/112 10.9.0.0/16"));
    assert_eq!(ranges.node_networks(), nets("fd00:172:30::/64 172.30.0.0/24"));
    let disagree = wish(
        IpFamily::Dual,
        "fd01::/56 10.1.0.0/16",
        "10.9.0.0/16 fd09::/112",
        "",
    );
    let error = Ranges::choose(&disagree, &[], 3).expect_err("two orders");
    assert!(matches!(error, Error::FamilyOrder { .. }), "{error}");
}

#[test]
fn an_existing_cluster_asks_for_what_it_has() {
    let asked = wish(IpFamily::Dual, "fd01::/56 10.1.0.0/16", "", "");
    let ranges = Ranges::choose(&asked, &taken(&["172.30.0.0/24"]), 3).expect("free");
    assert_eq!(
        Ranges::choose(&Wish::from(&ranges), &[], 3).expect("free"),
        ranges
    );
}

#[rstest]
#[case(IpFamily::Ipv4, "172.30.0.1/24", "172.30.0.2", "172.30.0.11", "10.96.0.1")]
#[case(
    IpFamily::Ipv6,
    "fd00:172:30::1/64",
    "fd00:172:30::2",
    "fd00:172:30::11",
    "fd00:10:96::1"
)]
fn the_roles_have_their_addresses(
    #[case] family: IpFamily,
    #[case] gateway: &str,
    #[case] server: &str,
    #[case] node: &str,
    #[case] service: &str,
) {
    let ranges = Ranges::choose(&of(family), &[], 3).expect("free");
    let preferred = ranges.preferred();
    assert_eq!(preferred.gateway(), net(gateway));
    assert_eq!(preferred.server().to_string(), server);
    assert_eq!(preferred.node(0).expect("room").to_string(), node);
    assert_eq!(preferred.first_service().to_string(), service);
}

#[test]
fn load_balancers_have_the_end_of_the_node_network() {
    let ranges = Ranges::choose(&of(IpFamily::Dual), &[], 3).expect("free");
    let expected = ["172.30.0.200-172.30.0.250", "fd00:172:30::200-fd00:172:30::250"];
    assert_eq!(ranges.load_balancers(), expected);
}

#[test]
fn numbers_are_written_alike_in_both_families() {
    let ranges = Ranges::choose(&of(IpFamily::Dual), &[], 100).expect("free");
    let last: Vec<String> = ranges
        .iter()
        .map(|ranges| ranges.node(99).expect("room").to_string())
        .collect();
    assert_eq!(last, ["172.30.0.110", "fd00:172:30::110"]);
}

proptest! {
    #[test]
    fn what_is_chosen_overlaps_nothing(
        used in prop::collection::vec((any::<bool>(), any::<u16>(), 20_u8..=32), 0..40),
    ) {
        let used: Vec<Taken> = used
            .into_iter()
            .map(|(is_ipv4, low, length)| {
                let range = match is_ipv4 {
                    true => format!("172.30.{}.{}/{length}", low >> 8, low & 0xff),
                    // Around the /64 of each candidate.
                    false => format!("fd00:172:30:{:x}::/{}", low & 0xff, length + 34),
                };
                Taken { range: net(&range).trunc(), by: String::new() }
            })
            .collect();
        if let Ok(ranges) = Ranges::choose(&of(IpFamily::Dual), &used, 3) {
            for (network, other) in ranges.node_networks().iter().flat_map(|network| used.iter().map(move |other| (network, other))) {
                prop_assert!(!overlap(*network, other.range));
            }
        }
    }
}
