//! What the paths between nodes, and between pods, carry; and whether they say so.
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

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use futures::future::join_all;
use serde::Deserialize;

use crate::ask::{families, path};
use crate::checks::look_at;
use crate::lab::{Lab, Place, Spot};
use crate::report::Row;

const NODES: &str = "path MTU between nodes";
const PODS: &str = "path MTU between pods";

/// What a tunnel adds to a packet, over IPv4 and over IPv6.
const OVERHEADS: [(u32, &str); 2] = [(50, "VXLAN over IPv4"), (70, "VXLAN over IPv6")];

/// What `toolbox mtu --json` prints about a path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Measured {
    #[serde(default)]
    link: String,
    #[serde(default)]
    link_mtu: u32,
    carries: Option<u32>,
    #[serde(default)]
    larger: String,
    error: Option<String>,
}

/// A path that was measured.
struct Path<'a> {
    from: &'a Spot,
    to: &'a Spot,
    address: IpAddr,
    measured: Result<Measured, String>,
}

/// Every ordered pair of nodes, and of pods on different nodes.
pub(crate) async fn path_mtu(lab: &Lab) -> Vec<Row> {
    let spots = |get: fn(&Place) -> Option<&Spot>| lab.places.iter().filter_map(get).collect::<Vec<_>>();
    let hosts = spots(|place| place.host.as_ref());
    let pods = spots(|place| place.pod.as_ref());
    if pods.len() < 2 {
        return vec![Row::skipped(PODS, "fewer than two nodes have a pod that started")];
    }
    let (hosts, pods) = tokio::join!(measure(lab, &hosts), measure(lab, &pods));
    let links = links(&hosts);
    let mut rows: Vec<Row> = hosts.iter().map(|path| node_row(lab, &links, path)).collect();
    rows.extend(pods.iter().map(|path| pod_row(lab, &hosts, path)));
    rows
}

/// From each spot to all others, over the families that both have.
async fn measure<'a>(lab: &Lab, spots: &[&'a Spot]) -> Vec<Path<'a>> {
    let one = async |from: &'a Spot| {
        let others = spots.iter().copied().filter(|to| to.node != from.node);
        let ways = others.flat_map(|to| families(from, &to.addresses).map(move |address| (to, address)));
        let ways: Vec<(&Spot, IpAddr)> = ways.collect();
        let targets: Vec<SocketAddr> = ways
            .iter()
            .map(|(to, address)| SocketAddr::new(*address, to.ports.echo))
            .collect();
        let measured = lab.mtu(from, &targets).await;
        let path = |(number, (to, address)): (usize, (&'a Spot, IpAddr))| Path {
            from,
            to,
            address,
            measured: measured
                .as_ref()
                .map(|all| all[number].clone())
                .map_err(Clone::clone),
        };
        ways.into_iter().enumerate().map(path).collect::<Vec<_>>()
    };
    let all = join_all(spots.iter().map(|from| one(from))).await;
    all.into_iter().flatten().collect()
}

