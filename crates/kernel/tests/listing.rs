//! Our text form of a table beside what `nft list` prints of the same one.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::net::SocketAddr;
use std::process::Command;

use kernel::nftables::Nft;
use model::{Node, NodeFacts, Snapshot, Uplink};
use nft::{Atom, Elements, Entry, Key, Table, Tuple};
use plan::Object;
use testkit::TestNs;

fn listed(ns: &TestNs) -> String {
    let output = ns.within(|| {
        Command::new("nft")
            .args(["list", "table", "inet", plan::TABLE])
            .output()
    });
    let output = output.expect("nft runs: the tests need Debian's package nftables");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn mapping(key: &[Atom], to: &str) -> Entry {
    let to: SocketAddr = to.parse().unwrap();
    Entry {
        key: Key::Joined(Tuple::new(key)),
        data: Some(to.into()),
    }
}

#[tokio::test]
async fn it_reads_as_nft_prints_it() {
    let ns = TestNs::new("list").await;
    let nft = Nft::open(&ns).unwrap();
    let table = plan::table();
    let mut elements = Elements::new();
    let at = Atom::Address("172.30.0.11".parse().unwrap());
    elements.insert(
        "host_ports4",
        mapping(&[Atom::Protocol(6), Atom::Port(8080)], "10.244.0.5:80"),
    );
    elements.insert(
        "host_ports_at4",
        mapping(&[at, Atom::Protocol(17), Atom::Port(53)], "10.244.0.5:5353"),
    );
    reads_alike(&ns, &nft, &table, &elements);
}

/// A node that has tunnels.
#[tokio::test]
async fn it_reads_as_nft_prints_it_with_tunnels() {
    let ns = TestNs::new("list").await;
    let nft = Nft::open(&ns).unwrap();
    let mut snapshot = Snapshot::default();
    for (name, address, block) in [
        ("a", "172.30.0.11", "10.244.0.0/24"),
        ("b", "192.0.2.7", "10.244.1.0/24"),
    ] {
        let node = Node {
            addresses: vec![address.parse().unwrap()],
            pod_cidrs: vec![block.parse().unwrap()],
            ..Node::default()
        };
        snapshot.nodes.insert(name.to_owned(), node);
    }
    let facts = NodeFacts {
        name: "a".to_owned(),
        uplink: Uplink {
            name: "eth0".to_owned(),
            mtu: 1500,
            addresses: vec!["172.30.0.11/24".parse().unwrap()],
        },
        ..NodeFacts::default()
    };
    let plan = plan::plan(&snapshot, &facts);
    let table = plan.objects().find_map(|object| match object {
        Object::Table(table) => Some(table),
        _ => None,
    });
    let table = table.unwrap();
    assert_eq!(table.chains.len(), plan::table().chains.len() + 2);
    reads_alike(&ns, &nft, table, &plan::elements(plan.objects()));
}

fn reads_alike(ns: &TestNs, nft: &Nft, table: &Table, elements: &Elements) {
    nft.apply(table, elements).unwrap();
    let ours = nft::with_elements(table, elements).to_string();
    let ours: Vec<&str> = ours.lines().collect();
    // What was counted isn't part of a rule.
    let theirs = listed(ns).replace("counter packets 0 bytes 0", "counter");
    let theirs: Vec<&str> = theirs.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(ours, theirs);
}
