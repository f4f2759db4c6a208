//! The checks themselves. Each asks one question and answers it with rows.

use futures::future::{BoxFuture, join_all};

use crate::addresses::addresses;
use crate::ask::{Source, Target, ask, families, family, path};
use crate::dns::{names, outside_names};
use crate::isolation::isolation;
use crate::lab::{Lab, Place, Spot, Transfer};
use crate::mtu::path_mtu;
use crate::report::Row;
use crate::services::services;

pub(crate) const READY: &str = "nodes are Ready";
pub(crate) const START: &str = "pods start";
const EXEC: &str = "exec and logs";
const SAME: &str = "pod to pod, one node";
const ACROSS: &str = "pod to pod, across nodes";
const LARGE: &str = "large packets";
const TO_NODE: &str = "pod to node";
const FROM_NODE: &str = "node to pod";
const HOST_PORTS: &str = "host ports";
const OUTSIDE: &str = "pod to outside";

type Check = for<'a> fn(&'a Lab) -> BoxFuture<'a, Vec<Row>>;

/// Every check, in the order of the report.
const CHECKS: &[Check] = &[
    |lab| Box::pin(addresses(lab)),
    |lab| Box::pin(exec_and_logs(lab)),
    |lab| Box::pin(same_node(lab)),
    |lab| Box::pin(across_nodes(lab)),
    |lab| Box::pin(large_packets(lab)),
    |lab| Box::pin(path_mtu(lab)),
    |lab| Box::pin(pod_to_node(lab)),
    |lab| Box::pin(node_to_pod(lab)),
    |lab| Box::pin(host_ports(lab)),
    |lab| Box::pin(pod_to_outside(lab)),
    |lab| Box::pin(names(lab)),
    |lab| Box::pin(outside_names(lab)),
    |lab| Box::pin(services(lab)),
    |lab| Box::pin(isolation(lab)),
];

/// Runs all checks at once.
pub(crate) async fn run(lab: &Lab) -> Vec<Row> {
    let mut rows = lab.rows.clone();
    rows.extend(join_all(CHECKS.iter().map(|check| check(lab))).await.concat());
    rows
}

/// Where to look when something between these nodes doesn't work.
pub(crate) fn look_at(cluster: Option<&str>, nodes: &[&str]) -> String {
    let mut nodes = nodes.to_vec();
    nodes.dedup();
    match cluster {
        Some(name) => {
            let logs = nodes
                .iter()
                .map(|node| format!("`ripstop logs --name {name} agent {node}`"));
            logs.collect::<Vec<_>>().join(" and ")
        }
        None => format!("the log of the ripstop agent on {}", nodes.join(" and ")),
    }
}

/// API → kubelet → container, on every node.
async fn exec_and_logs(lab: &Lab) -> Vec<Row> {
    let one = async |place: &Place| {
        let spot = place.pod.as_ref()?;
        let echo = ["echo", "here"].map(str::to_owned).to_vec();
        let (exec, logs) = tokio::join!(lab.shell.exec(&spot.pod, echo), lab.shell.logs(&spot.pod));
        let problem = match (exec, logs) {
            (Ok(out), Ok(logs)) if out.stdout == "here\n" && logs.contains("listening") => None,
            (Ok(out), Ok(_)) if out.stdout != "here\n" => Some(format!("exec printed {:?}", out.stdout)),
            (Ok(_), Ok(logs)) => Some(format!("logs don't hold what the pod printed: {logs:?}")),
            (Err(why), _) | (_, Err(why)) => Some(why),
        };
        Some(match problem {
            None => Row::passed(EXEC, &place.node, ""),
            Some(why) => {
                let next = format!(
                    "can the API server reach {}:10250? {}",
                    place
                        .addresses
                        .first()
                        .map_or_else(|| place.node.clone(), ToString::to_string),
                    look_at(lab.cluster.as_deref(), &[&place.node])
                );
                Row::failed(EXEC, &place.node, why, next)
            }
        })
    };
    join_all(lab.places.iter().map(one))
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// The two pods of one node, both ways.
async fn same_node(lab: &Lab) -> Vec<Row> {
    let both = |place: &'_ Place| Some((place.pod.clone()?, place.neighbour.clone()?));
    let Some((pod, neighbour)) = lab.places.iter().find_map(both) else {
        return vec![Row::skipped(SAME, "its pods didn't start")];
    };
    let (there, back) = tokio::join!(
        ask(lab, SAME, &pod, Target::all(&pod, &neighbour, &Source::Own)),
        ask(lab, SAME, &neighbour, Target::all(&neighbour, &pod, &Source::Own)),
    );
    [there, back].concat()
}

/// Every ordered pair of nodes.
async fn across_nodes(lab: &Lab) -> Vec<Row> {
    let pods: Vec<&Spot> = lab.places.iter().filter_map(|place| place.pod.as_ref()).collect();
    if pods.len() < 2 {
        return vec![Row::skipped(ACROSS, too_few(lab))];
    }
    let asks = pods.iter().map(|from| {
        let others = pods.iter().filter(|to| to.node != from.node);
        let targets = others.flat_map(|to| Target::all(from, to, &Source::Own));
        ask(lab, ACROSS, from, targets.collect())
    });
    join_all(asks).await.concat()
}

fn too_few(lab: &Lab) -> &'static str {
    if lab.places.len() < 2 {
        "there is one node"
    } else {
        "fewer than two pods started"
    }
}

