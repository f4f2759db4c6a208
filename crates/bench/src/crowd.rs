//! An agent with two hundred pods: what they cost it, and what one more does.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::cni::{Attached, Pod};
use crate::extent::Extent;
use crate::figures::{Figures, Unit, quantile};
use crate::process::{cpu, resident};

/// Most of what a node's block of 256 addresses holds.
const COUNT: usize = 200;
/// So many of the first and of the last tell what one more costs.
const SOME: usize = 20;
/// How many a runtime detaches at once when a node is drained.
const AT_ONCE: usize = 8;
const NODE: &str = "node-2";

/// Attaches them, waits, and detaches them.
pub(crate) async fn measure(cluster: &Cluster, extent: &Extent, figures: &mut Figures) -> Result<()> {
    let (count, some) = (extent.pods(COUNT), extent.pods(SOME));
    let plugin = cluster.plugin(NODE)?;
    let pid = cluster.pids(&format!("agent {NODE}"))?;
    let pid = *pid.first().context("the node's agent doesn't run")?;
    let (memory_before, cpu_before) = (resident(pid)?, cpu(pid)?);
    let (mut pods, mut millis) = (Vec::new(), Vec::new());
    for number in 0..count {
        let (attached, took) = plugin.attach(&Pod::new(&format!("crowd-{number}"))?)?;
        pods.push(attached);
        millis.push(took.as_secs_f64() * 1e3);
    }
    let busy = cpu(pid)?.saturating_sub(cpu_before);
    tokio::time::sleep(extent.idle / 2).await;
    let memory = resident(pid)?;
    let (begin, cpu_idle) = (Instant::now(), cpu(pid)?);
    tokio::time::sleep(extent.idle).await;
    let idle = cpu(pid)?.saturating_sub(cpu_idle).as_secs_f64() / begin.elapsed().as_secs_f64();
    let each = (memory - memory_before).max(0.0) * 1024.0 / count as f64;
    figures.add(
        &format!("agent, resident memory, with {count} pods"),
        memory,
        Unit::MiB,
        Some(60.0),
        format!("{each:.1} KiB a pod"),
    );
    figures.add(
        &format!("agent, idle, with {count} pods"),
        idle * 100.0,
        Unit::Percent,
        None,
        format!("of one processor, over {} s", extent.idle.as_secs()),
    );
    let (first, last) = (
        quantile(&millis[..some], 0.5),
        quantile(&millis[count - some..], 0.5),
    );
    figures.add(
        &format!("CNI ADD on a node with {count} pods, median"),
        last,
        Unit::Millis,
        Some(10.0),
        format!(
            "{} on one without; the agent's processor time for each {}",
            Unit::Millis.write(first),
            Unit::Millis.write(busy.as_secs_f64() * 1e3 / count as f64)
        ),
    );
    let took = detach(pods)?;
    figures.add(
        &format!("{count} pods detached, {AT_ONCE} at once"),
        took.as_secs_f64(),
        Unit::Seconds,
        None,
        String::new(),
    );
    Ok(())
}

/// Detaches all, several at once.
fn detach(pods: Vec<Attached>) -> Result<Duration> {
    let begin = Instant::now();
    let pods = Mutex::new(pods);
    let next = || pods.lock().ok().and_then(|mut pods| pods.pop());
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            while let Some(pod) = next() {
                pod.detach()?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(begin.elapsed())
}
