//! What the node, its pods and their containers use: `/stats/summary` and `/metrics/resource`.
//!
//! ```text
//! the runtime (CRI) ── containers, links ──┐
//! control groups ── pods, the node ────────┼─► Figures ─┬─► summary     (JSON, as kubelets answer it)
//! file systems ────────────────────────────┘            └─► prometheus  (text, for metrics servers)
//! ```

mod prometheus;
mod rates;
mod summary;

use std::collections::BTreeMap;

use cri::message::{
    ContainerStats, ContainerStatsFilter, FilesystemUsage, NetworkUsage, PodSandboxStatsFilter,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kernel::cgroup::Usage;

use crate::context::Context;
use crate::machine::{self, Disk};
use crate::pod::{PodKey, label};
use crate::sandbox;

pub(crate) use rates::Rates;

/// Everything, as of one moment.
pub(crate) struct Figures {
    at: Timestamp,
    node_name: String,
    /// When the machine began.
    booted: Option<Timestamp>,
    node: Counted,
    /// What pods may use together, in bytes.
    memory: u64,
    disk: Option<Disk>,
    /// Process numbers that there can be, and that are taken.
    pids: Option<(u64, u64)>,
    images: Option<FilesystemUsage>,
    pods: Vec<PodFigures>,
}

/// What a control group uses, and how fast it uses the processor, in billionths of one.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    usage: Usage,
    nano_cores: Option<u64>,
}

struct PodFigures {
    key: PodKey,
    started: Option<Timestamp>,
    counted: Counted,
    network: Option<NetworkUsage>,
    containers: Vec<ContainerFigures>,
}

struct ContainerFigures {
    name: String,
    started: Option<Timestamp>,
    stats: ContainerStats,
    nano_cores: Option<u64>,
}

/// Asks everybody.
///
/// # Errors
/// When the runtime doesn't say what containers use.
pub(crate) async fn collect(ctx: &Context) -> Result<Figures, cri::Error> {
    let containers = ctx
        .cri
        .list_container_stats(ContainerStatsFilter::default())
        .await?;
    // Runtimes that don't count links refuse: the rest is told all the same.
    let sandboxes = ctx.cri.list_pod_sandbox_stats(PodSandboxStatsFilter::default());
    let sandboxes = sandboxes.await.unwrap_or_default();
    let images = ctx.cri.image_fs_info().await.ok();
    let mut networks: BTreeMap<String, NetworkUsage> = BTreeMap::new();
    for sandbox in sandboxes {
        let uid = sandbox
            .attributes
            .and_then(|attributes| Some(attributes.metadata?.uid));
        let network = sandbox.linux.and_then(|linux| linux.network);
        networks.extend(uid.zip(network));
    }
    let mut by_pod = latest(containers);
    let mut pods = Vec::new();
    for pod in ctx.directory.all() {
        let key = PodKey::of(&pod);
        let containers = by_pod.remove(&key.uid).unwrap_or_default();
        let network = networks.remove(&key.uid);
        pods.push(of_pod(ctx, &pod, key, containers, network));
    }
    pods.sort_by(|a, b| a.key.cmp(&b.key));
    let group = ctx.config.cgroup_root.as_str();
    let figures = Figures {
        at: Timestamp::now(),
        node_name: ctx.config.node_name.clone(),
        booted: machine::booted(),
        node: count(ctx, group, group),
        memory: u64::try_from(ctx.machine.memory).unwrap_or(0),
        disk: machine::disk(&ctx.config.root_dir),
        pids: machine::pids().map(|(used, most)| (most, used)),
        images: images.and_then(|images| images.image_filesystems.into_iter().next()),
        pods,
    };
    ctx.rates.forget_old();
    Ok(figures)
}

/// The newest run of each container, by the pod's uid and the container's name.
fn latest(containers: Vec<ContainerStats>) -> BTreeMap<String, BTreeMap<String, ContainerStats>> {
    let attempt = |stats: &ContainerStats| {
        let metadata = stats.attributes.as_ref()?.metadata.as_ref();
        metadata.map(|metadata| metadata.attempt)
    };
    let mut by_pod: BTreeMap<String, BTreeMap<String, ContainerStats>> = BTreeMap::new();
    for stats in containers {
        let labels = stats.attributes.as_ref().map(|attributes| &attributes.labels);
        let label = |name: &str| labels.and_then(|labels| labels.get(name)).cloned();
        let (Some(uid), Some(name)) = (label(label::POD_UID), label(label::CONTAINER_NAME)) else {
            continue;
        };
        // One that has ended uses nothing.
        if stats.cpu.is_none() {
            continue;
        }
        let of_pod = by_pod.entry(uid).or_default();
        if of_pod
            .get(&name)
            .is_none_or(|known| attempt(known) < attempt(&stats))
        {
            of_pod.insert(name, stats);
        }
    }
    by_pod
}

fn of_pod(
    ctx: &Context,
    pod: &Pod,
    key: PodKey,
    containers: BTreeMap<String, ContainerStats>,
    network: Option<NetworkUsage>,
) -> PodFigures {
    let status = pod.status.as_ref();
    let containers = containers.into_iter().map(|(name, stats)| {
        let id = stats.attributes.as_ref().map(|attributes| attributes.id.clone());
        let cpu = stats.cpu.as_ref();
        let used = cpu.and_then(|cpu| Some(cpu.usage_core_nano_seconds.as_ref()?.value));
        ContainerFigures {
            started: started(pod, &name),
            nano_cores: ctx.rates.rate(&id.unwrap_or_default(), used),
            name,
            stats,
        }
    });
    PodFigures {
        started: status.and_then(|status| Some(status.start_time.as_ref()?.0)),
        counted: count(ctx, &key.uid, &sandbox::cgroup(&ctx.config, &key.uid)),
        containers: containers.collect(),
        network,
        key,
    }
}

fn count(ctx: &Context, id: &str, group: &str) -> Counted {
    let usage = ctx.hierarchies.group(group).usage();
    Counted {
        nano_cores: ctx.rates.rate(id, usage.cpu_nanos),
        usage,
    }
}

/// When a container began that runs.
fn started(pod: &Pod, container: &str) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let all = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut all = all.into_iter().flatten().flatten();
    let found: &ContainerStatus = all.find(|status| status.name == container)?;
    Some(found.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0)
}

pub(crate) use prometheus::text;
pub(crate) use summary::summary;

#[cfg(test)]
mod tests;
