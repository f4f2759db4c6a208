//! The machine's namespace, played by one of the test's own: nodes behind a link, an outside, and
//! firewalls in between.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use kernel::NetNs;
use kernel::link::VethEnd;
use kernel::machine::{Changed, Machine, NodeNetwork};
use kernel::nftables::Nft;
use kernel::route::Route;
use nft::{
    Base, Batch, ChainKind, Change, Expr, Family, Field, Hook, Object, Place, Policy, Request, Rule, Verdict,
    priority,
};
use testkit::{Echo, TestNs, ask};

/// A node, the machine, and another host that doesn't know the nodes' network.
struct Site {
    node: TestNs,
    machine: TestNs,
    outside: TestNs,
    nets: Vec<IpNet>,
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn join(machine: &TestNs, link: &str, other: &TestNs, addresses: [(&str, &str); 2]) {
    let (near, far) = (
        VethEnd {
            name: link,
            up: true,
            ..VethEnd::default()
        },
        VethEnd {
            name: "eth0",
            netns: Some(other),
            ..VethEnd::default()
        },
    );
    let (here, there) = (machine.netlink(), other.netlink());
    here.add_veth(&near, &far).await.unwrap();
    there.set_up("eth0").await.unwrap();
    there.wait_running("eth0").await.unwrap();
    here.wait_running(link).await.unwrap();
    let (near, far) = (
        here.link_index(link).await.unwrap(),
        there.link_index("eth0").await.unwrap(),
    );
    for (machine, other) in addresses {
        here.add_address(near, net(machine)).await.unwrap();
        there.add_address(far, net(other)).await.unwrap();
    }
}

impl Site {
    async fn new() -> Site {
        let (node, machine, outside) = (
            TestNs::new("node").await,
            TestNs::new("machine").await,
            TestNs::new("outside").await,
        );
        join(
            &machine,
            "rs-test",
            &node,
            [
                ("172.30.0.1/24", "172.30.0.11/24"),
                ("fd00:172:30::1/64", "fd00:172:30::11/64"),
            ],
        )
        .await;
        join(
            &machine,
            "wan",
            &outside,
            [
                ("192.0.2.1/24", "192.0.2.2/24"),
                ("2001:db8::1/64", "2001:db8::2/64"),
            ],
        )
        .await;
        let netlink = node.netlink();
        let link = netlink.link_index("eth0").await.unwrap();
        for gateway in ["172.30.0.1", "fd00:172:30::1"] {
            netlink
                .replace_route(&Route::default_via(ip(gateway), link))
                .await
                .unwrap();
        }
        Site {
            node,
            machine,
            outside,
            nets: vec![net("172.30.0.0/24"), net("fd00:172:30::/64")],
        }
    }

    fn network(&self) -> NodeNetwork<'_> {
        NodeNetwork {
            cluster: "test",
            link: "rs-test",
            nets: &self.nets,
        }
    }

    fn open(&self) -> (Machine, Nft) {
        (
            Machine::open(NetNs::open(self.machine.path()).unwrap()).unwrap(),
            Nft::open(&self.machine).unwrap(),
        )
    }

    /// Under which addresses the outside sees the node; `None` where it doesn't.
    fn seen_outside(&self) -> [Option<IpAddr>; 2] {
        let echo = Echo::start(&self.outside);
        ["192.0.2.2", "2001:db8::2"]
            .map(|address| ask(&self.node, SocketAddr::new(ip(address), echo.port)).ok())
    }
}

fn all(nft: &Nft) -> Vec<Object> {
    let tables = nft.dump(Request::Tables).unwrap();
    let mut objects = nft.dump(Request::Chains).unwrap();
    for table in &tables {
        if let Object::Table(place, _) = table {
            objects.extend(nft.dump(Request::Rules(place)).unwrap());
        }
    }
    objects.extend(tables);
    objects
}

