//! Namespaces: what they come with, and how they go.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::support::{CA, Cluster, create, deployment, eventually, merge, until, until_gone};

const ROOT_CA: &str = "kube-root-ca.crt";

fn data(map: &ConfigMap) -> Option<&str> {
    map.data.as_ref()?.get("ca.crt").map(String::as_str)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_namespace_has_an_account_and_the_root_ca_and_keeps_them() {
    let cluster = Cluster::start().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    create(&namespaces, json!({ "metadata": { "name": "new" } })).await;
    for namespace in ["default", "kube-system", "new"] {
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), namespace);
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), namespace);
        until(&accounts, "default", "an account", |_| true).await;
        until(&maps, ROOT_CA, "the root CA", |map| data(map) == Some(CA)).await;
        accounts
            .delete("default", &DeleteParams::default())
            .await
            .unwrap();
        maps.delete(ROOT_CA, &DeleteParams::default()).await.unwrap();
        until(&accounts, "default", "another account", |_| true).await;
        until(&maps, ROOT_CA, "another root CA", |_| true).await;
        merge(&maps, ROOT_CA, json!({ "data": { "ca.crt": "x", "more": "y" } })).await;
        until(&maps, ROOT_CA, "the root CA restored", |map| {
            data(map) == Some(CA) && map.data.as_ref().is_some_and(|data| data.len() == 1)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_namespace_takes_everything_with_it() {
    let cluster = Cluster::start().await;
    cluster.play_kubelets();
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    create(&namespaces, json!({ "metadata": { "name": "going" } })).await;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), "going");
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "going");
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), "going");
    create(&secrets, json!({ "metadata": { "name": "s" } })).await;
    create(&deployments, deployment("web", 3)).await;
    let three =
        || async { (pods.list(&ListParams::default()).await.unwrap().items.len() == 3).then_some(()) };
    eventually("three pods", three).await;
    namespaces
        .delete("going", &DeleteParams::default())
        .await
        .unwrap();
    until_gone(&namespaces, "going").await;
    // One of the same name starts empty.
    create(&namespaces, json!({ "metadata": { "name": "going" } })).await;
    assert!(secrets.get_opt("s").await.unwrap().is_none());
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_namespace_is_told() {
    let cluster = Cluster::start().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    create(&namespaces, json!({ "metadata": { "name": "held" } })).await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "held");
    let held = json!({ "metadata": { "name": "m", "finalizers": ["example.com/hold"] } });
    create(&maps, held).await;
    namespaces.delete("held", &DeleteParams::default()).await.unwrap();
    until(&namespaces, "held", "the reason is told", |namespace| {
        let status = namespace.status.as_ref().unwrap();
        let mut conditions = status.conditions.iter().flatten();
        conditions.any(|c| {
            c.type_ == "NamespaceFinalizersRemaining"
                && c.status == "True"
                && c.message
                    .as_ref()
                    .is_some_and(|m| m.contains("example.com/hold in 1 "))
        })
    })
    .await;
    merge(&maps, "m", json!({ "metadata": { "finalizers": null } })).await;
    until_gone(&namespaces, "held").await;
}
