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

use crate::{EXPIRE, LABEL, NAMESPACE, RENEW, lease_name};

/// A request that takes longer is as good as none: the next one is due.
const PATIENCE: Duration = Duration::from_millis(500);

pub(crate) fn api(client: &Client) -> Api<Lease> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// Renews the Lease for as long as it is needed, and says when that was done. Otherwise, and at the end, it
/// is left to expire.
pub(crate) async fn keep(
    client: Client,
    node: String,
    mut needed: watch::Receiver<bool>,
    renewed: watch::Sender<Option<Instant>>,
    shutdown: CancellationToken,
) {
    let api = api(&client);
    let mut ticks = interval(RENEW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if *needed.borrow_and_update() {
            // What was sent is what counts, not when the answer came.
            let sent = Instant::now();
            match timeout(PATIENCE, renew(&api, &node)).await {
                Ok(Ok(())) => {
                    renewed.send_replace(Some(sent));
                }
                Ok(Err(error)) => debug!(%error, "renewing the announcer's Lease"),
                Err(_) => debug!("renewing the announcer's Lease took too long"),
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = needed.changed() => if changed.is_err() { return },
            _ = ticks.tick() => {}
        }
    }
}

async fn renew(api: &Api<Lease>, node: &str) -> Result<(), kube::Error> {
    let name = lease_name(node);
    let spec = json!({
        "holderIdentity": node,
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
