//! How long CNI ADD and DEL take, from the start of the plugin to its end: what a container runtime
//! waits for. Makes its own namespaces and removes them. Needs root.
//!
//! `RIPSTOP_CNI=… cargo run --release -p agent --example cni_latency -- [PODS [SIDE_BY_SIDE]]`

#[path = "../tests/node/api.rs"]
mod api;
#[path = "../tests/node/support.rs"]
#[expect(dead_code, reason = "tests use more of it")]
mod support;

use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{Agent, TestNode};
use testkit::TestNs;

#[tokio::main]
async fn main() {
    let mut arguments = env::args().skip(1);
    let mut number = |default: usize| {
        arguments
            .next()
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let (pods, side_by_side) = (number(100), number(1));
    let node = Arc::new(TestNode::new(&["10.244.0.0/20", "fd00:10:244::/64"]).await);
    let agent = Agent::start(&node.spec).await;
    let mut workers = Vec::new();
    for worker in 0..side_by_side {
        let node = node.clone();
        workers.push(tokio::spawn(one_after_the_other(
            node,
            worker,
            pods / side_by_side,
        )));
    }
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    for worker in workers {
        let (add, del) = worker.await.expect("no panic");
        adds.extend(add);
        dels.extend(del);
    }
    println!("{} pods, {side_by_side} side by side", adds.len());
    report("ADD", adds);
    report("DEL", dels);
    agent.stop().await;
}

async fn one_after_the_other(
    node: Arc<TestNode>,
    worker: usize,
    pods: usize,
) -> (Vec<Duration>, Vec<Duration>) {
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    let mut namespaces = Vec::new();
    for number in 0..pods {
        namespaces.push((format!("w{worker}n{number}"), TestNs::new("pod").await));
    }
    for (container, pod) in &namespaces {
        let start = Instant::now();
        node.call("ADD", container, &pod.path())
            .run()
            .await
            .expect("attached");
        adds.push(start.elapsed());
    }
    for (container, pod) in &namespaces {
        let start = Instant::now();
        node.call("DEL", container, &pod.path())
            .run()
            .await
            .expect("detached");
        dels.push(start.elapsed());
    }
    (adds, dels)
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| {
        times
            .get(((times.len() as f64 - 1.0) * share) as usize)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{what}: p50 {:?}, p90 {:?}, p99 {:?}, max {:?}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}
