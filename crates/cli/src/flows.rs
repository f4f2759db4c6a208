//! `ripstop flows`: what happens to conversations, from the agents of all nodes.
//!
//! Each node's agent answers at `nodes/NAME/proxy/flows` of the API, to those who may ask there.
//! On its node it also answers by a socket, where the kubelet is another's.

use std::path::Path;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use kube::Client;
use model::{Flow, FlowEvent};
use supervisor::{Cluster, Error, Paths};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::api;
use crate::args::{Flows, Output};
use crate::failure::Failure;
use crate::output::{note, out};

/// How many lines wait to be printed.
const QUEUE: usize = 256;
/// How soon a node is asked again that stopped answering.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: Flows) -> Result<(), Failure> {
    if let Some(path) = &args.socket {
        return on_node(&args, path).await;
    }
    let name = &args.named.name;
    let paths = Paths::of(name);
    Cluster::load(&paths)?.ok_or_else(|| Error::NoCluster(name.to_string()))?;
    let client = api::client(&paths).await?;
    let cure = format!("`ripstop status --name {name}` shows how the cluster is");
    let nodes = api::nodes(&client).await;
    let nodes = nodes.map_err(|why| Failure::new(format!("the nodes can't be listed: {why}"), &cure))?;
    let names: Vec<String> = nodes.into_iter().map(|node| node.name).collect();
    if args.output == Output::Table {
        out!("{}", heading());
    }
    if args.follow {
        follow(&client, &args, names).await;
        return Ok(());
    }
    let asked = names.iter().map(|node| kept(&client, &args, node));
    let (mut flows, mut silent) = (Vec::new(), Vec::new());
    for (node, answer) in names.iter().zip(futures::future::join_all(asked).await) {
        match answer {
            Ok(told) => flows.extend(told),
            Err(error) => silent.push(format!("{node}: {error}")),
        }
    }
    // Times are written so that texts are in order.
    flows.sort_by(|a: &Flow, b| a.time.cmp(&b.time));
    let first = flows.len().saturating_sub(args.last);
    flows[first..].iter().for_each(|flow| print(flow, args.output));
    if silent.is_empty() {
        return Ok(());
    }
    Err(Failure::new(silent.join("; "), cure))
}

/// What the agent of this node tells by its socket.
async fn on_node(args: &Flows, path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            format!("{} doesn't answer: {error}", path.display()),
            "it's the agent's, flows.sock in its run directory, for root on its node alone",
        )
    };
    if args.output == Output::Table {
        out!("{}", heading());
    }
    let mut stream = UnixStream::connect(path).await.map_err(failed)?;
    let query = format!("{}\n", query(args, args.last));
    stream.write_all(query.as_bytes()).await.map_err(failed)?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        match serde_json::from_str::<Flow>(&line) {
            Ok(flow) => print(&flow, args.output),
            // What isn't a flow says how many there was no time for.
            Err(_) => note!("{line}"),
        }
    }
    match args.follow {
        true => Err(Failure::new(
            "the agent ended",
            "the next one listens at the same place",
        )),
        false => Ok(()),
    }
}

/// What a node has kept.
async fn kept(client: &Client, args: &Flows, node: &str) -> Result<Vec<Flow>, kube::Error> {
    let mut flows = Vec::new();
    let mut lines = client
        .request_stream(request(args, node, args.last))
        .await?
        .lines();
    while let Some(line) = lines.next().await {
        let line = line.map_err(|error| kube::Error::Service(error.into()))?;
        flows.extend(serde_json::from_str::<Flow>(&line).ok());
    }
    Ok(flows)
}

/// Prints what comes, from all nodes, until it's ended.
async fn follow(client: &Client, args: &Flows, nodes: Vec<String>) {
    let (sender, mut lines) = mpsc::channel(QUEUE);
    for node in nodes {
        let (client, args, sender) = (client.clone(), args.clone(), sender.clone());
        tokio::spawn(async move { follow_node(&client, &args, &node, &sender).await });
    }
    drop(sender);
    while let Some((node, line)) = lines.recv().await {
        match serde_json::from_str::<Flow>(&line) {
            Ok(flow) => print(&flow, args.output),
            // What isn't a flow says how many there was no time for.
            Err(_) => note!("{node}: {line}"),
        }
    }
}

