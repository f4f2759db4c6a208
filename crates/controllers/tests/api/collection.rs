//! Garbage collection in all its ways.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::{Cluster, create, eventually, merge, until, until_gone};

fn map(name: &str, owners: &[(&str, &str)]) -> Value {
    let owner = |(name, uid): &(&str, &str)| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid,
                "blockOwnerDeletion": true })
    };
    let owners: Vec<_> = owners.iter().map(owner).collect();
    json!({ "metadata": { "name": name, "ownerReferences": owners } })
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_follow_their_owner_down_to_the_last() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>();
    let a = create(&maps, map("a", &[])).await.uid().unwrap();
    let b = create(&maps, map("b", &[("a", &a)])).await.uid().unwrap();
    create(&maps, map("c", &[("b", &b)])).await;
    maps.delete("a", &DeleteParams::background()).await.unwrap();
    until_gone(&maps, "b").await;
    until_gone(&maps, "c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_in_foreground_deletion_goes_last() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>();
    let a = create(&maps, map("a", &[])).await.uid().unwrap();
    let mut b = map("b", &[("a", &a)]);
    b["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let b = create(&maps, b).await.uid().unwrap();
    create(&maps, map("c", &[("b", &b)])).await;
    maps.delete("a", &DeleteParams::foreground()).await.unwrap();
    until_gone(&maps, "c").await;
    // Its dependents are gone, so nothing but the stranger's finalizer holds it.
    until(&maps, "b", "b waits for the stranger alone", |b| {
        b.metadata.deletion_timestamp.is_some() && b.finalizers() == ["example.com/hold"]
    })
    .await;
    let owner = maps.get("a").await.unwrap();
    assert!(owner.finalizers().contains(&"foregroundDeletion".to_owned()));
    merge(&maps, "b", json!({ "metadata": { "finalizers": null } })).await;
    until_gone(&maps, "b").await;
    until_gone(&maps, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_stay_and_forget_their_owner() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>();
    let a = create(&maps, map("a", &[])).await.uid().unwrap();
    create(&maps, map("b", &[("a", &a)])).await;
    maps.delete("a", &DeleteParams::orphan()).await.unwrap();
    until_gone(&maps, "a").await;
    until(&maps, "b", "b is nobody's", |b| b.owner_references().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_owner_left_is_enough_and_one_that_never_was_is_none() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>();
    let a = create(&maps, map("a", &[])).await.uid().unwrap();
    create(&maps, map("both", &[("a", &a), ("never", "no-such-uid")])).await;
    create(&maps, map("lost", &[("never", "no-such-uid")])).await;
    create(&maps, map("impostor", &[("a", "another-uid")])).await;
    until_gone(&maps, "lost").await;
    until_gone(&maps, "impostor").await;
    until(&maps, "both", "the absent owner is forgotten", |both| {
        both.owner_references().len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_owners_can_be_deleted() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>();
    let a = create(&maps, map("a", &[])).await.uid().unwrap();
    let b = create(&maps, map("b", &[("a", &a)])).await.uid().unwrap();
    let owners = map("a", &[("b", &b)]);
    merge(&maps, "a", json!({ "metadata": owners["metadata"] })).await;
    maps.delete("a", &DeleteParams::foreground()).await.unwrap();
    let gone = || async {
        let (a, b) = (maps.get_opt("a").await.unwrap(), maps.get_opt("b").await.unwrap());
        (a.is_none() && b.is_none()).then_some(())
    };
    eventually("both are gone", gone).await;
}
