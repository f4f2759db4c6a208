//! The node's Lease: renewed for as long as the node is alive.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;

use crate::context::Context;
use crate::retry::Growing;

const NAMESPACE: &str = "kube-node-lease";

/// Renews the Lease until it is dropped. It waits for the Node, whose uid
/// makes sure that the Lease goes with it.
pub(crate) async fn run(ctx: Arc<Context>, mut node_uid: watch::Receiver<Option<String>>) {
    let api: Api<Lease> = Api::namespaced(ctx.client.clone(), NAMESPACE);
    let period = Duration::from_secs(u64::from(ctx.config.lease_seconds.max(4))) / 4;
    let mut growing = Growing::for_requests();
    let mut have: Option<Lease> = None;
    loop {
        let uid = match node_uid.wait_for(Option::is_some).await {
            Ok(uid) => uid.clone(),
            Err(_) => return,
        };
        let lease = renewed(&ctx, have.take(), uid);
        match write(&api, &ctx.config.node_name, lease).await {
            Ok(lease) => {
                growing.reset();
                have = Some(lease);
                tokio::time::sleep(period).await;
            }
            Err(error) => {
                tracing::debug!(%error, "cannot renew the node's Lease yet");
                tokio::time::sleep(growing.delay()).await;
            }
        }
    }
}

/// The Lease as it shall be now.
fn renewed(ctx: &Context, have: Option<Lease>, node_uid: Option<String>) -> Lease {
    let name = &ctx.config.node_name;
    let mut lease = have.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    lease.metadata.managed_fields = None;
    lease.metadata.owner_references = node_uid.map(|uid| {
        vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: name.clone(),
            uid,
            ..OwnerReference::default()
        }]
    });
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: i32::try_from(ctx.config.lease_seconds).ok(),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    });
    lease
}

/// Writes it over the one that we know; makes it where there is none, and
/// writes over whichever is there where that isn't the one we know.
async fn write(api: &Api<Lease>, name: &str, mut lease: Lease) -> Result<Lease, kube::Error> {
    let params = PostParams::default();
    if lease.metadata.resource_version.is_some() {
        match api.replace(name, &params, &lease).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            other => return other,
        }
    }
    lease.metadata.resource_version = None;
    lease.metadata.uid = None;
    match api.create(&params, &lease).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => return other,
    }
    let there = api.get(name).await?;
    lease.metadata.resource_version = there.metadata.resource_version;
    lease.metadata.uid = there.metadata.uid;
    api.replace(name, &params, &lease).await
}
