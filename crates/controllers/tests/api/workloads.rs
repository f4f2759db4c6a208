//! Deployments and ReplicaSets, as users and kubelets see them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::support::{Cluster, create, deployment, eventually, merge, template, until, until_gone};

fn is_rolled_out(deployment: &Deployment) -> bool {
    let (Some(spec), Some(status)) = (&deployment.spec, &deployment.status) else {
        return false;
    };
    let mut conditions = status.conditions.iter().flatten();
    let progressing = conditions.find(|c| c.type_ == "Progressing");
    status.observed_generation == deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) == spec.replicas.unwrap()
        && status.replicas.unwrap_or(0) == spec.replicas.unwrap()
        && status.available_replicas.unwrap_or(0) == spec.replicas.unwrap()
        && progressing.and_then(|c| c.reason.as_deref()) == Some("NewReplicaSetAvailable")
}

async fn rolled_out(api: &Api<Deployment>, name: &str) -> Deployment {
    until(api, name, "the Deployment is rolled out", is_rolled_out).await
}

async fn images(pods: &Api<Pod>) -> HashSet<String> {
    let pods = pods.list(&ListParams::default()).await.unwrap();
    let image = |pod: Pod| pod.spec.unwrap().containers[0].image.clone().unwrap();
    pods.into_iter().map(image).collect()
}

