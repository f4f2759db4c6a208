//! PodDisruptionBudgets, and evictions that take from them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{EvictParams, ListParams};
use kube::{Api, Error, ResourceExt};
use serde_json::{Value, json};

use crate::support::{Cluster, create, deployment, eventually, merge, until};

fn budget(name: &str, app: &str, amount: &Value) -> Value {
    let mut budget = json!({ "metadata": { "name": name },
        "spec": { "selector": { "matchLabels": { "app": app } } } });
    let amount = amount.as_object().unwrap().clone();
    budget["spec"].as_object_mut().unwrap().extend(amount);
    budget
}

/// Expected, desired, healthy, allowed.
fn counts(expected: [i32; 4]) -> impl Fn(&PodDisruptionBudget) -> bool {
    move |budget| {
        let status = budget.status.clone().unwrap_or_default();
        status.observed_generation == budget.metadata.generation
            && [
                status.expected_pods,
                status.desired_healthy,
                status.current_healthy,
                status.disruptions_allowed,
            ] == expected.map(Some)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_go_on_as_fast_as_the_budget_allows() {
    let cluster = Cluster::start().await;
    cluster.play_kubelets();
    let (budgets, pods) = (cluster.api::<PodDisruptionBudget>(), cluster.api::<Pod>());
    create::<Deployment>(&cluster.api(), deployment("web", 4)).await;
    create(
        &budgets,
        budget("web", "web", &json!({ "maxUnavailable": "25%" })),
    )
    .await;
    until(&budgets, "web", "all to be counted", counts([4, 3, 4, 1])).await;
    let all = pods.list(&ListParams::default()).await.unwrap();
    let before: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
    for name in &before {
        eventually("an eviction that is allowed", || async {
            match pods.evict(name, &EvictParams::default()).await {
                Ok(_) => Some(()),
                Err(Error::Api(status)) if status.code == 429 => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
    }
    let replaced = eventually("others in their place", || async {
        let all = pods.list(&ListParams::default()).await.unwrap();
        let others = all.iter().filter(|pod| !before.contains(&pod.name_any()));
        (others.count() == 4).then_some(())
    });
    replaced.await;
    let whole = until(&budgets, "web", "all to be counted again", counts([4, 3, 4, 1])).await;
    let condition = &whole.status.unwrap().conditions.unwrap()[0];
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        ("True", "SufficientPods")
    );
    merge(
        &cluster.api::<Deployment>(),
        "web",
        json!({ "spec": { "replicas": 8 } }),
    )
    .await;
    until(&budgets, "web", "the new scale", counts([8, 6, 8, 2])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_cannot_be_counted_says_so_and_allows_nothing() {
    let cluster = Cluster::start().await;
    cluster.play_kubelets();
    let (budgets, pods): (Api<PodDisruptionBudget>, Api<Pod>) = (cluster.api(), cluster.api());
    let owner = json!([{ "apiVersion": "example.org/v1", "kind": "Herd", "name": "h", "uid": "u", "controller": true }]);
    let pod = json!({ "metadata": { "name": "p", "labels": { "app": "herd" }, "ownerReferences": owner },
        "spec": { "containers": [{ "name": "c", "image": "v1" }] } });
    create(&pods, pod).await;
    create(&budgets, budget("least", "herd", &json!({ "minAvailable": 1 }))).await;
    until(&budgets, "least", "no need of a scale", counts([1, 1, 1, 0])).await;
    create(&budgets, budget("most", "herd", &json!({ "maxUnavailable": 1 }))).await;
    until(&budgets, "most", "that it failed", |budget| {
        let status = budget.status.clone().unwrap_or_default();
        let condition = status.conditions.unwrap_or_default();
        condition.iter().any(|condition| {
            condition.reason == "SyncFailed"
                && condition.message.contains("found no controllers for pod \"p\"")
        })
    })
    .await;
}
