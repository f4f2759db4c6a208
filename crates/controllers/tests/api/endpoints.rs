//! Services' endpoints, as pods come, change and go.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{Cluster, create, eventually, merge, until, until_gone};

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({ "metadata": { "name": name },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": "http" }] } });
    let object = spec.as_object().unwrap().clone();
    service["spec"].as_object_mut().unwrap().extend(object);
    service
}

/// A pod that runs, with an address.
async fn pod(cluster: &Cluster, name: &str, ip: &str, port: u16, ready: bool) {
    let pods: Api<Pod> = cluster.api();
    let object = json!({
        "metadata": { "name": name, "labels": { "app": "web" } },
        "spec": { "nodeName": "n", "hostname": name, "subdomain": "web",
            "containers": [{ "name": "c", "image": "i", "ports": [{ "name": "http", "containerPort": port }] }] },
    });
    create(&pods, object).await;
    state(cluster, name, ip, ready).await;
}

async fn state(cluster: &Cluster, name: &str, ip: &str, ready: bool) {
    let pods: Api<Pod> = cluster.api();
    let ready = json!({ "type": "Ready", "status": if ready { "True" } else { "False" } });
    let status = json!({ "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "conditions": [ready] } });
    pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(status))
        .await
        .unwrap();
}

async fn slices_of(cluster: &Cluster, service: &str) -> Vec<EndpointSlice> {
    let slices: Api<EndpointSlice> = cluster.api();
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    slices.list(&of_service).await.unwrap().items
}

/// Address → port and whether it is ready, serving and terminating.
type Told = BTreeMap<String, (i32, [bool; 3])>;

async fn told(cluster: &Cluster, service: &str) -> Told {
    let mut told = Told::new();
    for slice in slices_of(cluster, service).await {
        let port = slice
            .ports
            .iter()
            .flatten()
            .next()
            .and_then(|port| port.port)
            .unwrap_or(0);
        for endpoint in slice.endpoints.unwrap_or_default() {
            let c = endpoint.conditions.unwrap();
            let state = [c.ready, c.serving, c.terminating].map(Option::unwrap_or_default);
            let before = told.insert(endpoint.addresses[0].clone(), (port, state));
            assert!(before.is_none(), "an endpoint is told twice");
        }
    }
    told
}

async fn until_told(cluster: &Cluster, service: &str, expected: &[(&str, i32, [bool; 3])]) {
    let expected: Told = expected
        .iter()
        .map(|(ip, port, state)| ((*ip).to_owned(), (*port, *state)))
        .collect();
    eventually(&format!("{service} has {expected:?}"), || async {
        (told(cluster, service).await == expected).then_some(())
    })
    .await;
}

const READY: [bool; 3] = [true, true, false];
const UNREADY: [bool; 3] = [false, false, false];

#[tokio::test(flavor = "multi_thread")]
async fn slices_follow_pods() {
    let cluster = Cluster::start().await;
    let (services, pods): (Api<Service>, Api<Pod>) = (cluster.api(), cluster.api());
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let zone = json!({ "metadata": { "name": "n", "labels": { "topology.kubernetes.io/zone": "z" } } });
    create(&nodes, zone).await;
    pod(&cluster, "a", "10.244.0.1", 8080, true).await;
    create(&services, service("web", json!({}))).await;
    until_told(&cluster, "web", &[("10.244.0.1", 8080, READY)]).await;
    // Another port by the same name, and one that isn't ready.
    pod(&cluster, "b", "10.244.0.2", 9090, false).await;
    until_told(
        &cluster,
        "web",
        &[("10.244.0.1", 8080, READY), ("10.244.0.2", 9090, UNREADY)],
    )
    .await;
    state(&cluster, "b", "10.244.0.2", true).await;
    until_told(
        &cluster,
        "web",
        &[("10.244.0.1", 8080, READY), ("10.244.0.2", 9090, READY)],
    )
    .await;

    let slices = slices_of(&cluster, "web").await;
    let slice = slices
        .iter()
        .find(|slice| slice.ports.as_ref().unwrap()[0].port == Some(8080))
        .unwrap();
    let endpoint = &slice.endpoints.as_ref().unwrap()[0];
    let facts =
        [&endpoint.zone, &endpoint.node_name, &endpoint.hostname].map(|fact| fact.as_deref().unwrap());
    assert_eq!(facts, ["z", "n", "a"]);
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(
        labels["endpointslice.kubernetes.io/managed-by"],
        "endpointslice-controller.k8s.io"
    );
    assert_eq!(slice.metadata.owner_references.as_ref().unwrap()[0].name, "web");

    // One that ends goes on serving.
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    until_told(
        &cluster,
        "web",
        &[
            ("10.244.0.1", 8080, [false, true, true]),
            ("10.244.0.2", 9090, READY),
        ],
    )
    .await;
    pods.delete("a", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    until_told(&cluster, "web", &[("10.244.0.2", 9090, READY)]).await;
    // No longer selected.
    merge(
        &pods,
        "b",
        json!({ "metadata": { "labels": { "app": "other" } } }),
    )
    .await;
    until_told(&cluster, "web", &[]).await;
    assert_eq!(
        slices_of(&cluster, "web").await.len(),
        1,
        "one says that there are none"
    );
    merge(
        &services,
        "web",
        json!({ "spec": { "selector": { "app": "other" } } }),
    )
    .await;
    until_told(&cluster, "web", &[("10.244.0.2", 9090, READY)]).await;

    services.delete("web", &DeleteParams::default()).await.unwrap();
    let gone = || async { slices_of(&cluster, "web").await.is_empty().then_some(()) };
    eventually("the slices go with their Service", gone).await;
    until_gone(&cluster.api::<Endpoints>(), "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_tell_the_same_in_the_older_form() {
    let cluster = Cluster::start().await;
    pod(&cluster, "a", "10.244.0.1", 8080, true).await;
    pod(&cluster, "b", "10.244.0.2", 8080, false).await;
    create(&cluster.api::<Service>(), service("web", json!({}))).await;
    let endpoints: Api<Endpoints> = cluster.api();
    let both = |endpoints: &Endpoints| {
        endpoints.subsets.as_ref().is_some_and(|subsets| {
            let count = |addresses: &Option<Vec<_>>| addresses.as_ref().map_or(0, Vec::len);
            count(&subsets[0].addresses) == 1 && count(&subsets[0].not_ready_addresses) == 1
        })
    };
    until(&endpoints, "web", "both addresses", both).await;
    // What somebody else made of them is put right.
    merge(&endpoints, "web", json!({ "subsets": null })).await;
    until(&endpoints, "web", "both addresses again", both).await;
    // Nobody mirrors what comes from slices' own pods.
    let managers: Vec<_> = slices_of(&cluster, "web").await;
    assert_eq!(managers.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slice_was_made_into_is_put_right() {
    let cluster = Cluster::start().await;
    pod(&cluster, "a", "10.244.0.1", 8080, true).await;
    create(
        &cluster.api::<Service>(),
        service(
            "web",
            json!({ "publishNotReadyAddresses": true, "trafficDistribution": "PreferSameNode" }),
        ),
    )
    .await;
    until_told(&cluster, "web", &[("10.244.0.1", 8080, READY)]).await;
    let slices: Api<EndpointSlice> = cluster.api();
    let slice = slices_of(&cluster, "web").await.remove(0);
    let hints = slice.endpoints.as_ref().unwrap()[0].hints.clone().unwrap();
    assert_eq!(hints.for_nodes.unwrap()[0].name, "n");
    let name = slice.metadata.name.unwrap();
    merge(&slices, &name, json!({ "endpoints": [] })).await;
    until_told(&cluster, "web", &[("10.244.0.1", 8080, READY)]).await;
    slices.delete(&name, &DeleteParams::default()).await.unwrap();
    until_told(&cluster, "web", &[("10.244.0.1", 8080, READY)]).await;
    state(&cluster, "a", "10.244.0.1", false).await;
    until_told(&cluster, "web", &[("10.244.0.1", 8080, [true, false, false])]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_of_a_service_without_a_selector_are_mirrored() {
    let cluster = Cluster::start().await;
    let services: Api<Service> = cluster.api();
    create(
        &services,
        json!({ "metadata": { "name": "db" }, "spec": { "ports": [{ "port": 5432 }] } }),
    )
    .await;
    let endpoints: Api<Endpoints> = cluster.api();
    let subsets = json!([{ "addresses": [{ "ip": "192.0.2.1" }], "notReadyAddresses": [{ "ip": "2001:db8::1" }], "ports": [{ "port": 5432 }] }]);
    create(
        &endpoints,
        json!({ "metadata": { "name": "db" }, "subsets": subsets }),
    )
    .await;
    until_told(
        &cluster,
        "db",
        &[
            ("192.0.2.1", 5432, [true, false, false]),
            ("2001:db8::1", 5432, UNREADY),
        ],
    )
    .await;
    let slices = slices_of(&cluster, "db").await;
    assert_eq!(slices.len(), 2);
    let labels = slices[0].metadata.labels.as_ref().unwrap();
    assert_eq!(
        labels["endpointslice.kubernetes.io/managed-by"],
        "endpointslicemirroring-controller.k8s.io"
    );
    let other = json!({ "subsets": [{ "addresses": [{ "ip": "192.0.2.2" }], "ports": [{ "port": 5432 }] }] });
    merge(&endpoints, "db", other).await;
    until_told(&cluster, "db", &[("192.0.2.2", 5432, [true, false, false])]).await;
    let skip = json!({ "metadata": { "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } } });
    merge(&endpoints, "db", skip).await;
    until_told(&cluster, "db", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pods_at_once_are_each_told_once_and_controllers_may_restart() {
    let cluster = Cluster::without_controllers(controllers::Config::default()).await;
    let (stop, running) = cluster.control();
    create(&cluster.api::<Service>(), service("web", json!({}))).await;
    let ip = |n: usize| format!("10.244.{}.{}", n / 200, n % 200 + 1);
    let (names, ips): (Vec<_>, Vec<_>) = (0..230).map(|n| (format!("p{n}"), ip(n))).unzip();
    let pods = names
        .iter()
        .zip(&ips)
        .map(|(name, ip)| pod(&cluster, name, ip, 80, true));
    futures::future::join_all(pods).await;
    let expected: Vec<_> = ips.iter().map(|ip| (ip.as_str(), 80, READY)).collect();
    until_told(&cluster, "web", &expected).await;
    assert!(slices_of(&cluster, "web").await.len() >= 3);
    stop.cancel();
    running.await.unwrap();
    // What went meanwhile is noticed by those who come after.
    let api: Api<Pod> = cluster.api();
    api.delete("p0", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let versions = |slices: &[EndpointSlice]| -> Vec<_> {
        slices
            .iter()
            .map(|s| s.metadata.resource_version.clone())
            .collect()
    };
    let before = slices_of(&cluster, "web").await;
    cluster.control();
    until_told(&cluster, "web", &expected[1..]).await;
    let after = slices_of(&cluster, "web").await;
    let changed = versions(&before)
        .iter()
        .zip(versions(&after))
        .filter(|(a, b)| **a != *b)
        .count();
    assert_eq!(
        (before.len(), changed),
        (after.len(), 1),
        "one pod's change rewrites one slice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_range_goes_when_no_service_needs_it() {
    let cluster = Cluster::start().await;
    let cidrs: Api<ServiceCIDR> = Api::all(cluster.client.clone());
    create(
        &cidrs,
        json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["10.97.0.0/24"] } }),
    )
    .await;
    let ready = |status: &'static str| {
        move |cidr: &ServiceCIDR| {
            let conditions = cidr.status.as_ref().and_then(|status| status.conditions.clone());
            let held = cidr
                .metadata
                .finalizers
                .as_ref()
                .is_some_and(|all| !all.is_empty());
            held && conditions
                .iter()
                .flatten()
                .any(|c| c.type_ == "Ready" && c.status == status)
        }
    };
    until(&cidrs, "more", "it is ready", ready("True")).await;
    let services: Api<Service> = cluster.api();
    create(&services, service("web", json!({ "clusterIP": "10.97.0.9" }))).await;
    cidrs.delete("more", &DeleteParams::default()).await.unwrap();
    until(&cidrs, "more", "it waits", ready("False")).await;
    services.delete("web", &DeleteParams::default()).await.unwrap();
    until_gone(&cidrs, "more").await;
}
