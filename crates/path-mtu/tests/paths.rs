//! Paths between namespaces, whole and otherwise.

use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use path_mtu::{Answerer, Fate, Found, Patience, Target, measure};
use testkit::{Lan, TestNs};

fn from(netns: &TestNs, target: Target) -> Found {
    let measured = netns.run(|| measure(target, Patience::default()));
    measured.expect("a namespace").expect("a way there")
}

/// What both kinds of targets say about the way from one node to the other, in both families; all at
/// once, as losses take their time.
fn both_kinds(lan: &Lan, from_node: usize, to_node: usize) -> [(Found, Found); 2] {
    let (here, there) = (&lan.nodes[from_node].netns, &lan.nodes[to_node]);
    thread::scope(|scope| {
        let begun = there.addresses().map(|address: IpAddr| {
            let answerer = there.netns.run(|| Answerer::listen(address));
            let answerer = answerer.expect("a namespace").expect("its address");
            let told = scope.spawn(move || from(here, Target::Udp(answerer.at())));
            let pinged = scope.spawn(move || from(here, Target::Ping(address)));
            (told, pinged)
        });
        begun.map(|(told, pinged)| (told.join().expect("no panic"), pinged.join().expect("no panic")))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_link_is_measured_whole() {
    let lan = Lan::new(2).await;
    let whole = Found {
        link: "eth0".to_owned(),
        link_mtu: 1500,
        carries: Some(1500),
        larger: Fate::Refused,
    };
    for (told, pinged) in both_kinds(&lan, 0, 1) {
        assert_eq!((&told, &pinged), (&whole, &whole));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_smaller_at_the_other_end_loses_what_is_sent_into_it() {
    let lan = Lan::new(2).await;
    lan.silence();
    lan.set_link_mtu(1, 1300).await;
    for (told, pinged) in both_kinds(&lan, 0, 1) {
        // A link takes a VLAN tag's four bytes more than it says.
        assert_eq!(
            (told.link_mtu, told.carries, told.larger),
            (1500, Some(1304), Fate::Lost)
        );
        assert_eq!((pinged.carries, pinged.larger), (Some(1304), Fate::Lost));
    }
    // The other way this end knows.
    for (told, pinged) in both_kinds(&lan, 1, 0) {
        assert_eq!(
            (told.link_mtu, told.carries, told.larger),
            (1300, Some(1300), Fate::Refused)
        );
        assert_eq!((pinged.carries, pinged.larger), (Some(1300), Fate::Refused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_passes_less_and_says_so_is_believed() {
    let lan = Lan::routed(&[1, 1]).await;
    lan.set_way_mtu(1, 1400).await;
    for (told, pinged) in both_kinds(&lan, 0, 1) {
        assert_eq!(
            (told.link_mtu, told.carries, told.larger),
            (1500, Some(1400), Fate::Refused)
        );
        assert_eq!(pinged.carries, Some(1400));
    }
}

#[test]
fn loopback_carries_what_it_says_and_its_own_end_refuses_more() {
    let answerer = Answerer::listen([127, 0, 0, 1].into()).expect("loopback");
    let found = measure(Target::Udp(answerer.at()), Patience::default()).expect("a way there");
    assert_eq!((found.link.as_str(), found.link_mtu), ("lo", 65536));
    // No datagram is larger than 65507 bytes and its headers.
    assert_eq!((found.carries, found.larger), (Some(65535), Fate::Refused));
}

#[test]
fn who_does_not_answer_is_found_out_in_the_end() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let patience = Patience {
        limit: Duration::from_millis(5),
        tries: 1,
    };
    let to = Target::Udp(silent.local_addr().expect("an address"));
    let found = measure(to, patience).expect("a way there");
    assert_eq!((found.carries, found.larger), (None, Fate::Lost));
}
