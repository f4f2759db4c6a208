//! Which pods go first when there are too many: those that are missed least.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pods;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The order of deletion is the order of these fields, smallest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Not on a node yet before on a node.
    assigned: bool,
    /// Pending before unknown before running.
    phase: u8,
    ready: bool,
    /// What the user says that losing it would cost.
    cost: i32,
    /// More pods of the family on its node come first.
    neighbours: Reverse<usize>,
    /// Ready for a short time before ready for long, by order of magnitude.
    ready_for: u32,
    /// More restarts come first.
    restarts: Reverse<i32>,
    /// Young before old, by order of magnitude.
    age: u32,
}

/// The pods in the order in which to delete them.
pub(super) fn for_deletion(pods: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Vec<Arc<Pod>> {
    let mut per_node: HashMap<&str, usize> = HashMap::new();
    for node in related.iter().filter_map(|pod| pods::node_name(pod)) {
        *per_node.entry(node).or_default() += 1;
    }
    let mut ranked: Vec<_> = pods.iter().map(|pod| (rank(pod, &per_node, now), pod)).collect();
    ranked.sort_by(|(a, pod_a), (b, pod_b)| a.cmp(b).then_with(|| by_uid(pod_a, pod_b)));
    ranked.into_iter().map(|(_, pod)| Arc::clone(pod)).collect()
}

/// An arbitrary order, but the same every time.
fn by_uid(a: &Pod, b: &Pod) -> Ordering {
    a.metadata.uid.cmp(&b.metadata.uid)
}

fn rank(pod: &Pod, per_node: &HashMap<&str, usize>, now: Timestamp) -> Rank {
    let node = pods::node_name(pod);
    let ready = pods::is_ready(pod);
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    Rank {
        assigned: node.is_some(),
        phase: match pods::phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        },
        ready,
        cost: deletion_cost(pod),
        neighbours: Reverse(node.and_then(|node| per_node.get(node)).copied().unwrap_or(0)),
        ready_for: if ready {
            magnitude(pods::ready_since(pod), now)
        } else {
            0
        },
        restarts: Reverse(restarts(pod)),
        age: magnitude(created, now),
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let cost = annotations.and_then(|annotations| annotations.get(DELETION_COST));
    cost.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref());
    let restarts = containers.unwrap_or_default().iter().map(|c| c.restart_count);
    restarts.max().unwrap_or(0)
}

/// How many times the time since then can be halved: pods of about the same age count as equal,
/// so that not always the last one goes. Never, or not yet, is 0.
fn magnitude(since: Option<Timestamp>, now: Timestamp) -> u32 {
    let Some(since) = since else { return 0 };
    let seconds = now.duration_since(since).as_secs();
    u64::try_from(seconds).map_or(0, |seconds| u64::BITS - seconds.leading_zeros())
}
