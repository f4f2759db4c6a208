//! For how long nobody answers when the node that announces a load balancer dies.
//!
//! The endpoint is on a node that announces nothing; of the others one announces, loses its power, and gets it
//! back for the next round.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::cluster::Cluster;
use crate::figures::{Figures, Unit, quantile};

const NAME: &str = "takeover";
/// Where the endpoint is.
const QUIET: &str = "node-3";
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const BAR: f64 = 3.0;
/// A request that isn't answered by then is asked again.
const PATIENCE: Duration = Duration::from_millis(50);
const EVERY: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(60);

/// Cuts the announcer's power, round after round.
pub(crate) async fn measure(cluster: &Cluster, rounds: u32, figures: &mut Figures) -> Result<()> {
    let client = cluster.client().await?;
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let nodes: Api<Node> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client, "kube-system");
    exclude(&nodes, Some("")).await?;
    pods.create(&PostParams::default(), &pod()).await?;
    services.create(&PostParams::default(), &service()).await?;
    let mut gaps = Vec::new();
    for _ in 0..rounds {
        let (first, address) = announcer(&services, None).await?;
        answered(address).await?;
        let asking = Asking::start(address);
        cluster.stop_node(&first)?;
        announcer(&services, Some(&first)).await?;
        answered(address).await?;
        gaps.push(asking.longest_gap()?);
        let before = renewal(&leases, &first).await?;
        cluster.start_node(&first)?;
        elected_again(&leases, &first, before).await?;
    }
    let what = "a load balancer's announcer dies: without an answer for";
    figures.add_median(what, &gaps, Unit::Seconds, Some(BAR));
    let worst = quantile(&gaps, 1.0);
    let note = format!("worst of {}", gaps.len());
    figures.add(&format!("{what}, at most"), worst, Unit::Seconds, Some(BAR), note);
    services.delete(NAME, &DeleteParams::default()).await?;
    pods.delete(NAME, &DeleteParams::default().grace_period(0))
        .await?;
    exclude(&nodes, None).await
}

/// The state of the Lease that says that a node is there to announce.
async fn renewal(leases: &Api<Lease>, node: &str) -> Result<Option<String>> {
    let lease = leases.get_opt(&format!("announcer-{node}")).await?;
    Ok(lease.and_then(|lease| lease.metadata.resource_version))
}

/// Waits until a node that was dead takes part again.
async fn elected_again(leases: &Api<Lease>, node: &str, before: Option<String>) -> Result<()> {
    let look = async {
        while renewal(leases, node).await? == before {
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    let back = timeout(LIMIT, look).await;
    back.with_context(|| format!("{node} doesn't take part {LIMIT:?} after it was started"))?
}

fn pod() -> Pod {
    let container = json!({ "name": "toolbox", "image": "localhost/ripstop/toolbox:1" });
    let object = json!({ "metadata": { "name": NAME, "labels": { "app": NAME } },
        "spec": { "nodeName": QUIET, "containers": [container] } });
    serde_json::from_value(object).expect("the literal is a pod")
}

fn service() -> Service {
    let object = json!({ "metadata": { "name": NAME },
        "spec": { "type": "LoadBalancer", "selector": { "app": NAME }, "ports": [{ "port": 80, "targetPort": 8080 }] } });
    serde_json::from_value(object).expect("the literal is a Service")
}

/// Whether the node with the endpoint is left out of announcing.
async fn exclude(nodes: &Api<Node>, label: Option<&str>) -> Result<()> {
    let patch = Patch::Merge(json!({ "metadata": { "labels": { EXCLUDE: label } } }));
    nodes.patch(QUIET, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Who announces the Service, and where. Not the one that is dead, nor the one that may not.
async fn announcer(services: &Api<Service>, dead: Option<&str>) -> Result<(String, SocketAddr)> {
    let look = async {
        loop {
            let service = services.get(NAME).await?;
            match read(&service) {
                Some((node, address)) if Some(node.as_str()) != dead && node != QUIET => {
                    return anyhow::Ok((node, SocketAddr::new(address, 80)));
                }
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let found = timeout(LIMIT, look).await;
    found.context("nobody announces the load balancer")?
}

fn read(service: &Service) -> Option<(String, IpAddr)> {
    let status = service.status.as_ref()?;
    let ingress = status.load_balancer.as_ref()?.ingress.as_ref()?.first()?;
    let conditions = status.conditions.as_ref()?;
    let announced = conditions
        .iter()
        .find(|condition| condition.type_ == "ripstop.dev/Announced" && condition.status == "True")?;
    let node = announced.message.split(' ').next()?.to_owned();
    Some((node, ingress.ip.as_ref()?.parse().ok()?))
}

async fn answered(address: SocketAddr) -> Result<()> {
    let begin = Instant::now();
    while !ask(address) {
        if begin.elapsed() > LIMIT {
            bail!("{address} isn't answered");
        }
        sleep(EVERY).await;
    }
    Ok(())
}

fn ask(address: SocketAddr) -> bool {
    let attempt = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: takeover\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer == *b"HTTP/1.1 200")
    };
    attempt().unwrap_or(false)
}

/// Requests, one after the other, from the machine.
struct Asking {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Duration>,
}

impl Asking {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                if ask(address) {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                std::thread::sleep(EVERY);
            }
            longest.max(last.elapsed())
        });
        Self { stop, thread }
    }

    /// The longest time between two answers, in seconds.
    fn longest_gap(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let gap = self.thread.join();
        gap.map(|gap| gap.as_secs_f64())
            .map_err(|_| anyhow::anyhow!("the thread that asks panicked"))
    }
}
