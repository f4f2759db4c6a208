//! What the paths between pods carry, and whether they say so; and between nodes, where pods in the
//! nodes' own networks are all there is to measure from.
//!
//! ```text
//!   nodes   P bytes arrive ──┐
//!                            ├─ pods on them: P as they are, or P less a tunnel's headers
//!   pods    N bytes arrive ──┘
//!   one byte more, of either, is refused: somebody says what would fit
//! ```
//!
//! Anything else breaks connections in ways that are hard to see: small packets pass, and large
//! ones are lost without a word.

use std::net::IpAddr;

use futures::future::join_all;
use path_mtu::Target;

use crate::ask::families;
use crate::checks::look_at;
use crate::lab::{Lab, Spot};
use crate::paths::{self, Path};
use crate::report::Row;

const PODS: &str = "path MTU between pods";

/// What a tunnel adds to a packet, over IPv4 and over IPv6.
const OVERHEADS: [(u32, &str); 2] = [(50, "VXLAN over IPv4"), (70, "VXLAN over IPv6")];

/// Every ordered pair of pods on different nodes; and of nodes, unless that is known already.
pub(crate) async fn path_mtu(lab: &Lab) -> Vec<Row> {
    let pods: Vec<&Spot> = lab.places.iter().filter_map(|place| place.pod.as_ref()).collect();
    let (from_hosts, pods) = tokio::join!(between_nodes(lab), between_pods(lab, &pods));
    let hosts = match lab.paths.is_empty() {
        true => &from_hosts,
        false => &lab.paths,
    };
    let mut rows = paths::rows(&from_hosts, lab.cluster.as_deref());
    match pods.is_empty() {
        true => rows.push(Row::skipped(PODS, "fewer than two nodes have a pod that started")),
        false => rows.extend(pods.iter().map(|path| pod_row(lab, hosts, path))),
    }
    rows
}

/// From pods in nodes' own networks: to each other, and by pings to whatever has none.
async fn between_nodes(lab: &Lab) -> Vec<Path> {
    if !lab.paths.is_empty() {
        return Vec::new();
    }
    let hosts: Vec<&Spot> = lab
        .places
        .iter()
        .filter_map(|place| place.host.as_ref())
        .collect();
    let measured_at = |address: &IpAddr| hosts.iter().any(|host| host.addresses.contains(address));
    let from_one = async |from: &Spot| {
        let others = hosts.iter().filter(|to| to.node != from.node);
        let others = others.flat_map(|to| targets(from, to));
        let pinged = lab.pinged.iter().filter(|(name, _)| *name != from.node);
        let pinged = pinged.flat_map(|(name, addresses)| {
            let addresses = families(from, addresses).filter(|address| !measured_at(address));
            addresses.map(move |address| (name.clone(), Target::Ping(address)))
        });
        measure(lab, from, others.chain(pinged).collect()).await
    };
    join_all(hosts.iter().map(|from| from_one(from))).await.concat()
}

async fn between_pods(lab: &Lab, pods: &[&Spot]) -> Vec<Path> {
    let from_one = async |from: &Spot| {
        let others = pods.iter().filter(|to| to.node != from.node);
        measure(lab, from, others.flat_map(|to| targets(from, to)).collect()).await
    };
    join_all(pods.iter().map(|from| from_one(from))).await.concat()
}

/// The echo server of a spot, at its addresses of the families that `from` has.
fn targets(from: &Spot, to: &Spot) -> Vec<(String, Target)> {
    let target = |address| (to.node.clone(), Target::Udp((address, to.ports.echo).into()));
    families(from, &to.addresses).map(target).collect()
}

async fn measure(lab: &Lab, from: &Spot, ways: Vec<(String, Target)>) -> Vec<Path> {
    if ways.is_empty() {
        return Vec::new();
    }
    let targets: Vec<Target> = ways.iter().map(|(_, target)| *target).collect();
    let measured = lab.mtu(from, &targets).await;
    let path = |(number, (to, target)): (usize, (String, Target))| Path {
        from: from.node.clone(),
        to,
        address: target.ip(),
        both_ways: matches!(target, Target::Ping(_)),
        measured: measured
            .as_ref()
            .map(|all| all[number].clone())
            .map_err(Clone::clone),
    };
    ways.into_iter().enumerate().map(path).collect()
}

