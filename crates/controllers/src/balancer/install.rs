//! Puts the kind LoadBalancerPool in place, and the first pool.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::object::{LoadBalancerPool, Spec};
use super::range::AddressRange;
use crate::error::{Doing, Error};

/// What is installed.
const DEFINITION: &str = include_str!("../../../../deploy/load-balancer-pools.yaml");
/// An annotation of the definition: the first pool was made once. Whoever deletes it means that.
const MADE: &str = "ripstop.dev/default-pool";
/// The first pool.
const DEFAULT: &str = "default";
const RETRY: Duration = Duration::from_secs(2);
/// How soon a definition is looked at again that isn't served yet.
const SOON: Duration = Duration::from_millis(20);

/// Installs both, however often it takes. Says whether that was done before the shutdown.
pub(super) async fn install(client: &Client, ranges: &[AddressRange], shutdown: &CancellationToken) -> bool {
    loop {
        let attempt = async {
            let definition = define(client).await?;
            make_default(client, &definition, ranges).await
        };
        let outcome = tokio::select! {
            () = shutdown.cancelled() => return false,
            outcome = attempt => outcome,
        };
        let Err(error) = outcome else { return true };
        warn!(%error, "will try again");
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = sleep(RETRY) => {}
        }
    }
}

/// Puts the definition in place, and waits until it is served.
async fn define(client: &Client) -> Result<CustomResourceDefinition, Error> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let wanted: Value = serde_saphyr::from_str(DEFINITION).map_err(|error| Error::Object {
        object: "deploy/load-balancer-pools.yaml".to_owned(),
        reason: error.to_string(),
    })?;
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let params = PatchParams::apply("ripstop").force();
    let applied = api.patch(name, &params, &Patch::Apply(&wanted)).await;
    let mut definition = applied.doing(|| format!("install CustomResourceDefinition {name}"))?;
    while !is_established(&definition) {
        sleep(SOON).await;
        let found = api.get(name).await;
        definition = found.doing(|| format!("see whether CustomResourceDefinition {name} is established"))?;
    }
    Ok(definition)
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let status = definition.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// Makes the first pool, once in the definition's life.
async fn make_default(
    client: &Client,
    definition: &CustomResourceDefinition,
    ranges: &[AddressRange],
) -> Result<(), Error> {
    let annotations = definition.metadata.annotations.as_ref();
    if ranges.is_empty() || annotations.is_some_and(|annotations| annotations.contains_key(MADE)) {
        return Ok(());
    }
    let kind = ApiResource::erase::<LoadBalancerPool>(&());
    let pools: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let spec = Spec {
        addresses: ranges.iter().map(ToString::to_string).collect(),
        ..Spec::default()
    };
    let pool = DynamicObject::new(DEFAULT, &kind).data(json!({ "spec": spec }));
    let created = pools.create(&PostParams::default(), &pool).await;
    match created.doing(|| format!("make LoadBalancerPool {DEFAULT}")) {
        Err(error) if !error.is_already_exists() => return Err(error),
        _ => {}
    }
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = definition.metadata.name.as_deref().unwrap_or_default();
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { MADE: "made" } } }));
    let noted = api.patch(name, &PatchParams::default(), &patch).await;
    noted
        .doing(|| format!("note in CustomResourceDefinition {name} that its first pool was made"))
        .map(drop)
}
