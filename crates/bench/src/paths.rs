//! Request and response from pod to pod, in turns with the same without Ripstop.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, AttachParams, DeleteParams, PostParams};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::figures::{Figures, Unit, quantile};
use crate::plain::Plain;

/// For how long each round asks; one request at a time.
const SECONDS: &str = "2";

/// One way of asking: what it measured so far, in milliseconds.
#[derive(Default)]
struct Way {
    kept: Vec<f64>,
    fresh: Vec<f64>,
}

/// Measures both paths, plain and through the cluster, in turns.
pub(crate) async fn measure(
    client: &Client,
    toolbox: &Path,
    rounds: u32,
    figures: &mut Figures,
) -> Result<()> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let names = [
        ("bench-client", "node-1"),
        ("bench-near", "node-1"),
        ("bench-far", "node-2"),
    ];
    for (name, node) in names {
        pods.create(&PostParams::default(), &pod(name, node)).await?;
    }
    let near = address(&pods, "bench-near").await?;
    let far = address(&pods, "bench-far").await?;
    address(&pods, "bench-client").await?;
    for (path, server, plain) in [
        ("on one node", near, Plain::one_node().await?),
        ("across nodes", far, Plain::two_nodes().await?),
    ] {
        let _server = plain.serve(toolbox)?;
        let url = format!("http://{server}:8080/");
        let (mut ours, mut theirs) = (Way::default(), Way::default());
        // Once without being counted: caches, neighbours, a server that starts.
        for round in 0..=rounds {
            let (before, after) = (Way::plain(&plain, toolbox)?, Way::pods(&pods, &url).await?);
            if round > 0 {
                theirs.add(before);
                ours.add(after);
            }
        }
        report(path, &ours, &theirs, figures);
    }
    for (name, _) in names {
        pods.delete(name, &DeleteParams::default()).await?;
    }
    Ok(())
}

fn report(path: &str, ours: &Way, theirs: &Way, figures: &mut Figures) {
    for (kind, ours, theirs) in [
        ("request and response", &ours.kept, &theirs.kept),
        ("connection per request", &ours.fresh, &theirs.fresh),
    ] {
        let (ours, theirs) = (quantile(ours, 0.5), quantile(theirs, 0.5));
        figures.add(
            &format!("pod to pod {path}, {kind}, beside plain routing"),
            ours / theirs,
            Unit::Times,
            None,
            format!("{ours:.3} ms against {theirs:.3} ms"),
        );
    }
}

impl Way {
    fn add(&mut self, other: Self) {
        self.kept.extend(other.kept);
        self.fresh.extend(other.fresh);
    }

    fn plain(plain: &Plain, toolbox: &Path) -> Result<Self> {
        let ask = |fresh: bool| {
            let url = plain.url();
            let words = words(&url, fresh);
            let output = plain.ask(toolbox, &words)?;
            latency(&String::from_utf8_lossy(&output.stdout))
        };
        Ok(Self {
            kept: vec![ask(false)?],
            fresh: vec![ask(true)?],
        })
    }

    async fn pods(pods: &Api<Pod>, url: &str) -> Result<Self> {
        let ask = async |fresh: bool| {
            let command = ["toolbox"].into_iter().chain(words(url, fresh));
            latency(&exec(pods, "bench-client", command.collect()).await?)
        };
        Ok(Self {
            kept: vec![ask(false).await?],
            fresh: vec![ask(true).await?],
        })
    }
}

fn words(url: &str, fresh: bool) -> Vec<&str> {
    let mut words = vec!["load", "--json", "--seconds", SECONDS, url];
    if fresh {
        words.push("--fresh");
    }
    words
}

/// The median out of what `toolbox load --json` prints.
fn latency(text: &str) -> Result<f64> {
    let report: Value = serde_json::from_str(text.trim()).with_context(|| format!("not a report: {text}"))?;
    let failed = report["failed"].as_u64();
    // A server that has just started may refuse the very first.
    if failed.is_none_or(|failed| failed > 10) {
        bail!("requests failed: {report}");
    }
    report["ms"]["p50"].as_f64().context("the report has no median")
}

fn pod(name: &str, node: &str) -> Pod {
    let container = json!({
        "name": "toolbox",
        "image": "localhost/ripstop/toolbox:1",
        "command": ["toolbox", "serve", "--drain", "0s", "--quiet"],
    });
    let spec = json!({
        "nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container],
    });
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec,
    });
    serde_json::from_value(object).expect("the literal is a pod")
}

/// A pod's address, once it runs.
async fn address(pods: &Api<Pod>, name: &str) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status = pods.get(name).await?.status.unwrap_or_default();
        match status.pod_ip {
            Some(address) if status.phase.as_deref() == Some("Running") => return Ok(address),
            _ if Instant::now() > deadline => bail!("{name} doesn't run: {:?}", status.phase),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// What a command in a pod prints.
async fn exec(pods: &Api<Pod>, name: &str, command: Vec<&str>) -> Result<String> {
    let params = AttachParams::default().stdout(true).stderr(false);
    let mut process = pods.exec(name, command, &params).await?;
    let mut text = String::new();
    if let Some(mut stdout) = process.stdout() {
        stdout.read_to_string(&mut text).await?;
    }
    process.join().await?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_with_failures_are_no_measurement() {
        let report = |failed: u32| json!({"failed": failed, "ms": {"p50": 0.5}}).to_string();
        assert_eq!(latency(&report(1)).unwrap(), 0.5);
        assert!(latency(&report(100)).is_err());
        assert!(latency("").is_err());
    }
}