/// 1 MiB unharmed, and a datagram as large as the path says it takes.
async fn large_packets(lab: &Lab) -> Vec<Row> {
    let pods = lab.places.iter().flat_map(|place| [&place.pod, &place.neighbour]);
    let pods: Vec<&Spot> = pods.flatten().collect();
    let pairs = pods.iter().flat_map(|from| {
        // Neighbours with each other, and the first pod of each node with the others'.
        let to = pods.iter().filter(move |to| {
            let other = to.pod != from.pod;
            let firsts = to.pod.starts_with("pod-") && from.pod.starts_with("pod-");
            other && (firsts || to.node == from.node)
        });
        to.flat_map(|to| families(from, &to.addresses).map(|address| (*from, *to, address)))
    });
    let transfers = pairs.map(async |(from, to, address)| {
        let path = path(from, to, address);
        let done = lab.transfer(from, to, address).await;
        let problem = match &done {
            Ok((Transfer { error: Some(why), .. }, _)) => format!("1 MiB over TCP: {why}"),
            Ok((_, Transfer { error: Some(why), .. })) => format!("a datagram as large as the MTU: {why}"),
            Ok((_, datagram)) => {
                let detail = format!("1 MiB unharmed, datagrams of {} bytes", datagram.bytes);
                return Row::passed(LARGE, path, detail);
            }
            Err(why) => why.clone(),
        };
        let next = "compare the MTU of the pod's eth0 with that of the links between the nodes \
                    (`ip link` in both), and look for a firewall that drops ICMP";
        Row::failed(LARGE, path, problem, next)
    });
    join_all(transfers).await
}

/// From every pod to a port on every node.
async fn pod_to_node(lab: &Lab) -> Vec<Row> {
    let hosts: Vec<&Spot> = lab
        .places
        .iter()
        .filter_map(|place| place.host.as_ref())
        .collect();
    let pods = lab.places.iter().filter_map(|place| place.pod.as_ref());
    let asks = pods.map(|from| {
        // On the way to another node its source may be translated; that is not asked here.
        let targets = hosts.iter().flat_map(|to| Target::all(from, to, &Source::Any));
        ask(lab, TO_NODE, from, targets.collect())
    });
    join_all(asks).await.concat()
}

/// From every node's own network to every pod.
async fn node_to_pod(lab: &Lab) -> Vec<Row> {
    let pods: Vec<&Spot> = lab.places.iter().filter_map(|place| place.pod.as_ref()).collect();
    let hosts = lab.places.iter().filter_map(|place| place.host.as_ref());
    let asks = hosts.map(|from| {
        let targets = pods.iter().flat_map(|to| Target::all(from, to, &Source::Any));
        ask(lab, FROM_NODE, from, targets.collect())
    });
    join_all(asks).await.concat()
}

/// From every pod to the pods that have a port of their node, themselves included.
async fn host_ports(lab: &Lab) -> Vec<Row> {
    let pods: Vec<&Spot> = lab.places.iter().filter_map(|place| place.pod.as_ref()).collect();
    let asks = pods.iter().map(|from| {
        let targets = lab.places.iter().filter_map(|place| {
            let to = place.pod.as_ref()?;
            Some(Target::by_host_port(from, to, to.host_port?, &place.addresses))
        });
        ask(lab, HOST_PORTS, from, targets.flatten().collect())
    });
    join_all(asks).await.concat()
}

