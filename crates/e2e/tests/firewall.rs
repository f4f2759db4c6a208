//! Beside a firewall that drops what it doesn't know, as Docker's and ufw's do.
//!
//! The "machine" is a network namespace of the test's own, with one link to an "outside" namespace, so
//! that the real machine's firewall stays as it is.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use e2e::{Cluster, Options, Traces, run};
use kernel::{NetNs, link::VethEnd, route::Route};
use testkit::{Echo, TestNs};

const MACHINE: &str = "198.51.100.1";
const OUTSIDE: &str = "198.51.100.2";

async fn machine_and_outside() -> (TestNs, TestNs) {
    let (machine, outside) = (TestNs::new("machine").await, TestNs::new("outside").await);
    let near = VethEnd {
        name: "uplink",
        up: true,
        ..VethEnd::default()
    };
    let far = VethEnd {
        name: "uplink",
        netns: Some(&outside),
        ..VethEnd::default()
    };
    machine
        .netlink()
        .add_veth(&near, &far)
        .await
        .expect("making a veth pair");
    for (netns, address) in [(&machine, MACHINE), (&outside, OUTSIDE)] {
        let netlink = netns.netlink();
        netlink.set_up("uplink").await.expect("setting the link up");
        let link = netlink
            .link_index("uplink")
            .await
            .expect("the link that was just made");
        let address = format!("{address}/24").parse().expect("an address");
        netlink
            .add_address(link, address)
            .await
            .expect("giving it an address");
    }
    let netlink = machine.netlink();
    let link = netlink
        .link_index("uplink")
        .await
        .expect("the link that was just made");
    let gateway: IpAddr = OUTSIDE.parse().expect("an address");
    netlink
        .add_route(&Route::default_via(gateway, link))
        .await
        .expect("a default route");
    (machine, outside)
}

fn firewall(args: &[&str]) -> String {
    run(Command::new("iptables").args(args), None).ok()
}

#[tokio::test]
async fn pods_reach_outside_although_the_machine_drops_what_it_forwards() {
    let (machine, outside) = machine_and_outside().await;
    let server = Echo::start(&outside);
    // Everything below, kubectl and ripstop included, runs on this thread's "machine".
    let machine: &NetNs = &machine;
    let _inside = machine.enter().expect("entering the machine's namespace");
    for chain in ["FORWARD", "INPUT"] {
        firewall(&["-P", chain, "DROP"]);
    }
    firewall(&[
        "-A",
        "INPUT",
        "-m",
        "conntrack",
        "--ctstate",
        "ESTABLISHED,RELATED",
        "-j",
        "ACCEPT",
    ]);
    let before = firewall(&["-S"]);

    let cluster = Cluster::up(
        "e2e-firewall",
        &Options {
            nodes: 2,
            ..Options::default()
        },
    );
    cluster.deployment("web", 2);
    let pods = cluster.pods("web");
    let url = format!("http://{}:8080/", pods[1].ip);
    cluster
        .exec(&pods[0].name, &["timeout", "5", "wget", "-qO-", &url])
        .ok();

    let address = SocketAddr::new(OUTSIDE.parse().expect("an address"), server.port);
    let ask = format!(
        "timeout 3 nc {} {} </dev/null | head -n 1",
        address.ip(),
        address.port()
    );
    let seen = cluster.exec(&pods[0].name, &["sh", "-c", &ask]).ok();
    assert_eq!(seen.trim(), MACHINE, "the outside sees the machine's address");

    let name = cluster.name().to_owned();
    drop(cluster);
    Traces::of(&name).assert_none();
    assert_eq!(firewall(&["-S"]), before, "the firewall is as it was");
}
