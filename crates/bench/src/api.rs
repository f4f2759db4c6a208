//! The API server under load: writes, what a hundred watches see of them, long lists, and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::extent::Extent;
use crate::figures::{Figures, Unit, quantile};
use crate::{known, process};

const NAMESPACE: &str = "bench-api";
const WATCHES: usize = 100;
/// Written one after the other, for their latency.
const ALONE: usize = 200;
/// Written by several at once, for their number.
const CROWD: usize = 2000;
const WRITERS: usize = 16;
/// Of pods, and of everything.
const PODS: usize = 5000;
const OBJECTS: usize = 10_000;
const LIMIT: Duration = Duration::from_secs(120);

/// An event as one watch saw it: which write, and when.
type Seen = (usize, Instant);

pub(crate) async fn measure(cluster: &Cluster, extent: &Extent, figures: &mut Figures) -> Result<()> {
    let client = cluster.client().await?;
    known::namespace(&client, NAMESPACE).await?;
    let (alone, crowd) = (ALONE / extent.divisor, CROWD / extent.divisor);
    let (sender, mut seen) = mpsc::unbounded_channel();
    let mut watches = JoinSet::new();
    for _ in 0..WATCHES {
        watch(&client, &sender, &mut watches).await?;
    }
    latency(&client, alone, &mut seen, figures).await?;
    throughput(&client, alone, crowd, &mut seen, figures).await?;
    watches.shutdown().await;

    let pods = PODS / extent.divisor;
    let begin = Instant::now();
    write_many(&client, "pods", 0, pods, pod).await?;
    let rate = pods as f64 / begin.elapsed().as_secs_f64();
    let note = format!("{WRITERS} at once; their objects go to the scheduler and the controllers as well");
    figures.add("pods created", rate, Unit::PerSecond, None, note);
    lists(&client, pods, extent.rounds, figures).await?;
    let rest = (OBJECTS / extent.divisor).saturating_sub(pods + alone + crowd);
    write_many(&client, "configmaps", alone + crowd, rest, config_map).await?;
    let when = format!("with {} objects, {pods} of them pods", OBJECTS / extent.divisor);
    process::measure_memory(cluster, &when, None, figures).await
}

fn path(plural: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{plural}")
}

async fn post(client: &Client, path: &str, object: &Value) -> Result<()> {
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(object.to_string().into_bytes())?;
    client.request::<Value>(request).await.map(drop)?;
    Ok(())
}

/// An ordinary ConfigMap of 1 KiB.
fn config_map(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("w-{number}"), "labels": {"app": "bench"}},
        "data": {"text": "x".repeat(1000)},
    })
}

