//! From nodes to running pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams, LogParams, PostParams};
use kube::{Client, ResourceExt};
use rand::Rng;

use crate::error::Error;
use crate::lab::{Lab, Place, Spot};
use crate::paths::{API_SERVER, Path};
use crate::pods::{ISOLATED, POD_PORTS, Plan, Ports, trouble};
use crate::report::Row;
use crate::services::Services;
use crate::shell::{KubeShell, plain};
use crate::{Options, checks, dns, isolation};

/// How long pods may take to run, image and all.
const START: Duration = Duration::from_secs(30);

/// The same where large packets are lost: those that start do so soon, and the others never.
const START_ANYWAY: Duration = Duration::from_secs(10);

/// How soon Services that were made must be in force on all nodes. What works is tried no more.
const IN_FORCE: Duration = Duration::from_secs(8);

/// The addresses that Services of the type LoadBalancer have.
async fn balancers(client: &Client) -> Result<BTreeSet<IpAddr>, Error> {
    let services = Api::<Service>::all(client.clone());
    let services = services.list(&ListParams::default()).await;
    let services = services.map_err(Error::api("list the Services"))?;
    let statuses = services
        .items
        .into_iter()
        .filter_map(|service| service.status?.load_balancer?.ingress);
    let addresses = statuses.flatten().filter_map(|ingress| ingress.ip?.parse().ok());
    Ok(addresses.collect())
}

/// The API servers' own addresses, as the Service `kubernetes` has them; none if nobody tells.
async fn api_servers(client: &Client) -> Vec<IpAddr> {
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), "default");
    let of_kubernetes = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let slices = slices.list(&of_kubernetes).await;
    let endpoints = slices
        .into_iter()
        .flatten()
        .flat_map(|slice| slice.endpoints.unwrap_or_default());
    let addresses = endpoints.flat_map(|endpoint| endpoint.addresses);
    addresses.filter_map(|text| text.parse().ok()).collect()
}

/// Starts the pods, and makes a lab of those that run. `paths` are those between nodes that are
/// known already.
pub(crate) async fn deploy(
    client: &Client,
    namespace: &str,
    options: &Options,
    paths: &[Path],
) -> Result<Lab, Error> {
    let nodes = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await;
    let nodes = nodes.map_err(Error::api("list the nodes"))?.items;
    let mut pinged: Vec<(String, Vec<IpAddr>)> = nodes
        .iter()
        .map(|node| (node.name_any(), internal_ips(node)))
        .collect();
    pinged.push((API_SERVER.to_owned(), api_servers(client).await));
    let (mut rows, chosen) = choose(nodes, options.most_nodes);
    if chosen.is_empty() {
        let found = rows.iter().map(|row| format!("; {} isn't", row.path)).collect();
        return Err(Error::NoNodes(found));
    }
    // Before the pods, so that they meet Services and policies that are there.
    let (services, policies) = tokio::join!(
        Services::make(client, namespace),
        isolation::make(client, namespace)
    );
    let balancers = balancers(client).await?;
    let begin = Instant::now();
    let plans = plans(&chosen);
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let lossy = |node: &str| paths.iter().any(|path| path.loses() && path.has_end(node));
    let tries = plans.iter().map(|plan| {
        let limit = if lossy(&plan.node) { START_ANYWAY } else { START };
        start(&api, plan, &options.image, limit)
    });
    let mut running: BTreeMap<&str, Spot> = BTreeMap::new();
    let outside_name = async {
        match &options.outside_name {
            Ok(name) => dns::outside_name(name).await,
            Err(why) => Err(why.clone()),
        }
    };
    let (tried, outside_name) = tokio::join!(join_all(tries), outside_name);
    for (plan, started) in plans.iter().zip(tried) {
        match started {
            Ok(spot) => drop(running.insert(&plan.name, spot)),
            Err(why) => {
                let next = format!(
                    "{}; images: `ripstop image load target/release/toolbox.tar`",
                    checks::look_at(options.cluster.as_deref(), &[&plan.node])
                );
                rows.push(Row::failed(checks::START, plan.node.clone(), why, next));
            }
        }
    }
    if running.len() == plans.len() {
        let count = plans.len();
        let took = begin.elapsed().as_secs_f64();
        rows.push(Row::passed(
            checks::START,
            format!("{count} pods on {}", nodes_in_words(chosen.len())),
            format!("in {took:.1} s"),
        ));
    }
    let places = chosen
        .into_iter()
        .enumerate()
        .map(|(number, node)| {
            let mut take = |name: String| running.remove(name.as_str());
            Place {
                node: node.name,
                addresses: node.addresses,
                pod_cidrs: node.pod_cidrs,
                pod: take(format!("pod-{number}")),
                neighbour: take(format!("neighbour-{number}")),
                isolated: take(format!("{ISOLATED}-{number}")),
                host: take(format!("host-{number}")),
            }
        })
        .collect();
    Ok(Lab {
        balancers,
        services,
        policies,
        patience: IN_FORCE,
        places,
        shell: Box::new(KubeShell::new(api)),
        outside: options.outside.clone(),
        cluster: options.cluster.clone(),
        paths: paths.to_vec(),
        pinged,
        outside_name,
        rows,
    })
}

