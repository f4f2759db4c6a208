//! The low level against a real kernel, in namespaces of the tests' own.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kernel::link::{LinkChange, VethEnd};
use kernel::neigh::Neighbour;
use kernel::route::{PROTOCOL, Route, RouteKind};
use kernel::{NetNs, Netlink, gratuitous, sysctl};
use model::MacAddr;
use testkit::{Lan, Pong, TestNs, ping};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_named_namespace_is_found_by_name_and_gone_after_delete() {
    let name = testkit::unique("named");
    let made = NetNs::create_named(&name).unwrap();
    assert_eq!(NetNs::open_named(&name).unwrap(), made);
    assert_ne!(NetNs::current().unwrap(), made);
    assert!(NetNs::names().unwrap().contains(&name));
    assert!(NetNs::create_named(&name).unwrap_err().is_exists());
    assert!(NetNs::delete_named(&name).unwrap());
    assert!(!NetNs::delete_named(&name).unwrap());
    assert!(NetNs::open_named(&name).unwrap_err().is_not_found());
}

#[tokio::test]
async fn the_guard_brings_the_thread_back() {
    let other = NetNs::anonymous().unwrap();
    let own = NetNs::current().unwrap();
    let guard = other.enter().unwrap();
    assert_eq!(NetNs::current().unwrap(), other);
    drop(guard);
    assert_eq!(NetNs::current().unwrap(), own);
}

#[tokio::test]
async fn a_veth_pair_is_born_with_each_end_in_place() {
    let (here, there) = (TestNs::new("here").await, TestNs::new("there").await);
    let netlink = here.netlink();
    let mac = MacAddr::local(7);
    let near = VethEnd {
        name: "near",
        mtu: Some(1400),
        ..VethEnd::default()
    };
    let far = VethEnd {
        name: "eth0",
        address: Some(mac),
        mtu: Some(1400),
        netns: Some(&there),
        ..VethEnd::default()
    };
    netlink.add_veth(&near, &far).await.unwrap();
    let near = netlink.link("near").await.unwrap().unwrap();
    let far = there.netlink().link("eth0").await.unwrap().unwrap();
    assert_eq!(
        (near.kind.as_str(), near.mtu, near.up, near.peer),
        ("veth", 1400, false, Some(far.index))
    );
    assert_eq!(
        (far.mtu, far.up, far.peer, far.address),
        (1400, false, Some(near.index), Some(mac))
    );

    let change = LinkChange {
        alias: Some("for people"),
        name: Some("other"),
        up: Some(true),
        ..LinkChange::default()
    };
    netlink.set_link(near.index, &change).await.unwrap();
    let near = netlink.link("other").await.unwrap().unwrap();
    assert_eq!((near.alias.as_deref(), near.up), (Some("for people"), true));
    assert!(netlink.delete_link("other").await.unwrap());
    assert!(!netlink.delete_link("other").await.unwrap());
    assert_eq!(there.netlink().link("eth0").await.unwrap(), None);
}

#[tokio::test]
async fn links_deleted_at_the_same_time_are_gone_and_their_names_free() {
    let (here, there) = (TestNs::new("here").await, TestNs::new("there").await);
    let netlink = here.netlink();
    let names: Vec<String> = (0..20).map(|number| format!("pod{number}")).collect();
    for _ in 0..2 {
        for name in &names {
            let ends = [name, name].map(|name| VethEnd {
                name,
                ..VethEnd::default()
            });
            let far = VethEnd {
                netns: Some(&there),
                ..ends[1].clone()
            };
            netlink.add_veth(&ends[0], &far).await.unwrap();
        }
        let deletions = names.iter().map(|name| netlink.delete_link(name));
        for deleted in futures::future::join_all(deletions).await {
            assert!(deleted.unwrap());
        }
        for ns in [&here, &there] {
            let left = ns.netlink().links().await.unwrap();
            assert!(left.iter().all(|link| link.kind != "veth"), "{left:?}");
        }
    }
}

#[tokio::test]
async fn a_link_that_may_not_be_deleted_says_why() {
    let here = TestNs::new("here").await;
    let error = here.netlink().delete_link("lo").await.unwrap_err();
    assert!(
        error.to_string().starts_with("cannot delete link lo: "),
        "{error}"
    );
    assert!(here.netlink().link("lo").await.unwrap().is_some());
}

