//! From nothing to three nodes that are Ready.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cluster::{Cluster, all_ready};
use crate::figures::{Figures, Unit};

/// Starts the cluster once with nothing there and then as a user does who has
/// the images; leaves the last one running.
pub(crate) async fn measure(cluster: &Cluster, rounds: u32, figures: &mut Figures) -> Result<()> {
    cluster.down()?;
    let first = start(cluster).await?;
    figures.add(
        "`ripstop up`, 3 nodes Ready, the very first time",
        first,
        Unit::Seconds,
        None,
        "makes certificates, loads images".to_owned(),
    );
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        cluster.down_keeping_data()?;
        seconds.push(start(cluster).await?);
    }
    figures.add_median("`ripstop up`, 3 nodes Ready", &seconds, Unit::Seconds, Some(2.5));
    Ok(())
}

async fn start(cluster: &Cluster) -> Result<f64> {
    let begin = Instant::now();
    cluster.up()?;
    let client = cluster.client().await?;
    let ready = tokio::time::timeout(Duration::from_secs(60), all_ready(&client)).await;
    ready.context("nodes aren't Ready within a minute")??;
    Ok(begin.elapsed().as_secs_f64())
}
