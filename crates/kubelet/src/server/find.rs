//! Finding what a request is about.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::answer::Refusal;
use crate::context::Context;
use crate::pod::{self, PodKey};
use crate::runtime::{Observed, Observer};

/// A pod of this node, and what the runtime has of it now.
pub(super) async fn pod(ctx: &Context, namespace: &str, name: &str) -> Result<(Arc<Pod>, Observed), Refusal> {
    let pod = ctx.directory.named(namespace, name);
    let pod =
        pod.ok_or_else(|| Refusal::not_found(format!("pod {name:?} not found in namespace {namespace:?}")))?;
    let observed = Observer::new(&ctx.config.node_ips)
        .observe(&ctx.cri, &PodKey::of(&pod).uid)
        .await;
    Ok((
        pod,
        observed.map_err(|error| Refusal::internal(error.to_string()))?,
    ))
}

/// The same for one of the pod's containers.
pub(super) async fn container(
    ctx: &Context,
    namespace: &str,
    name: &str,
    container: &str,
) -> Result<(Arc<Pod>, Observed), Refusal> {
    let (pod, observed) = pod(ctx, namespace, name).await?;
    if pod::container(&pod, container).is_none() {
        return Err(Refusal::not_found(format!(
            "container {container:?} not found in pod {name:?}"
        )));
    }
    Ok((pod, observed))
}