#[tokio::test]
async fn a_refused_veth_leaves_nothing() {
    let (here, there) = (TestNs::new("here").await, TestNs::new("there").await);
    let (near, far) = (
        VethEnd {
            name: "a",
            ..VethEnd::default()
        },
        VethEnd {
            name: "lo",
            netns: Some(&there),
            ..VethEnd::default()
        },
    );
    assert!(
        here.netlink()
            .add_veth(&near, &far)
            .await
            .unwrap_err()
            .is_exists()
    );
    assert_eq!(here.netlink().link("a").await.unwrap(), None);
}

#[tokio::test]
async fn routes_and_neighbours_read_back_as_written() {
    let lan = Lan::new(1).await;
    let netlink = lan.nodes[0].netns.netlink();
    let link = netlink.link_index("eth0").await.unwrap();
    let routes = [
        Route {
            source: Some(ip("172.30.0.11")),
            ..Route::via(net("10.244.1.0/24"), ip("172.30.0.12"), link)
        },
        Route::to_link(net("10.244.0.5/32"), link),
        Route::unreachable(net("10.244.0.0/24")),
        Route {
            source: Some(ip("fd00:172:30::11")),
            ..Route::via(net("fd00:10:244:1::/64"), ip("fd00:172:30::12"), link)
        },
        Route::to_link(net("fd00:10:244::5/128"), link),
        Route::unreachable(net("fd00:10:244::/64")),
        Route::default_via(ip("172.30.0.1"), link),
        Route::default_via(ip("fd00:172:30::1"), link),
    ];
    for route in &routes {
        netlink.replace_route(route).await.unwrap();
        assert!(!netlink.add_route(route).await.unwrap(), "{route:?}");
    }
    let mut expected = routes.to_vec();
    let mut found = netlink.own_routes().await.unwrap();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert!(
        netlink
            .routes()
            .await
            .unwrap()
            .iter()
            .any(|route| route.protocol != PROTOCOL)
    );
    assert_eq!(
        ping(&lan.nodes[0].netns, ip("10.244.0.9"), 8).unwrap(),
        Pong::Unreachable {
            from: ip("10.244.0.9")
        }
    );
    for route in &routes {
        assert!(netlink.delete_route(route).await.unwrap(), "{route:?}");
        assert!(!netlink.delete_route(route).await.unwrap(), "{route:?}");
    }
    assert!(found.iter().any(|route| route.kind == RouteKind::Unreachable));

    for address in [ip("10.244.0.5"), ip("fd00:10:244::5")] {
        let neighbour = Neighbour {
            link,
            address,
            mac: MacAddr::local(1),
        };
        netlink.replace_neighbour(&neighbour).await.unwrap();
        assert!(netlink.neighbours().await.unwrap().contains(&neighbour));
        assert!(netlink.delete_neighbour(&neighbour).await.unwrap());
        assert!(!netlink.delete_neighbour(&neighbour).await.unwrap());
    }
}

#[tokio::test]
async fn a_route_is_replaced_only_if_its_ours() {
    let lan = Lan::new(1).await;
    let netlink = lan.nodes[0].netns.netlink();
    let link = netlink.link_index("eth0").await.unwrap();
    for (block, one, two) in [
        ("10.9.0.0/16", "172.30.0.1", "172.30.0.12"),
        ("fd09::/48", "fd00:172:30::1", "fd00:172:30::12"),
    ] {
        let foreign = Route {
            protocol: 4,
            ..Route::via(net(block), ip(one), link)
        };
        netlink.replace_route(&foreign).await.unwrap();
        let ours = Route::via(net(block), ip(two), link);
        let error = netlink.replace_route(&ours).await.unwrap_err();
        assert!(error.to_string().contains("did not make"), "{error}");
        assert!(netlink.routes().await.unwrap().contains(&foreign));
        assert!(netlink.delete_route(&foreign).await.unwrap());
        netlink.replace_route(&ours).await.unwrap();
        let changed = Route::via(net(block), ip(one), link);
        netlink.replace_route(&changed).await.unwrap();
        assert_eq!(
            netlink.own_routes().await.unwrap(),
            std::slice::from_ref(&changed)
        );
        assert!(netlink.delete_route(&changed).await.unwrap());
    }
}