async fn set_image(api: &Api<Deployment>, name: &str, image: &str) {
    let containers = json!([{ "name": "c", "image": image }]);
    merge(
        api,
        name,
        json!({ "spec": { "template": { "spec": { "containers": containers } } } }),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_out_updates_undoes_and_goes() {
    let cluster = Cluster::start().await;
    cluster.play_kubelets();
    let (deployments, pods) = (cluster.api::<Deployment>(), cluster.api::<Pod>());
    let sets = cluster.api::<ReplicaSet>();

    create(&deployments, deployment("web", 3)).await;
    rolled_out(&deployments, "web").await;
    assert_eq!(images(&pods).await, HashSet::from(["v1".to_owned()]));

    set_image(&deployments, "web", "v2").await;
    let updated = rolled_out(&deployments, "web").await;
    assert_eq!(images(&pods).await, HashSet::from(["v2".to_owned()]));
    assert_eq!(updated.annotations()["deployment.kubernetes.io/revision"], "2");
    assert_eq!(sets.list(&ListParams::default()).await.unwrap().items.len(), 2);

    // What `kubectl rollout undo` does: the old ReplicaSet's template becomes the Deployment's.
    set_image(&deployments, "web", "v1").await;
    let undone = rolled_out(&deployments, "web").await;
    assert_eq!(undone.annotations()["deployment.kubernetes.io/revision"], "3");
    let list = sets.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(list.len(), 2, "the old ReplicaSet came back");

    merge(&deployments, "web", json!({ "spec": { "replicas": 5 } })).await;
    rolled_out(&deployments, "web").await;
    let running = pods.list(&ListParams::default()).await.unwrap().items;
    let active = running
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    assert_eq!(active.count(), 5);

    deployments
        .delete("web", &DeleteParams::background())
        .await
        .unwrap();
    for set in list {
        until_gone(&sets, &set.name_any()).await;
    }
    for pod in running {
        until_gone(&pods, &pod.name_any()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_pods_come_once_and_soon() {
    let cluster = Cluster::start().await;
    let (deployments, pods) = (cluster.api::<Deployment>(), cluster.api::<Pod>());
    let start = Instant::now();
    create(&deployments, deployment("web", 100)).await;
    let hundred = || async {
        let count = pods.list(&ListParams::default()).await.unwrap().items.len();
        assert!(count <= 100, "{count} pods");
        (count == 100).then_some(())
    };
    eventually("a hundred pods", hundred).await;
    println!("100 pods after {:?}", start.elapsed());
    // Becoming ready must not make it create more.
    cluster.play_kubelets();
    rolled_out(&deployments, "web").await;
    println!("all available after {:?}", start.elapsed());
    hundred().await.expect("still a hundred");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_is_replaced_and_its_events_are_told() {
    let cluster = Cluster::start().await;
    cluster.play_kubelets();
    let (deployments, pods) = (cluster.api::<Deployment>(), cluster.api::<Pod>());
    create(&deployments, deployment("web", 1)).await;
    rolled_out(&deployments, "web").await;
    let pod = pods.list(&ListParams::default()).await.unwrap().items.remove(0);
    pods.delete(&pod.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    let other = || async {
        let list = pods.list(&ListParams::default()).await.unwrap().items;
        list.into_iter().find(|other| other.uid() != pod.uid())
    };
    eventually("another pod", other).await;
    let events = cluster.api::<Event>();
    for reason in ["ScalingReplicaSet", "SuccessfulCreate"] {
        let told = || async {
            let list = events.list(&ListParams::default()).await.unwrap().items;
            list.into_iter()
                .find(|event| event.reason.as_deref() == Some(reason))
        };
        let event = eventually(reason, told).await;
        assert_eq!(event.type_.as_deref(), Some("Normal"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_adopted_and_released_by_their_labels() {
    let cluster = Cluster::start().await;
    let (sets, pods) = (cluster.api::<ReplicaSet>(), cluster.api::<Pod>());
    let mut orphan = template("web", "v1");
    orphan["metadata"]["name"] = json!("orphan");
    create(&pods, orphan).await;
    let set = json!({ "metadata": { "name": "web" }, "spec": { "replicas": 1,
        "selector": { "matchLabels": { "app": "web" } }, "template": template("web", "v1") } });
    let set = create(&sets, set).await;
    let owned = |pod: &Pod| {
        pod.owner_references()
            .iter()
            .any(|o| Some(&o.uid) == set.metadata.uid.as_ref())
    };
    until(&pods, "orphan", "the pod is adopted", owned).await;
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 1);

    merge(
        &pods,
        "orphan",
        json!({ "metadata": { "labels": { "app": "other" } } }),
    )
    .await;
    until(&pods, "orphan", "the pod is released", |pod| !owned(pod)).await;
    let replaced = || async {
        let list = pods.list(&ListParams::default()).await.unwrap().items;
        (list.iter().filter(|pod| owned(pod)).count() == 1).then_some(())
    };
    eventually("a pod in its place", replaced).await;
    until(&sets, "web", "the status counts it", |set| {
        set.status.as_ref().is_some_and(|status| status.replicas == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreation_and_a_broken_version_are_reported() {
    let cluster = Cluster::start().await;
    cluster.play_kubelets();
    let (deployments, pods) = (cluster.api::<Deployment>(), cluster.api::<Pod>());
    let mut object = deployment("web", 2);
    object["spec"]["strategy"] = json!({ "type": "Recreate" });
    object["spec"]["progressDeadlineSeconds"] = json!(1);
    create(&deployments, object).await;
    rolled_out(&deployments, "web").await;
    set_image(&deployments, "web", "v2").await;
    rolled_out(&deployments, "web").await;
    assert_eq!(images(&pods).await, HashSet::from(["v2".to_owned()]));
    set_image(&deployments, "web", "broken").await;
    until(&deployments, "web", "the deadline passes", |deployment| {
        let conditions = deployment
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten());
        conditions
            .into_iter()
            .any(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_gives_the_replica_set_another() {
    let cluster = Cluster::start().await;
    cluster.play_kubelets();
    let (deployments, sets) = (cluster.api::<Deployment>(), cluster.api::<ReplicaSet>());
    create(&deployments, deployment("web", 1)).await;
    rolled_out(&deployments, "web").await;
    let own = sets.list(&ListParams::default()).await.unwrap().items.remove(0);
    deployments
        .delete("web", &DeleteParams::background())
        .await
        .unwrap();
    until_gone(&sets, &own.name_any()).await;
    // A stranger has the name that the same template gives.
    let mut stranger = json!({ "metadata": { "name": own.name_any() }, "spec": { "replicas": 0,
        "selector": { "matchLabels": { "app": "stranger" } } } });
    stranger["spec"]["template"] = template("stranger", "v1");
    create(&sets, stranger).await;
    create(&deployments, deployment("web", 1)).await;
    let deployment = rolled_out(&deployments, "web").await;
    assert_eq!(deployment.status.unwrap().collision_count, Some(1));
    assert_eq!(sets.list(&ListParams::default()).await.unwrap().items.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_that_are_stopped_and_started_make_no_pod_twice() {
    let cluster = Cluster::without_controllers(controllers::Config::default()).await;
    cluster.play_kubelets();
    let (deployments, pods) = (cluster.api::<Deployment>(), cluster.api::<Pod>());
    create(&deployments, deployment("web", 40)).await;
    for milliseconds in [5, 20, 40, 80, 160] {
        let (stop, ended) = cluster.control();
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        stop.cancel();
        ended.await.unwrap();
        let count = pods.list(&ListParams::default()).await.unwrap().items.len();
        assert!(count <= 40, "{count} pods");
    }
    let (_stop, _running) = cluster.control();
    rolled_out(&deployments, "web").await;
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 40);
}