/// Chains as Docker's and ufw's, that drop, and one that lets all pass.
fn firewall(nft: &Nft) {
    let base = |policy| {
        Some(Base {
            kind: ChainKind::Filter,
            hook: Hook::Forward,
            priority: priority::FILTER,
            policy,
        })
    };
    let mut batch = Batch::new();
    for family in [Family::Ip, Family::Ip6] {
        let place = Place::new(family, "filter");
        batch.push(&place, &Change::AddTable);
        batch.push(&place, &Change::AddChain("FORWARD".into(), base(Policy::Drop)));
    }
    let reject = Place::new(Family::Inet, "other");
    batch.push(&reject, &Change::AddTable);
    batch.push(&reject, &Change::AddChain("forward".into(), base(Policy::Accept)));
    let rule = Rule {
        exprs: vec![Expr::eq(Field::IifName, "rs-test"), Expr::Verdict(Verdict::Drop)],
        comment: Some("theirs".into()),
    };
    batch.push(&reject, &Change::AddRule("forward".into(), rule));
    let harmless = Place::new(Family::Inet, "harmless");
    batch.push(&harmless, &Change::AddTable);
    batch.push(
        &harmless,
        &Change::AddChain("forward".into(), base(Policy::Accept)),
    );
    nft.commit(batch).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_reach_the_outside_under_the_machines_address_and_only_answers_come_back() {
    let site = Site::new().await;
    let (machine, _) = site.open();
    let changed = machine.forward(true, true).unwrap();
    assert!(
        changed.contains(&Changed {
            key: "net/ipv4/ip_forward".to_owned(),
            before: "0".to_owned(),
            now: "1",
        }),
        "{changed:?}"
    );
    assert_eq!(machine.forward(true, true).unwrap(), []);
    assert!(machine.masquerade(site.network()).unwrap() > 0);
    assert_eq!(machine.masquerade(site.network()).unwrap(), 0);
    assert_eq!(
        site.seen_outside(),
        [Some(ip("192.0.2.1")), Some(ip("2001:db8::1"))]
    );

    // The machine itself reaches the node; another host that tries to go through it doesn't.
    let echo = Echo::start(&site.node);
    let node = SocketAddr::new(ip("172.30.0.11"), echo.port);
    assert_eq!(ask(&site.machine, node).unwrap(), ip("172.30.0.1"));
    let netlink = site.outside.netlink();
    let link = netlink.link_index("eth0").await.unwrap();
    netlink
        .replace_route(&Route::via(net("172.30.0.0/24"), ip("192.0.2.1"), link))
        .await
        .unwrap();
    assert!(ask(&site.outside, node).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn firewalls_that_drop_let_the_nodes_through_and_are_left_as_they_were() {
    let site = Site::new().await;
    let (machine, nft) = site.open();
    machine.forward(true, true).unwrap();
    firewall(&nft);
    let before = all(&nft);
    machine.masquerade(site.network()).unwrap();
    assert_eq!(site.seen_outside(), [None, None]);

    let allowed = machine.allow_forwarding(site.network()).unwrap();
    assert_eq!((allowed.rules, allowed.problems), (6, vec![]));
    assert_eq!(
        site.seen_outside(),
        [Some(ip("192.0.2.1")), Some(ip("2001:db8::1"))]
    );
    assert_eq!(machine.allow_forwarding(site.network()).unwrap().rules, 0);

    // Docker restarts: its chain is made anew.
    let place = Place::new(Family::Ip, "filter");
    nft.change(&place, &[Change::FlushChain("FORWARD".into())])
        .unwrap();
    assert_eq!(machine.allow_forwarding(site.network()).unwrap().rules, 2);

    // Another cluster's rules aren't ours.
    let other = NodeNetwork {
        cluster: "test2",
        link: "rs-test2",
        nets: &[],
    };
    machine.allow_forwarding(other).unwrap();
    assert_eq!(machine.remove("test2").unwrap(), 6);
    assert_eq!(
        site.seen_outside(),
        [Some(ip("192.0.2.1")), Some(ip("2001:db8::1"))]
    );

    assert_eq!(machine.remove("test").unwrap(), 7);
    assert_eq!(all(&nft), before);
    assert_eq!(machine.remove("test").unwrap(), 0);
}
