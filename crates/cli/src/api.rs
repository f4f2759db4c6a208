//! Asks the cluster's API, as the administrator.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use supervisor::Paths;

use crate::failure::Failure;

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A client with the administrator's credentials.
pub(crate) async fn client(paths: &Paths) -> Result<Client, Failure> {
    client_of(&paths.kubeconfig(), "`ripstop up` writes it anew").await
}

/// A client with a kubeconfig's credentials; `cure` is what to do if it isn't one.
pub(crate) async fn client_of(path: &Path, cure: &str) -> Result<Client, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()), cure);
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| failed(&error))?;
    config.connect_timeout = Some(LIMIT);
    Client::try_from(config).map_err(|error| failed(&error))
}

/// A node as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeView {
    pub(crate) name: String,
    pub(crate) ready: Readiness,
    pub(crate) pod_cidrs: Vec<String>,
    pub(crate) version: Option<String>,
}

/// The condition `Ready`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// Not, and why.
    NotReady(String),
}

impl Readiness {
    /// As kubectl says it.
    pub(crate) fn text(&self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::NotReady(_) => "NotReady",
        }
    }
}

/// All nodes that have registered.
pub(crate) async fn nodes(client: &Client) -> Result<Vec<NodeView>, String> {
    let api: Api<Node> = Api::all(client.clone());
    let list = match tokio::time::timeout(LIMIT, api.list(&kube::api::ListParams::default())).await {
        Ok(result) => result.map_err(|error| error.to_string())?,
        Err(_) => return Err("the API server doesn't answer in time".to_owned()),
    };
    Ok(list.items.into_iter().map(view).collect())
}

/// When each node last said that it is alive, in seconds since 1970: what a Node says of itself may
/// be from before the machine was rebooted.
pub(crate) async fn signs_of_life(client: &Client) -> BTreeMap<String, i64> {
    let api: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let params = kube::api::ListParams::default();
    let leases = tokio::time::timeout(LIMIT, api.list(&params)).await;
    let leases = leases
        .ok()
        .and_then(Result::ok)
        .map(|list| list.items)
        .unwrap_or_default();
    let renewed = |lease: Lease| {
        let time = lease.spec?.renew_time?;
        Some((lease.metadata.name?, time.0.as_second()))
    };
    leases.into_iter().filter_map(renewed).collect()
}

fn view(node: Node) -> NodeView {
    let status = node.status.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let ready = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready");
    let ready = match ready {
        Some(condition) if condition.status == "True" => Readiness::Ready,
        Some(condition) => Readiness::NotReady(condition.message.or(condition.reason).unwrap_or_default()),
        None => Readiness::NotReady("the agent hasn't reported yet".to_owned()),
    };
    NodeView {
        name: node.metadata.name.unwrap_or_default(),
        ready,
        pod_cidrs: node.spec.and_then(|spec| spec.pod_cidrs).unwrap_or_default(),
        version: status.node_info.map(|info| info.kubelet_version),
    }
}