/// An agent that is restarted is asked again.
async fn follow_node(client: &Client, args: &Flows, node: &str, sender: &mpsc::Sender<(String, String)>) {
    let mut last = args.last;
    let mut said = false;
    loop {
        let why = match client.request_stream(request(args, node, last)).await {
            Ok(stream) => {
                (last, said) = (0, false);
                let mut lines = stream.lines();
                while let Some(Ok(line)) = lines.next().await {
                    if sender.send((node.to_owned(), line)).await.is_err() {
                        return;
                    }
                }
                "its agent ended".to_owned()
            }
            Err(error) => error.to_string(),
        };
        if !std::mem::replace(&mut said, true) {
            note!("{node} tells nothing now, and is asked again: {why}");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn request(args: &Flows, node: &str, last: usize) -> http::Request<Vec<u8>> {
    let path = format!("/api/v1/nodes/{node}/proxy/flows?{}", query(args, last));
    http::Request::get(path)
        .body(Vec::new())
        .expect("names of objects are parts of a path")
}

/// What is asked of an agent.
fn query(args: &Flows, last: usize) -> String {
    let mut query = format!("last={last}");
    if args.follow {
        query.push_str("&follow=true");
    }
    if args.dropped {
        query.push_str("&dropped=true");
    }
    for (key, value) in [
        ("namespace", args.namespace.clone()),
        ("pod", args.pod.clone()),
        ("port", args.port.map(|port| port.to_string())),
    ] {
        if let Some(value) = value {
            query.push_str(&format!("&{key}={value}"));
        }
    }
    query
}

fn heading() -> String {
    row(["TIME", "EVENT", "PROTOCOL", "FROM", "TO", "DECIDED BY"])
}

fn row([time, event, protocol, from, to, by]: [&str; 6]) -> String {
    let text = format!("{time:<12}   {event:<7}   {protocol:<8}   {from:<32}   {to:<32}   {by}");
    text.trim_end().to_owned()
}

fn print(flow: &Flow, output: Output) {
    match output {
        Output::Table => out!("{}", line(flow)),
        Output::Json => out!("{}", serde_json::to_value(flow).expect("a flow becomes JSON")),
    }
}

fn line(flow: &Flow) -> String {
    let time = flow.time.get(11..23).unwrap_or(&flow.time);
    let to = match &flow.endpoint {
        Some(endpoint) => format!("{} → {endpoint}", flow.destination),
        None => flow.destination.to_string(),
    };
    let by: Vec<String> = flow.policies.iter().map(ToString::to_string).collect();
    let by = match (&flow.event, flow.denied, by.is_empty()) {
        (FlowEvent::Dropped, Some(direction), true) => format!("{direction}: nothing is known of the pod"),
        _ => by.join(", "),
    };
    let (event, from) = (flow.event.to_string(), flow.source.to_string());
    row([time, &event, &flow.protocol, &from, &to, &by])
}

#[cfg(test)]
mod tests {
    use model::{Direction, FlowEnd, FlowPolicy};

    use super::*;

    fn end(address: &str, port: u16, pod: Option<&str>, service: Option<&str>) -> FlowEnd {
        FlowEnd {
            address: address.parse().expect("an address"),
            port,
            pod: pod.map(str::to_owned),
            service: service.map(str::to_owned),
            node: None,
        }
    }

    fn flow() -> Flow {
        Flow {
            time: "2026-05-07T09:30:00.123456Z".to_owned(),
            node: "node-1".to_owned(),
            event: FlowEvent::Dropped,
            protocol: "tcp".to_owned(),
            source: end("10.244.0.2", 40000, Some("shop/web"), None),
            destination: end("10.244.1.2", 6379, Some("redis/db"), None),
            endpoint: None,
            denied: Some(Direction::Ingress),
            policies: vec![FlowPolicy {
                direction: Direction::Ingress,
                policy: "redis/database".to_owned(),
                rule: None,
            }],
        }
    }

    #[test]
    fn a_flow_is_a_line_that_says_who_decided() {
        let unknown = Flow {
            policies: Vec::new(),
            ..flow()
        };
        let by_service = Flow {
            event: FlowEvent::New,
            destination: end("10.96.0.20", 80, None, Some("redis/db")),
            endpoint: Some(flow().destination),
            denied: None,
            policies: vec![FlowPolicy {
                rule: Some(0),
                ..flow().policies[0].clone()
            }],
            ..flow()
        };
        let lines = [heading(), line(&flow()), line(&unknown), line(&by_service)].join("\n");
        insta::assert_snapshot!(lines);
    }

    #[test]
    fn what_is_wished_is_asked() {
        let args = Flows {
            follow: true,
            namespace: Some("shop".to_owned()),
            port: Some(80),
            dropped: true,
            last: 7,
            ..Flows::of("local")
        };
        let path = request(&args, "node-1", 7).uri().to_string();
        assert_eq!(
            path,
            "/api/v1/nodes/node-1/proxy/flows?last=7&follow=true&dropped=true&namespace=shop&port=80"
        );
    }
}
