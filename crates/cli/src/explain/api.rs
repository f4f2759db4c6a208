//! Objects of a cluster that runs, through its public API.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;

use super::Objects;
use crate::args::Source;
use crate::failure::Failure;

/// How long the whole of it may take, and the connection.
const LIMIT: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// How many objects are asked for at once.
const PAGE: u32 = 500;

pub(super) async fn read(source: &Source) -> Result<Objects, Failure> {
    let client = client(source).await?;
    match tokio::time::timeout(LIMIT, list(&client)).await {
        Ok(objects) => objects,
        Err(_) => Err(Failure::usage(
            "the API server doesn't answer in time",
            "`kubectl get nodes` shows whether it's there",
        )),
    }
}

async fn client(source: &Source) -> Result<Client, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::usage(
            format!("can't use the kubeconfig: {error}"),
            "--kubeconfig says another, -f DIR reads manifests instead; `ripstop up` starts a cluster",
        )
    };
    let options = KubeConfigOptions {
        context: source.context.clone(),
        ..KubeConfigOptions::default()
    };
    let kubeconfig = match &source.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let kubeconfig = kubeconfig.map_err(|error| failed(&error))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| failed(&error))?;
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(|error| failed(&error))
}

async fn list(client: &Client) -> Result<Objects, Failure> {
    let (nodes, namespaces, pods, services, slices, policies) = tokio::try_join!(
        all(Api::all(client.clone()), "nodes"),
        all(Api::all(client.clone()), "namespaces"),
        each(client, "pods"),
        each(client, "services"),
        each(client, "endpointslices"),
        each(client, "networkpolicies"),
    )?;
    Ok(Objects {
        nodes,
        namespaces,
        pods,
        services,
        slices,
        policies,
        assumed: Vec::new(),
    })
}

async fn each<K>(client: &Client, what: &str) -> Result<Vec<K>, Failure>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    all(Api::all(client.clone()), what).await
}

async fn all<K>(api: Api<K>, what: &str) -> Result<Vec<K>, Failure>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut params = ListParams::default().limit(PAGE);
    let mut objects = Vec::new();
    loop {
        let list = api.list(&params).await.map_err(|error| {
            Failure::usage(
                format!("can't list {what}: {error}"),
                format!("`kubectl get {what} -A` must work with the same kubeconfig"),
            )
        })?;
        objects.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(objects),
        }
    }
}