fn nodes_in_words(count: usize) -> String {
    match count {
        1 => "one node".to_owned(),
        count => format!("{count} nodes"),
    }
}

/// A node to use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Chosen {
    name: String,
    addresses: Vec<IpAddr>,
    pod_cidrs: Vec<IpNet>,
}

/// The nodes to use, by name; a row for each that isn't Ready.
fn choose(mut nodes: Vec<Node>, most: usize) -> (Vec<Row>, Vec<Chosen>) {
    nodes.sort_by_key(ResourceExt::name_any);
    let (mut rows, mut chosen) = (Vec::new(), Vec::new());
    for node in nodes {
        let name = node.name_any();
        let addresses = internal_ips(&node);
        let status = node.status.unwrap_or_default();
        let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
        if ready.is_none_or(|condition| condition.status != "True") {
            let why = ready.and_then(|condition| condition.message.clone());
            let why = why.unwrap_or_else(|| "it never said that it was".to_owned());
            let next = format!("`kubectl describe node {name}`; is it stopped on purpose?");
            rows.push(Row::failed(
                checks::READY,
                name,
                format!("not Ready: {why}"),
                next,
            ));
            continue;
        }
        let blocks = node.spec.and_then(|spec| spec.pod_cidrs).unwrap_or_default();
        let pod_cidrs = blocks.iter().filter_map(|text| text.parse().ok()).collect();
        chosen.push(Chosen {
            name,
            addresses,
            pod_cidrs,
        });
    }
    if rows.is_empty() {
        let left_out = match chosen.len().saturating_sub(most) {
            0 => String::new(),
            more => format!("{more} of them not tried"),
        };
        rows.push(Row::passed(
            checks::READY,
            format!("{} nodes", chosen.len()),
            left_out,
        ));
    }
    chosen.truncate(most);
    (rows, chosen)
}

fn internal_ips(node: &Node) -> Vec<IpAddr> {
    let addresses = node
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    internal
        .filter_map(|address| address.address.parse().ok())
        .collect()
}

/// A pod and a pod in the node's own network on each node, a second pod and an
/// isolated one on the first. On nodes, ports may be taken: chosen at random where few things are.
fn plans(nodes: &[Chosen]) -> Vec<Plan> {
    let http = rand::rng().random_range(20_000..28_000);
    let on_nodes = Ports {
        http,
        echo: http + 1000,
    };
    let plan = |kind: &'static str, number: usize, node: &str| Plan {
        name: format!("{kind}-{number}"),
        // Services lead to neighbours as to all pods.
        kind: if kind == "neighbour" { "pod" } else { kind },
        node: node.to_owned(),
        host_network: kind == "host",
        ports: if kind == "host" { on_nodes } else { POD_PORTS },
        host_port: (kind == "pod").then_some(http + 2000),
    };
    let mut plans = Vec::new();
    for (number, Chosen { name: node, .. }) in nodes.iter().enumerate() {
        plans.push(plan("pod", number, node));
        plans.push(plan("host", number, node));
        if number == 0 {
            plans.push(plan("neighbour", number, node));
            plans.push(plan(ISOLATED, number, node));
        }
    }
    plans
}

