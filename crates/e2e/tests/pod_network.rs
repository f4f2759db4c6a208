//! Every kind of pod network, in every family.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::{Cluster, Options, Outcome, Pod, eventually, run};
use kernel::NetNs;
use rstest::rstest;
use serde_json::Value;
use testkit::Capture;

/// Two nodes, between whose pods nothing is translated, and on which every check passes.
fn checked(name: &str, family: &'static str, mode: &str) -> (Cluster, Value) {
    let options = Options {
        nodes: 2,
        ..Options::of(family)
    };
    let cluster = Cluster::up_with(name, &options, &["--pod-network", mode]);
    cluster.wait_nodes("condition=Ready", Duration::from_secs(30));
    assert_untranslated(&cluster);
    let report = cluster.ripstop(&["check", "-o", "json"]).ok();
    let report: Value = serde_json::from_str(&report).expect("a report in JSON");
    for row in report["rows"].as_array().expect("rows") {
        // Whether names outside can be found is the machine's matter first.
        let wanted = match row["check"] == "outside names in pods" && row["result"] == "skipped" {
            true => "skipped",
            false => "passed",
        };
        assert_eq!(row["result"], wanted, "{row}");
    }
    (cluster, report)
}

// IPv4 in tunnels is below.
#[rstest]
#[case("ipv4", "auto")]
#[case("ipv4", "native")]
#[case("ipv6", "auto")]
#[case("ipv6", "native")]
#[case("ipv6", "vxlan")]
#[case("dual", "auto")]
#[case("dual", "native")]
#[case("dual", "vxlan")]
fn every_check_passes_and_nothing_is_translated(#[case] family: &'static str, #[case] mode: &str) {
    checked(&format!("e2e-{family}-{mode}"), family, mode);
}

/// Captures what a pod of one node and a pod of the other say, on both nodes.
#[track_caller]
fn assert_untranslated(cluster: &Cluster) {
    cluster.deployment("web", 2);
    let pods = cluster.pods("web");
    let [client, server] = pods.as_slice() else {
        panic!("two pods: {pods:?}");
    };
    assert_ne!(client.node, server.node, "one on each node");
    for (url, own) in server.urls(PORT, "/", client) {
        let captures = [client, server].map(|pod| Capture::start(&netns(cluster, pod)));
        cluster.exec(&client.name, &["toolbox", "get", &url]).ok();
        let like = |ip: &&IpAddr| ip.is_ipv4() == own.is_ipv4();
        let its = *server.ips.iter().find(like).expect("an address of the family");
        let untranslated = BTreeSet::from([(own, its), (its, own)]);
        for (pod, capture) in [client, server].into_iter().zip(captures) {
            eventually(Duration::from_secs(20), || {
                let frames = capture.frames();
                let pairs: BTreeSet<_> = frames.iter().filter_map(|frame| ends(frame)).collect();
                match pairs == untranslated {
                    true => Ok(()),
                    false => Err(format!("{url} on {}: {pairs:?}", pod.node)),
                }
            });
        }
    }
}

/// Where the toolbox answers HTTP.
const PORT: u16 = 8080;

fn netns(cluster: &Cluster, pod: &Pod) -> NetNs {
    let name = format!("ripstop-{}-{}", cluster.name(), pod.node);
    NetNs::open(Path::new("/run/netns").join(name)).expect("the node's namespace")
}

/// Source and destination of a frame from or to [`PORT`] by TCP.
fn ends(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    const TCP: u8 = 6;
    let (kind, packet) = (frame.get(12..14)?, frame.get(14..)?);
    let (protocol, from, to, segment) = match kind {
        [0x08, 0x00] => {
            let header = usize::from(packet.first()? & 0xf) * 4;
            let address = |at: usize| Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into());
            (packet.get(9)?, address(12)?, address(16)?, packet.get(header..)?)
        }
        [0x86, 0xdd] => {
            let address = |at: usize| Some(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?.into());
            (packet.get(6)?, address(8)?, address(24)?, packet.get(40..)?)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(segment.get(at..at + 2)?.try_into().ok()?));
    let of_port = *protocol == TCP && (port(0)? == PORT || port(2)? == PORT);
    of_port.then_some((from, to))
}