/// The link of each node that leads to others, and its MTU.
fn links<'a>(hosts: &'a [Path<'a>]) -> BTreeMap<&'a str, (&'a str, u32)> {
    let measured = hosts.iter().filter_map(|path| {
        let measured = path.measured.as_ref().ok()?;
        Some((
            path.from.node.as_str(),
            (measured.link.as_str(), measured.link_mtu),
        ))
    });
    measured.filter(|(_, (_, mtu))| *mtu > 0).collect()
}

fn node_row(lab: &Lab, links: &BTreeMap<&str, (&str, u32)>, path: &Path<'_>) -> Row {
    let ends = [path.from.node.as_str(), path.to.node.as_str()];
    let fail = |cause: String, next: String| Row::failed(NODES, name(path), cause, next);
    let (measured, carries) = match carried(path) {
        Ok(measured) => measured,
        Err(cause) => return fail(cause, look_at(lab.cluster.as_deref(), &ends)),
    };
    let (link, mtu) = (&measured.link, measured.link_mtu);
    if measured.larger != "lost" {
        return Row::passed(
            NODES,
            name(path),
            said(carries, mtu, "a router on the way takes no more"),
        );
    }
    let cause = format!(
        "packets of more than {carries} bytes are lost without a word: {link} on {} sends up to {mtu}",
        ends[0]
    );
    let next = match links.get(ends[1]) {
        Some((far, far_mtu)) if *far_mtu < mtu => format!(
            "{far} on {} takes {far_mtu}: set the MTU of both links to {far_mtu} (`ip link set {link} mtu {far_mtu}` on {}), or raise the smaller one",
            ends[1], ends[0]
        ),
        _ => format!(
            "a link between {} and {} takes less than {mtu} and a firewall or router keeps it secret: let ICMP \"too big\" pass, or set the MTU of {link} on {} to {carries}",
            ends[0], ends[1], ends[0]
        ),
    };
    fail(cause, next)
}

fn pod_row(lab: &Lab, hosts: &[Path<'_>], path: &Path<'_>) -> Row {
    let ends = [path.from.node.as_str(), path.to.node.as_str()];
    let look = look_at(lab.cluster.as_deref(), &ends);
    let (measured, carries) = match carried(path) {
        Ok(measured) => measured,
        Err(cause) => return Row::failed(PODS, name(path), cause, look),
    };
    // What the nodes' path takes, over either family.
    let outside: Vec<u32> = hosts
        .iter()
        .filter(|host| host.from.node == ends[0] && host.to.node == ends[1])
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
            name(path),
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
            name(path),
            format!("{carries} bytes, {kind}; larger ones are refused"),
        ),
        // Pods may be given less on purpose; more than a way takes can't get there.
        (None, _) if carries == measured.link_mtu => Row::passed(
            PODS,
            name(path),
            format!(
                "{carries} bytes, as the pod's {} is set; larger ones are refused",
                measured.link
            ),
        ),
        (None, _) => Row::failed(
            PODS,
            name(path),
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

/// What was measured and how much arrives, or why that isn't known.
fn carried<'a>(path: &'a Path<'_>) -> Result<(&'a Measured, u32), String> {
    let measured = path.measured.as_ref().map_err(Clone::clone)?;
    if let Some(error) = &measured.error {
        return Err(error.clone());
    }
    let nothing = || "nothing arrives, however small".to_owned();
    Ok((measured, measured.carries.ok_or_else(nothing)?))
}

fn said(carries: u32, link: u32, why: &str) -> String {
    if carries == link {
        format!("{carries} bytes, the whole link; larger ones are refused")
    } else {
        format!("{carries} bytes of the link's {link}, {why}; larger ones are refused")
    }
}

fn name(measured: &Path<'_>) -> String {
    path(measured.from, measured.to, measured.address)
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use serde_json::json;

    use super::*;
    use crate::pods::POD_PORTS;
    use crate::shell::{Output, Shell};

    /// Two nodes; what comes out of the toolbox, by pod.
    struct Played(fn(&str) -> serde_json::Value);

    impl Shell for Played {
        fn exec<'a>(&'a self, pod: &'a str, command: Vec<String>) -> BoxFuture<'a, Result<Output, String>> {
            assert_eq!(command[..2], ["toolbox", "mtu"]);
            let stdout = (self.0)(pod).to_string() + "\n";
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

    async fn rows(played: fn(&str) -> serde_json::Value) -> Vec<String> {
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
        let lab = Lab {
            places: (1..3).map(place).collect(),
            shell: Box::new(Played(played)),
            outside: Vec::new(),
            cluster: Some("local".into()),
            balancers: Default::default(),
            services: Ok(Default::default()),
            policies: Ok(()),
            patience: Default::default(),
            rows: Vec::new(),
        };
        let rows = path_mtu(&lab).await;
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
            rows[0].contains("eth0 on node-2 takes 1400: set the MTU of both links to 1400"),
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
    async fn a_silent_router_is_suspected_where_both_links_are_large() {
        let rows = rows(|pod| measured(1500, 1400, if pod == "host-1" { "lost" } else { "refused" })).await;
        assert!(
            rows[0].contains("let ICMP \\\"too big\\\" pass, or set the MTU of eth0 on node-1 to 1400"),
            "{}",
            rows[0]
        );
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