/// Makes a pod and waits until it runs and has addresses.
async fn start(api: &Api<Pod>, plan: &Plan, image: &str, limit: Duration) -> Result<Spot, String> {
    let deadline = Instant::now() + limit;
    let object = plan.object(image);
    loop {
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => break,
            // A fresh namespace gets its service account a moment later.
            Err(e) if plain(&e).contains("serviceaccount") && Instant::now() < deadline => {}
            Err(e) => return Err(format!("the API refuses the pod: {}", plain(&e))),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut pause = Duration::from_millis(100);
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 5 / 4).min(Duration::from_secs(1));
        let pod = api.get(&plan.name).await.map_err(|e| plain(&e))?;
        let status = pod.status.clone().unwrap_or_default();
        let addresses = status
            .pod_ips
            .iter()
            .flatten()
            .filter_map(|ip| ip.ip.parse().ok());
        let mut addresses: Vec<IpAddr> = addresses.collect();
        if addresses.is_empty() {
            addresses.extend(status.pod_ip.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()));
        }
        match status.phase.as_deref() {
            Some("Running") if !addresses.is_empty() => {
                listening(api, &plan.name).await;
                return Ok(Spot {
                    pod: plan.name.clone(),
                    node: plan.node.clone(),
                    addresses,
                    ports: plan.ports,
                    host_port: plan.host_port,
                });
            }
            Some("Failed" | "Succeeded") => return Err(ended(api, &pod).await),
            _ if Instant::now() > deadline => {
                let why = trouble(&pod);
                return Err(format!("{} doesn't run after {limit:?}: {why}", plan.name));
            }
            _ => {}
        }
    }
}

/// A container that runs doesn't listen yet: its log says when it does. Where
/// logs can't be read, the check of just that will tell.
async fn listening(api: &Api<Pod>, pod: &str) {
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        match api.logs(pod, &LogParams::default()).await {
            Ok(text) if !text.contains("listening") => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => return,
        }
    }
}

/// Why a pod's server ended: its own last words say it best.
async fn ended(api: &Api<Pod>, pod: &Pod) -> String {
    let logs = api
        .logs(&pod.name_any(), &Default::default())
        .await
        .unwrap_or_default();
    match logs.lines().last() {
        Some(line) => format!("{} ended: {line}", pod.name_any()),
        None => format!("{} ended: {}", pod.name_any(), trouble(pod)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, ready: &str) -> Node {
        let status = json!({
            "conditions": [{"type": "Ready", "status": ready, "message": "agent is gone"}],
            "addresses": [{"type": "InternalIP", "address": "172.30.0.11"}, {"type": "Hostname", "address": name}],
        });
        let spec = json!({"podCIDRs": ["fd00::/64"]});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn nodes_that_are_not_ready_are_named_and_left_out() {
        let (rows, chosen) = choose(vec![node("b", "True"), node("a", "Unknown")], 8);
        let only = Chosen {
            name: "b".to_owned(),
            addresses: vec![[172, 30, 0, 11].into()],
            pod_cidrs: vec!["fd00::/64".parse().unwrap()],
        };
        assert_eq!(chosen, [only]);
        assert_eq!(rows.len(), 1);
        assert!(rows[0].is_failure() && rows[0].path == "a");
    }

    #[test]
    fn no_more_nodes_than_asked_for_take_part() {
        let nodes = ["a", "b", "c"].map(|name| node(name, "True")).into();
        let (rows, chosen) = choose(nodes, 2);
        assert_eq!(chosen.len(), 2);
        assert_eq!(
            rows,
            [Row::passed(checks::READY, "3 nodes", "1 of them not tried")]
        );
    }

    #[test]
    fn each_node_has_a_pod_and_a_host_pod_and_the_first_a_neighbour_and_an_isolated_one() {
        let nodes = ["a", "b"].map(|name| Chosen {
            name: name.to_owned(),
            ..Chosen::default()
        });
        let plans = plans(&nodes);
        let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(
            names,
            ["pod-0", "host-0", "neighbour-0", "isolated-0", "pod-1", "host-1"]
        );
        let host = plans[1].object("i").spec.unwrap();
        assert_eq!(
            (host.host_network, host.node_name.as_deref()),
            (Some(true), Some("a"))
        );
        assert_eq!(plans[0].ports, POD_PORTS);
        let container = &plans[0].object("i").spec.unwrap().containers[0];
        let ports = container.ports.as_ref().unwrap();
        let host_port = ports[0].host_port.and_then(|port| u16::try_from(port).ok());
        assert!(host_port.is_some() && host_port == plans[4].host_port);
        assert!(ports[1].host_port.is_none() && plans[2].host_port.is_none());
        assert!(![plans[1].ports.http, plans[1].ports.echo].contains(&host_port.unwrap()));
        assert_ne!(plans[1].ports.http, plans[1].ports.echo);
    }
}