/// Whoever is outside sees the node's address, never the pod's.
async fn pod_to_outside(lab: &Lab) -> Vec<Row> {
    if lab.outside.is_empty() {
        return vec![Row::skipped(OUTSIDE, "nobody listens outside the cluster")];
    }
    let one = async |place: &Place| {
        let from = place.pod.as_ref()?;
        let targets = lab.outside.iter().filter_map(|outside| {
            // A cluster without that family has no way there, and no need of one.
            families(from, &[outside.address]).next()?;
            Some(Target {
                name: format!("outside{}", family(outside.address)),
                url: outside.url.clone(),
                source: Source::Node(place.addresses.clone()),
                pod: None,
            })
        });
        Some(ask(lab, OUTSIDE, from, targets.collect()).await)
    };
    let rows = join_all(lab.places.iter().map(one)).await;
    rows.into_iter().flatten().flatten().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::outside::OutsideProbe;
    use crate::pods::{POD_PORTS, Ports};
    use crate::report::Outcome;
    use crate::services::Services;
    use crate::shell::{Output, Shell};
    use serde_json::json;

    /// A cluster in which everything works, but for the addresses in `dead`.
    pub(crate) struct Fake {
        dead: Vec<&'static str>,
        exec_works: bool,
        policies_work: bool,
    }

    impl Fake {
        pub(crate) fn without_policies(self) -> Self {
            let policies_work = false;
            Self {
                policies_work,
                ..self
            }
        }

        /// The pod with the number 8 is isolated, but for these.
        fn is_denied(&self, pod: &str, url: &str) -> bool {
            let may = ["neighbour-9", "pod-1", "host-0"].contains(&pod);
            self.policies_work && (pod == "isolated-8" || url.contains("10.244.0.8:") && !may)
        }

        fn line(&self, pod: &str, client: &str, url: &str) -> String {
            let client = if url.contains("192.0.2.1") {
                "172.30.0.10"
            } else {
                client
            };
            let is_dead = self.dead.iter().any(|dead| url.contains(dead));
            let line = match is_dead || self.is_denied(pod, url) {
                true => json!({"url": url, "ms": 3000.0, "error": "timed out", "code": 5}),
                false => {
                    // The port of a node that leads to a pod has the pod's number.
                    let server = url
                        .split_once(":2200")
                        .map(|(_, rest)| format!("pod-{}", &rest[..1]));
                    let body = json!({"client_ip": client, "hostname": server});
                    json!({"url": url, "ms": 0.5, "status": 200, "bytes": 1, "body": body})
                }
            };
            line.to_string()
        }
    }

    impl Shell for Fake {
        fn exec<'a>(&'a self, pod: &'a str, command: Vec<String>) -> BoxFuture<'a, Result<Output, String>> {
            Box::pin(async move {
                if !self.exec_works {
                    return Err("exec: 502".to_owned());
                }
                // Pods have the address 10.244.0.X by their number.
                let client = format!("10.244.0.{}", pod.bytes().last().unwrap_or_default() - b'0');
                let lines: Vec<String> = match command[0].as_str() {
                    "echo" => vec![command[1].clone()],
                    "sh" if command.len() == 3 => {
                        // A host pod has its node's address.
                        let address = match pod.starts_with("host-") {
                            true => "172.30.0.10".to_owned(),
                            false => client.clone(),
                        };
                        vec![format!("2: eth0 inet {address}/32 scope global eth0")]
                    }
                    "toolbox" if command[1] == "mtu" => {
                        let line =
                            json!({"link": "eth0", "link_mtu": 1500, "carries": 1500, "larger": "refused"});
                        command[3..].iter().map(|_| line.to_string()).collect()
                    }
                    _ => {
                        let urls = command.iter().filter(|word| word.starts_with("http"));
                        let mut lines: Vec<_> = urls.map(|url| self.line(pod, &client, url)).collect();
                        if command[0] == "sh" {
                            lines.push(self.line(pod, &client, &command[5]));
                        }
                        lines
                    }
                };
                let stdout = lines.join("\n") + "\n";
                Ok(Output {
                    stdout,
                    ..Output::default()
                })
            })
        }

        fn logs<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<String, String>> {
            Box::pin(async { Ok("listening http=[::]:8080".to_owned()) })
        }
    }

    pub(crate) fn lab(nodes: usize, shell: Fake) -> Lab {
        let spot = |pod: String, node: usize, address: String, ports| Spot {
            host_port: pod
                .starts_with("pod-")
                .then(|| 22_000 + u16::try_from(node).unwrap()),
            pod,
            node: format!("node-{node}"),
            addresses: vec![address.parse().unwrap()],
            ports,
        };
        let host_ports = Ports {
            http: 20_000,
            echo: 21_000,
        };
        let place = |n: usize| Place {
            node: format!("node-{n}"),
            addresses: vec!["172.30.0.10".parse().unwrap()],
            pod_cidrs: vec!["10.244.0.0/24".parse().unwrap()],
            pod: Some(spot(format!("pod-{n}"), n, format!("10.244.0.{n}"), POD_PORTS)),
            neighbour: (n == 0).then(|| spot("neighbour-9".into(), n, "10.244.0.9".into(), POD_PORTS)),
            isolated: (n == 0).then(|| spot("isolated-8".into(), n, "10.244.0.8".into(), POD_PORTS)),
            host: Some(spot(format!("host-{n}"), n, format!("172.30.0.1{n}"), host_ports)),
        };
        Lab {
            places: (0..nodes).map(place).collect(),
            shell: Box::new(shell),
            outside: vec![OutsideProbe {
                url: "http://192.0.2.1:9/".into(),
                address: "192.0.2.1".parse().unwrap(),
            }],
            cluster: Some("local".into()),
            balancers: Default::default(),
            services: Ok(Services::default()),
            policies: Ok(()),
            patience: std::time::Duration::ZERO,
            paths: Vec::new(),
            pinged: Vec::new(),
            outside_name: Err("nobody asks".to_owned()),
            rows: Vec::new(),
        }
    }

    pub(crate) fn works() -> Fake {
        Fake {
            dead: Vec::new(),
            exec_works: true,
            policies_work: true,
        }
    }

    fn count(rows: &[Row], check: &str) -> usize {
        rows.iter().filter(|row| row.check == check).count()
    }

    #[tokio::test]
    async fn every_ordered_pair_is_tried_on_a_cluster_that_works() {
        let rows = run(&lab(3, works())).await;
        let failed: Vec<_> = rows.iter().filter(|row| row.is_failure()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        for (check, rows_of_it) in [
            ("addresses", 6),
            ("router advertisements", 6),
            (EXEC, 3),
            (SAME, 2),
            (ACROSS, 6),
            (LARGE, 8),
            (TO_NODE, 9),
            (FROM_NODE, 9),
            (HOST_PORTS, 9),
            (OUTSIDE, 3),
        ] {
            assert_eq!(count(&rows, check), rows_of_it, "{check}");
        }
    }

    #[tokio::test]
    async fn one_node_skips_what_needs_two() {
        let mut lab = lab(1, works());
        lab.outside.clear();
        let rows = run(&lab).await;
        assert!(!rows.iter().any(Row::is_failure));
        assert!(rows.contains(&Row::skipped(ACROSS, "there is one node")));
        assert_eq!(count(&rows, OUTSIDE), 1);
    }

    #[tokio::test]
    async fn a_dead_path_fails_its_rows_alone_and_says_where_to_look() {
        let fake = Fake {
            dead: vec!["10.244.0.2:"],
            exec_works: true,
            policies_work: true,
        };
        let rows = run(&lab(3, fake)).await;
        let failed = rows.iter().filter(|row| row.is_failure() && row.check == ACROSS);
        let paths: Vec<&str> = failed.clone().map(|row| row.path.as_str()).collect();
        assert_eq!(paths, ["node-0 → node-2", "node-1 → node-2"]);
        for row in failed {
            let text = format!("{row:?}");
            assert!(
                text.contains("timed out") && text.contains("agent node-2"),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_host_port_that_leads_to_another_pod_is_a_failure() {
        let mut lab = lab(2, works());
        lab.places[1].pod.as_mut().unwrap().host_port = Some(22_000);
        let rows = run(&lab).await;
        let failed: Vec<&Row> = rows.iter().filter(|row| row.is_failure()).collect();
        assert!(failed.len() == 2 && failed.iter().all(|row| row.check == HOST_PORTS));
        let text = format!("{:?}", failed[0]);
        assert!(
            text.contains("answered by pod-0, not by pod-1") && text.contains("ripstop-local-node-1"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn without_exec_every_row_says_so() {
        let fake = Fake {
            dead: Vec::new(),
            exec_works: false,
            policies_work: true,
        };
        let rows = run(&lab(2, fake)).await;
        // Whether load balancers have addresses is known without asking pods.
        let tried = rows
            .iter()
            .filter(|row| !matches!(row.outcome, Outcome::Skipped { .. }));
        let mut tried = tried.map(|row| row.is_failure() && format!("{row:?}").contains("exec: 502"));
        assert!(tried.all(|says_so| says_so));
    }
}
