//! Pods that the API knows and no node starts: an agent that attaches one knows its labels, and its ADD
//! waits for the policies that hold for it, as for every pod of a runtime's.

use std::net::IpAddr;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

/// How many are made at once.
const AT_ONCE: usize = 8;

/// What the API calls a pod.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Makes a namespace for them.
pub(crate) async fn namespace(client: &Client, name: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let object = json!({"metadata": {"name": name}});
    let object = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Takes the namespace out again, with all that is in it.
pub(crate) async fn remove_namespace(client: &Client, name: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    api.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

/// Makes pods with these names, each labelled `app` with its own.
pub(crate) async fn pods(
    client: &Client,
    namespace: &str,
    names: impl IntoIterator<Item = String>,
) -> Result<Vec<Known>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let made = names.into_iter().map(|name| one(&api, namespace, name));
    stream::iter(made).buffered(AT_ONCE).try_collect().await
}

async fn one(api: &Api<Pod>, namespace: &str, name: String) -> Result<Known> {
    let object = json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            // Nobody's: no scheduler takes it.
            "schedulerName": "none",
            "containers": [{"name": "main", "image": "registry.example/main:1.2.3"}],
        },
    });
    let made = api
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await
        .with_context(|| format!("make the pod {name}"))?;
    Ok(Known {
        namespace: namespace.to_owned(),
        name,
        uid: made.metadata.uid.context("a pod without a uid")?,
    })
}

impl Known {
    /// Tells the API its address, as its kubelet would: other nodes know it by that.
    pub(crate) async fn has(&self, client: &Client, address: IpAddr) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
        api.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .with_context(|| format!("write the address of the pod {}", self.name))?;
        Ok(())
    }

    /// What a runtime passes of it.
    pub(crate) fn args(&self, container: &str) -> String {
        let Self { namespace, name, uid } = self;
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={uid};K8S_POD_INFRA_CONTAINER_ID={container}"
        )
    }
}
