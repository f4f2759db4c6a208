//! A hundred pods, from the Deployment to all of them available.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::cluster::Cluster;
use crate::figures::{Figures, Unit};
use crate::process;

const COUNT: i32 = 100;
const NAME: &str = "bench";
const LIMIT: Duration = Duration::from_secs(180);

/// Scales a Deployment from none to a hundred and back.
pub(crate) async fn measure(cluster: &Cluster, rounds: u32, figures: &mut Figures) -> Result<()> {
    let client = cluster.client().await?;
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client);
    deployments.create(&PostParams::default(), &deployment()).await?;
    let mut seconds = Vec::new();
    for round in 0..rounds {
        let begin = Instant::now();
        scale(&deployments, COUNT).await?;
        available(&deployments).await?;
        seconds.push(begin.elapsed().as_secs_f64());
        check(&pods).await?;
        if round + 1 == rounds {
            process::measure_memory(cluster, "with 100 pods", None, figures).await?;
        }
        scale(&deployments, 0).await?;
        gone(&pods).await?;
    }
    figures.add_median("100 pods Running on 3 nodes", &seconds, Unit::Seconds, Some(12.0));
    deployments.delete(NAME, &DeleteParams::background()).await?;
    Ok(())
}

fn deployment() -> Deployment {
    let labels = json!({"app": NAME});
    let container = json!({
        "name": "toolbox",
        "image": "localhost/ripstop/toolbox:1",
        "command": ["toolbox", "serve", "--drain", "0s", "--quiet"],
    });
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
        },
    });
    serde_json::from_value(object).expect("the literal is a deployment")
}

async fn scale(deployments: &Api<Deployment>, replicas: i32) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments.patch(NAME, &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn available(deployments: &Api<Deployment>) -> Result<()> {
    let wait = async {
        loop {
            let status = deployments.get(NAME).await?.status.unwrap_or_default();
            if status.available_replicas == Some(COUNT) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, wait).await;
    waited.with_context(|| format!("not all pods are available within {LIMIT:?}"))?
}

/// Available isn't the same as having an address, each another one.
async fn check(pods: &Api<Pod>) -> Result<()> {
    let list = pods.list(&ListParams::default().labels("app=bench")).await?;
    let running = list.iter().filter_map(|pod| {
        let status = pod.status.as_ref()?;
        (status.phase.as_deref() == Some("Running")).then(|| status.pod_ip.clone())?
    });
    let addresses: std::collections::BTreeSet<String> = running.collect();
    if addresses.len() != COUNT as usize {
        bail!(
            "{COUNT} pods are available, and they have {} addresses",
            addresses.len()
        );
    }
    Ok(())
}

async fn gone(pods: &Api<Pod>) -> Result<()> {
    let wait = async {
        while !pods
            .list(&ListParams::default().labels("app=bench"))
            .await?
            .items
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    let waited = tokio::time::timeout(LIMIT, wait).await;
    waited.with_context(|| format!("pods are still there after {LIMIT:?}"))?
}