#[tokio::test]
async fn nodes_of_a_lan_reach_each_other_in_both_families() {
    let lan = Lan::new(2).await;
    for address in lan.nodes[1].addresses() {
        assert_eq!(
            ping(&lan.nodes[0].netns, address, 1400).unwrap(),
            Pong::Reply,
            "{address}"
        );
    }
}

#[tokio::test]
async fn sysctls_are_the_namespaces_own() {
    let ns = TestNs::new("sysctl").await;
    let forward = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
    ];
    let before = ns.within(|| sysctl::read("net/ipv4/ip_forward").unwrap());
    assert_eq!(before.as_deref(), Some("0"));
    assert_eq!(sysctl::write_in(&ns, &forward).unwrap(), 2);
    assert_eq!(sysctl::write_in(&ns, &forward).unwrap(), 0);
    assert_eq!(
        ns.within(|| sysctl::read("net/ipv4/no_such_thing").unwrap()),
        None
    );
}

#[tokio::test]
async fn refusals_carry_the_kernels_words() {
    let ns = TestNs::new("refusal").await;
    let error = ns
        .netlink()
        .replace_route(&Route::via(net("10.0.0.0/8"), ip("192.0.2.1"), 1))
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @"cannot set route 10.0.0.0/8: Nexthop has invalid gateway (Network is unreachable (os error 101))");
}

#[tokio::test]
async fn who_takes_an_address_over_is_reached_by_it_at_once() {
    let lan = Lan::new(2).await;
    for address in [ip("172.30.0.200"), ip("fd00:172:30::200")] {
        for node in &lan.nodes {
            let netlink = node.netns.netlink();
            let links = netlink.links().await.unwrap();
            let link = links.iter().find(|link| link.name == "eth0").unwrap();
            let hold = || netlink.hold_address(link.index, address, Duration::from_secs(60));
            hold().await.unwrap();
            hold().await.expect("a second time is for longer");
            netlink.wait_address(address).await.unwrap();
            gratuitous::tell(&netlink, link.index, link.address.unwrap(), &[address]).unwrap();
            assert_eq!(ping(&lan.switch, address, 56).unwrap(), Pong::Reply, "{address}");
            assert_eq!(netlink.held_addresses(link.index).await.unwrap(), [address]);
            // The last is the first to let go of it: without being told, the switch would go on asking the other.
            if node.v4 == lan.nodes[1].v4 {
                let first = lan.nodes[0].netns.netlink();
                assert!(
                    first
                        .release_address(link_of(&first).await, address)
                        .await
                        .unwrap()
                );
                assert_eq!(ping(&lan.switch, address, 56).unwrap(), Pong::Reply, "{address}");
                assert!(netlink.release_address(link.index, address).await.unwrap());
            }
        }
    }
}

async fn link_of(netlink: &Netlink) -> u32 {
    let links = netlink.links().await.unwrap();
    links.iter().find(|link| link.name == "eth0").unwrap().index
}

#[tokio::test]
async fn a_held_address_goes_when_nobody_holds_on_to_it_and_is_no_fact_of_the_node() {
    let lan = Lan::new(1).await;
    let netlink = lan.nodes[0].netns.netlink();
    let link = link_of(&netlink).await;
    let before = kernel::facts::facts(&netlink, "a", &lan.nodes[0].addresses())
        .await
        .unwrap();
    for address in [ip("172.30.0.200"), ip("fd00:172:30::200")] {
        netlink
            .hold_address(link, address, Duration::from_secs(1))
            .await
            .unwrap();
    }
    let facts = kernel::facts::facts(&netlink, "a", &lan.nodes[0].addresses())
        .await
        .unwrap();
    assert_eq!(facts, before);
    let end = Instant::now() + Duration::from_secs(60);
    while !netlink.held_addresses(link).await.unwrap().is_empty() {
        assert!(Instant::now() < end, "the kernel lets go of it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
