//! Nodes: addresses for their pods, whether they live, and what becomes of pods when they don't.
//!
//! * [`ranges`]: each node gets one block of the cluster's pod addresses a family, for as long as
//!   it exists.
//! * [`health`]: a node that stops renewing its Lease and posting its status becomes Unknown, gets
//!   taints, and its pods count as not ready. Where many are silent, `zones` slows that down.
//! * [`eviction`]: pods that don't tolerate a NoExecute taint (any longer) are deleted.
//! * [`pod_gc`]: pods whose node is gone, and the oldest of too many ended ones, are deleted.

mod allocator;
pub(crate) mod eviction;
pub(crate) mod health;
pub(crate) mod pod_gc;
pub(crate) mod ranges;
mod taints;
mod zones;

use k8s_openapi::api::core::v1::{Node, NodeCondition, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) use allocator::check_ranges;

/// One of a node's conditions.
fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether its kubelet says that it is ready, and is believed.
pub(crate) fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status == "True")
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// The condition of a pod that goes for no fault of its own.
fn disruption(reason: &str, message: &str, now: jiff::Timestamp) -> PodCondition {
    PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    }
}