/// An ordinary pod, which no scheduler takes.
fn pod(number: usize) -> Value {
    let container = json!({
        "name": "web", "image": "registry.example/web:1.2.3",
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": "MODE", "value": "production"}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("w-{number}"), "labels": {"app": "bench", "tier": "web"}},
        "spec": {
            "schedulerName": "none", "containers": [container],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    })
}

/// Opens a watch of the ConfigMaps; it tells what it sees as it comes, unread.
async fn watch(
    client: &Client,
    to: &mpsc::UnboundedSender<Seen>,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let path = format!(
        "{}?watch=1&labelSelector=app%3Dbench&resourceVersion=0",
        path("configmaps")
    );
    let request = http::Request::get(path).body(Vec::new())?;
    let mut lines = client.request_stream(request).await?.lines();
    let to = to.clone();
    tasks.spawn(async move {
        while let Some(line) = lines.next().await {
            let (line, now) = (line?, Instant::now());
            let number = line
                .split_once("\"name\":\"w-")
                .and_then(|(_, rest)| rest.split('"').next()?.parse().ok());
            to.send((number.context("an event without a name")?, now))?;
        }
        bail!("a watch ended")
    });
    Ok(())
}

/// Writes one after the other.
async fn latency(
    client: &Client,
    count: usize,
    seen: &mut mpsc::UnboundedReceiver<Seen>,
    figures: &mut Figures,
) -> Result<()> {
    let (mut written, mut arrived) = (Vec::new(), Vec::new());
    for number in 0..count {
        let begin = Instant::now();
        post(client, &path("configmaps"), &config_map(number)).await?;
        written.push(begin.elapsed().as_secs_f64() * 1e3);
        let events = expect(seen, WATCHES, |n| n == number).await?;
        arrived.extend(events.iter().map(|at| (*at - begin).as_secs_f64() * 1e3));
    }
    let note = || format!("{count}, one after the other, of 1 KiB");
    for (share, name) in [(0.5, "median"), (0.99, "99 of 100")] {
        let what = format!("a write acknowledged, {name}");
        figures.add(&what, quantile(&written, share), Unit::Millis, None, note());
        let what = format!("a write seen by {WATCHES} watches, {name}");
        figures.add(
            &what,
            quantile(&arrived, share),
            Unit::Millis,
            None,
            "from the request on".to_owned(),
        );
    }
    Ok(())
}

/// Writes at the same time.
async fn throughput(
    client: &Client,
    first: usize,
    count: usize,
    seen: &mut mpsc::UnboundedReceiver<Seen>,
    figures: &mut Figures,
) -> Result<()> {
    let begin = Instant::now();
    let writing = async {
        write_many(client, "configmaps", first, count, config_map).await?;
        anyhow::Ok(begin.elapsed())
    };
    let (written, events) = tokio::try_join!(writing, expect(seen, count * WATCHES, |n| n >= first))?;
    let last = events.iter().max().context("no watch saw anything")?;
    let rate = |count: usize, time: Duration| count as f64 / time.as_secs_f64();
    let note = format!("{count} of 1 KiB by {WRITERS} at once, while {WATCHES} watches follow");
    figures.add("writes", rate(count, written), Unit::PerSecond, None, note);
    let note = format!("until the last of {} arrived", events.len());
    figures.add(
        "watch events",
        rate(events.len(), *last - begin),
        Unit::PerSecond,
        None,
        note,
    );
    Ok(())
}

/// As many events, all of writes that are wanted; when they arrived.
async fn expect(
    seen: &mut mpsc::UnboundedReceiver<Seen>,
    count: usize,
    wanted: impl Fn(usize) -> bool,
) -> Result<Vec<Instant>> {
    let all = async {
        let mut arrived = Vec::with_capacity(count);
        while arrived.len() < count {
            let (number, at) = seen.recv().await.context("all watches ended")?;
            if !wanted(number) {
                bail!("the write {number} was seen twice");
            }
            arrived.push(at);
        }
        Ok(arrived)
    };
    let all = tokio::time::timeout(LIMIT, all).await;
    all.with_context(|| format!("watches didn't see all within {LIMIT:?}"))?
}

async fn write_many(
    client: &Client,
    plural: &str,
    first: usize,
    count: usize,
    object: fn(usize) -> Value,
) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(first));
    let mut writers: JoinSet<Result<()>> = JoinSet::new();
    for _ in 0..WRITERS {
        let (client, next, path) = (client.clone(), next.clone(), path(plural));
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= first + count {
                    return Ok(());
                }
                post(&client, &path, &object(number)).await?;
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.context("a writer broke off")??;
    }
    Ok(())
}

/// Lists all pods, unread.
async fn lists(client: &Client, pods: usize, rounds: u32, figures: &mut Figures) -> Result<()> {
    let mut times = Vec::new();
    let mut size = 0;
    for _ in 0..rounds {
        let begin = Instant::now();
        let request = http::Request::get(path("pods")).body(Vec::new())?;
        let body = client.request_stream(request).await?;
        let bytes: Vec<usize> = body.lines().map_ok(|line| line.len()).try_collect().await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        size = bytes.iter().sum();
    }
    let what = format!(
        "a list of {pods} pods, {:.1} MiB",
        size as f64 / f64::from(1 << 20)
    );
    figures.add_median(&what, &times, Unit::Millis, None);
    Ok(())
}
