//! This node's Lease: as long as it is renewed, the node is alive.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{EXPIRE, LABEL, NAMESPACE, PREFIX, RENEW, lease_name};

/// A request that takes longer is as good as none: the next one is due.
const PATIENCE: Duration = Duration::from_millis(500);

pub(crate) fn api(client: &Client) -> Api<Lease> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// What a node's Lease is renewed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// There is nothing to be elected for.
    None,
    /// To announce.
    Announce,
    /// To know that the API answers: the node may not announce. Its Lease has no holder, so that others needn't
    /// wait for its end.
    Watch,
}

/// Whose Lease this is, and whether that node announces.
pub(crate) fn of(lease: &Lease) -> Option<(&str, bool)> {
    let node = lease.metadata.name.as_ref()?.strip_prefix(PREFIX)?;
    let holder = lease.spec.as_ref()?.holder_identity.as_ref();
    Some((node, holder.is_some_and(|holder| holder == node)))
}

/// Renews the Lease for as long as it is needed, and says when that was done. Otherwise, and at the end, it
/// is left to expire.
pub(crate) async fn keep(
    client: Client,
    node: String,
    mut duty: watch::Receiver<Duty>,
    renewed: watch::Sender<Option<Instant>>,
    shutdown: CancellationToken,
) {
    let api = api(&client);
    let mut ticks = interval(RENEW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let today = *duty.borrow_and_update();
        if today != Duty::None {
            // What was sent is what counts, not when the answer came.
            let sent = Instant::now();
            match timeout(PATIENCE, renew(&api, &node, today)).await {
                Ok(Ok(())) => {
                    renewed.send_replace(Some(sent));
                }
                Ok(Err(error)) => debug!(%error, "renewing the announcer's Lease"),
                Err(_) => debug!("renewing the announcer's Lease took too long"),
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = duty.changed() => if changed.is_err() { return },
            _ = ticks.tick() => {}
        }
    }
}

async fn renew(api: &Api<Lease>, node: &str, duty: Duty) -> Result<(), kube::Error> {
    let name = lease_name(node);
    let spec = json!({
        "holderIdentity": (duty == Duty::Announce).then_some(node),
        "leaseDurationSeconds": EXPIRE.as_secs(),
        "renewTime": MicroTime(Timestamp::now()),
    });
    let patch = Patch::Merge(json!({ "spec": spec }));
    match api.patch(&name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        outcome => return outcome.map(drop),
    }
    let lease = json!({ "metadata": { "name": name, "labels": { LABEL: "" } }, "spec": spec });
    let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
    api.create(&PostParams::default(), &lease).await.map(drop)
}