#[test]
fn a_cluster_of_tunnels_carries_what_is_left_of_the_links() {
    let (cluster, report) = checked("e2e-ipv4-vxlan", "ipv4", "vxlan");
    let rows = report["rows"].as_array().expect("rows");
    let carried: Vec<&str> = rows
        .iter()
        .filter(|row| row["check"] == "path MTU between pods")
        .filter_map(|row| row["detail"].as_str())
        .collect();
    assert_eq!(carried.len(), 2, "a row for each pair: {report:#}");
    // The nodes' links take 1500.
    assert!(
        carried.iter().all(|detail| detail.starts_with("1450 bytes")),
        "{carried:?}"
    );

    let status = cluster.ripstop(&["status", "-o", "json"]).ok();
    let status: Value = serde_json::from_str(&status).expect("a status in JSON");
    assert_eq!(status["podNetwork"], "vxlan");
    // It is what it was made as.
    let refused = cluster.ripstop(&["up", "--no-kubeconfig", "--pod-network", "native"]);
    let said = refused.refused();
    assert!(
        said.contains("has the pod network vxlan, and native was asked for"),
        "{said}"
    );
    cluster.ripstop(&["up", "--no-kubeconfig"]).ok();

    assert_mismatches_are_named(&cluster);
}

/// Makes what lies between two nodes take less than their links claim, in three ways, and reads what
/// `ripstop check` says of it; each time it is as before afterwards.
#[track_caller]
fn assert_mismatches_are_named(cluster: &Cluster) {
    let switch = format!("ripstop-{}-switch", cluster.name());
    let node = format!("ripstop-{}-node-2", cluster.name());
    let set_mtu = |netns: &str, link: &str, mtu: &str| {
        let words = ["-n", netns, "link", "set", link, "mtu", mtu];
        run(Command::new("ip").args(words), None).ok();
    };
    let failures = |outcome: Outcome| {
        assert_ne!(outcome.code, Some(0), "{outcome:?}");
        let report: Value = serde_json::from_str(&outcome.stdout).expect("a report in JSON");
        let rows = report["rows"].as_array().expect("rows").clone();
        rows.into_iter()
            .filter(|row| row["result"] == "failed")
            .collect::<Vec<_>>()
    };
    let of_path = |failures: &[Value], path: &str| -> String {
        let is = |row: &&Value| row["check"] == "path MTU between nodes" && row["path"] == path;
        let found = failures.iter().find(is);
        found
            .unwrap_or_else(|| panic!("no ✗ for {path}: {failures:#?}"))
            .to_string()
    };

    // The port of the switch that a node is plugged into: not even its agent's own packets pass. A port
    // takes a VLAN tag's four bytes more than it says.
    set_mtu(&switch, "node-2", "1300");
    let found = failures(cluster.ripstop(&["check", "-o", "json"]));
    for (path, far) in [
        ("node-1 → node-2", ", and eth0 on node-2 takes 1500"),
        ("node-2 → node-1", ", and eth0 on node-1 takes 1500"),
    ] {
        let said = of_path(&found, path);
        for part in [
            "more than 1304 bytes are lost without a word",
            "sends up to 1500",
            far,
            "plugged into",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    assert_eq!(
        found[0]["check"], "path MTU between nodes",
        "the cause comes first"
    );
    set_mtu(&switch, "node-2", "1500");
    // What its agent had under way goes on once it's sent again.
    cluster.wait_nodes("condition=Ready", Duration::from_secs(60));

    // A node whose link takes more than the others', as any Kubernetes is checked: from pods.
    set_mtu(&node, "eth0", "9000");
    let kubeconfig = cluster.data_dir().join("kubeconfig");
    let mut check = Command::new(cluster.binary());
    check
        .args(["check", "-o", "json", "--kubeconfig"])
        .arg(kubeconfig);
    let said = of_path(&failures(run(&mut check, None)), "node-2 → node-1");
    assert!(
        said.contains("more than 1504 bytes") && said.contains("`ip link set eth0 mtu 1500` on node-2"),
        "{said}"
    );
    set_mtu(&node, "eth0", "1500");
    cluster.wait_nodes("condition=Ready", Duration::from_secs(30));
}
