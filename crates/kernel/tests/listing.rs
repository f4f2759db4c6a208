//! Our text form of a table beside what `nft list` prints of the same one.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::net::SocketAddr;
use std::process::Command;

use kernel::nftables::Nft;
use nft::{Atom, Elements, Entry, Key, Tuple};
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
    nft.apply(&table, &elements).unwrap();
    let ours = nft::with_elements(&table, &elements).to_string();
    let ours: Vec<&str> = ours.lines().collect();
    let theirs = listed(&ns);
    let theirs: Vec<&str> = theirs.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(ours, theirs);
}