fn pod_row(lab: &Lab, hosts: &[Path], path: &Path) -> Row {
    let ends = [path.from.as_str(), path.to.as_str()];
    let look = look_at(lab.cluster.as_deref(), &ends);
    let (measured, carries) = match path.carried() {
        Ok(measured) => measured,
        Err(cause) => return Row::failed(PODS, path.name(), cause, look),
    };
    // What the nodes' path takes, over either family.
    let outside: Vec<u32> = hosts
        .iter()
        .filter(|host| host.from == ends[0] && host.to == ends[1])
        .filter_map(|host| host.measured.as_ref().ok()?.carries)
        .collect();
    let ways = outside.iter().flat_map(|outside| {
        let tunnels = OVERHEADS
            .iter()
            .map(move |(overhead, kind)| (outside.saturating_sub(*overhead), *kind));
        [(*outside, "as they are")].into_iter().chain(tunnels)
    });
    let ways: Vec<(u32, &str)> = ways.collect();
    let kind = ways
        .iter()
        .find(|(mtu, _)| *mtu == carries)
        .map(|(_, kind)| *kind);
    match (kind, measured.larger.as_str()) {
        (_, "lost") => Row::failed(
            PODS,
            path.name(),
            format!(
                "packets of more than {carries} bytes are lost without a word, and the pod's {} takes {}",
                measured.link, measured.link_mtu
            ),
            format!(
                "if the row of their nodes is ✗, its cure is this one's, too; otherwise set network.mtu of the agents to {carries}; {look}"
            ),
        ),
        (Some(kind), _) => Row::passed(
            PODS,
            path.name(),
            format!("{carries} bytes, {kind}; larger ones are refused"),
        ),
        // Pods may be given less on purpose; more than a way takes can't get there.
        (None, _) if carries == measured.link_mtu => Row::passed(
            PODS,
            path.name(),
            format!(
                "{carries} bytes, as the pod's {} is set; larger ones are refused",
                measured.link
            ),
        ),
        (None, _) => Row::failed(
            PODS,
            path.name(),
            format!(
                "{carries} bytes arrive where the nodes' path takes {}",
                outside
                    .iter()
                    .max()
                    .map_or_else(|| "nothing".to_owned(), ToString::to_string)
            ),
            format!(
                "`ip route` and `ip -d link show type vxlan` on {} show the way and its MTU; {look}",
                ends[0]
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use serde_json::json;

    use super::*;
    use crate::lab::Place;
    use crate::pods::POD_PORTS;
    use crate::shell::{Output, Shell};

    /// Two nodes; what comes out of the toolbox, by pod.
    struct Played(fn(&str) -> serde_json::Value);

    impl Shell for Played {
        fn exec<'a>(&'a self, pod: &'a str, command: Vec<String>) -> BoxFuture<'a, Result<Output, String>> {
            assert_eq!(command[..2], ["toolbox", "mtu"]);
            // A line for each target.
            let stdout = format!("{}\n", (self.0)(pod)).repeat(command.len() - 3);
            Box::pin(async move {
                Ok(Output {
                    stdout,
                    ..Output::default()
                })
            })
        }

        fn logs<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<String, String>> {
            Box::pin(async { Ok(String::new()) })
        }
    }

    fn lab(played: fn(&str) -> serde_json::Value) -> Lab {
        let spot = |kind: &str, n: usize, address: String| Spot {
            pod: format!("{kind}-{n}"),
            node: format!("node-{n}"),
            addresses: vec![address.parse().unwrap()],
            ports: POD_PORTS,
            host_port: None,
        };
        let place = |n: usize| Place {
            node: format!("node-{n}"),
            addresses: Vec::new(),
            pod_cidrs: Vec::new(),
            pod: Some(spot("pod", n, format!("10.244.{n}.2"))),
            neighbour: None,
            isolated: None,
            host: Some(spot("host", n, format!("172.30.0.1{n}"))),
        };
        Lab {
            places: (1..3).map(place).collect(),
            shell: Box::new(Played(played)),
            outside: Vec::new(),
            cluster: Some("local".into()),
            balancers: Default::default(),
            services: Ok(Default::default()),
            policies: Ok(()),
            patience: Default::default(),
            paths: Vec::new(),
            pinged: Vec::new(),
            outside_name: Err("nobody asks".to_owned()),
            rows: Vec::new(),
        }
    }

    async fn rows(played: fn(&str) -> serde_json::Value) -> Vec<String> {
        let rows = path_mtu(&lab(played)).await;
        assert_eq!(rows.len(), 4, "a row a pair: {rows:#?}");
        rows.iter().map(|row| format!("{row:?}")).collect()
    }

    fn measured(mtu: u32, carries: u32, larger: &str) -> serde_json::Value {
        json!({"to": "10.0.0.1:1", "link": "eth0", "link_mtu": mtu, "carries": carries, "larger": larger})
    }

    #[tokio::test]
    async fn the_whole_link_or_a_tunnel_in_it_is_fine() {
        for played in [
            (|_| measured(1500, 1500, "refused")) as fn(&str) -> _,
            |pod| measured(1500, if pod.starts_with("pod") { 1450 } else { 1500 }, "refused"),
            |pod| measured(1500, if pod.starts_with("pod") { 1330 } else { 1400 }, "refused"),
            |pod| {
                measured(
                    if pod.starts_with("pod") { 1300 } else { 1500 },
                    if pod.starts_with("pod") { 1300 } else { 1500 },
                    "refused",
                )
            },
        ] {
            let rows = rows(played).await;
            assert!(rows.iter().all(|row| row.contains("Passed")), "{rows:#?}");
        }
    }

    #[tokio::test]
    async fn a_smaller_link_at_the_other_end_is_named_with_its_cure() {
        let rows = rows(|pod| match pod {
            "host-1" => measured(1500, 1400, "lost"),
            "host-2" => measured(1400, 1400, "refused"),
            "pod-1" => measured(1500, 1400, "lost"),
            _ => measured(1500, 1400, "refused"),
        })
        .await;
        assert!(
            rows[0].contains("more than 1400 bytes are lost without a word: eth0 on node-1 sends up to 1500"),
            "{}",
            rows[0]
        );
        assert!(
            rows[0].contains("eth0 on node-2 takes 1400")
                && rows[0].contains("set the MTU of both links to 1400"),
            "{}",
            rows[0]
        );
        assert!(rows[1].contains("Passed"), "{}", rows[1]);
        assert!(
            rows[2].contains("Failed") && rows[2].contains("its cure is this one's"),
            "{}",
            rows[2]
        );
    }

    #[tokio::test]
    async fn nodes_without_a_pod_and_api_servers_are_asked_by_pings() {
        let mut lab = lab(|pod| measured(1500, if pod == "host-1" { 1300 } else { 1500 }, "lost"));
        lab.places[1].host = None;
        lab.places[1].pod = None;
        lab.pinged = [
            ("node-1", "172.30.0.11"),
            ("node-2", "172.30.0.12"),
            ("API server", "172.30.0.2"),
        ]
        .map(|(name, address)| (name.to_owned(), vec![address.parse().unwrap()]))
        .into();
        let rows = path_mtu(&lab).await;
        let rows: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
        assert_eq!(rows.len(), 3, "{rows:#?}");
        for (row, path) in rows.iter().zip(["node-1 ⇄ node-2", "node-1 ⇄ API server"]) {
            let said = "more than 1300 bytes are lost without a word there or on the way back";
            assert!(row.contains(path) && row.contains(said), "{row}");
        }
        assert!(rows[2].contains("Skipped"), "{}", rows[2]);
    }

    #[tokio::test]
    async fn paths_that_are_known_are_not_measured_again() {
        let mut lab = lab(|_| measured(1500, 1450, "refused"));
        let known = |from: &str, to: &str| Path {
            from: from.to_owned(),
            to: to.to_owned(),
            address: [172, 30, 0, 1].into(),
            both_ways: false,
            measured: serde_json::from_value(measured(1500, 1500, "refused")).map_err(|e| e.to_string()),
        };
        lab.paths = vec![known("node-1", "node-2"), known("node-2", "node-1")];
        let rows = path_mtu(&lab).await;
        assert!(
            rows.len() == 2 && rows.iter().all(|row| row.check == PODS),
            "{rows:?}"
        );
        assert!(format!("{rows:?}").contains("1450 bytes, VXLAN over IPv4"));
    }

    #[tokio::test]
    async fn pods_that_get_less_than_their_way_takes_are_found() {
        let rows = rows(|pod| measured(1500, if pod == "pod-1" { 1200 } else { 1500 }, "refused")).await;
        assert!(
            rows[2].contains("1200 bytes arrive where the nodes' path takes 1500"),
            "{}",
            rows[2]
        );
        assert!(rows[3].contains("Passed"));
    }

    #[tokio::test]
    async fn paths_that_carry_nothing_fail() {
        let rows = rows(|_| json!({"to": "10.0.0.1:1", "link": "eth0", "link_mtu": 1500, "carries": null, "larger": "lost"})).await;
        assert!(
            rows.iter().all(|row| row.contains("nothing arrives")),
            "{rows:#?}"
        );
    }
}
