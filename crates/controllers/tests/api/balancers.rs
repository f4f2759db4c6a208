//! Addresses of Services of type LoadBalancer.

use k8s_openapi::api::core::v1::{Event, Service};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::support::{Cluster, create, eventually, merge, until};

fn config(range: &str) -> controllers::Config {
    controllers::Config {
        load_balancer_pools: vec![controllers::Pool {
            name: "default".to_owned(),
            ranges: vec![range.parse().unwrap()],
            automatic: true,
        }],
        ..controllers::Config::default()
    }
}

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({ "metadata": { "name": name },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] } });
    let object = spec.as_object().unwrap().clone();
    service["spec"].as_object_mut().unwrap().extend(object);
    service
}

fn addresses(service: &Service) -> Vec<(String, String)> {
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer
        .and_then(|balancer| balancer.ingress.clone())
        .unwrap_or_default();
    ingress
        .into_iter()
        .map(|ingress| (ingress.ip.unwrap(), ingress.ip_mode.unwrap()))
        .collect()
}

fn has(ip: &'static str) -> impl Fn(&Service) -> bool {
    move |service| addresses(service) == [(ip.to_owned(), "VIP".to_owned())]
}

async fn told(cluster: &Cluster, service: &str, reason: &str, message: &str) {
    let events: Api<Event> = cluster.api();
    eventually(&format!("{reason}: {message}"), || async {
        let list = events.list(&ListParams::default()).await.unwrap();
        let mut of_service = list
            .items
            .into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(service));
        of_service
            .any(|event| event.reason.as_deref() == Some(reason) && event.message.as_deref() == Some(message))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gets_an_address_until_there_are_none_and_gives_it_back() {
    let cluster = Cluster::start_with(config("172.30.0.200-172.30.0.201")).await;
    let services: Api<Service> = cluster.api();
    create(&services, service("a", json!({}))).await;
    until(&services, "a", "an address", has("172.30.0.200")).await;
    told(&cluster, "a", "AddressAllocated", "Assigned 172.30.0.200").await;
    create(
        &services,
        service("b", json!({ "loadBalancerIP": "172.30.0.200" })),
    )
    .await;
    let why = "Failed to allocate an address: address 172.30.0.200 is taken by Service default/a";
    told(&cluster, "b", "AddressAllocationFailed", why).await;
    merge(&services, "b", json!({ "spec": { "loadBalancerIP": null } })).await;
    until(&services, "b", "another address", has("172.30.0.201")).await;
    create(&services, service("c", json!({}))).await;
    told(
        &cluster,
        "c",
        "AddressAllocationFailed",
        "Failed to allocate an address: no pool has an IPv4 address left",
    )
    .await;
    create(
        &services,
        service("d", json!({ "loadBalancerClass": "example.org/other" })),
    )
    .await;

    // One that isn't a load balancer any more leaves its address to who waits.
    let changed = merge(&services, "a", json!({ "spec": { "type": "ClusterIP" } })).await;
    assert_eq!(addresses(&changed), []);
    until(&services, "c", "the address that was left", has("172.30.0.200")).await;
    create(&services, service("e", json!({}))).await;
    services.delete("b", &DeleteParams::default()).await.unwrap();
    until(
        &services,
        "e",
        "the address of one that is gone",
        has("172.30.0.201"),
    )
    .await;
    assert_eq!(addresses(&services.get("d").await.unwrap()), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_stay_when_controllers_restart() {
    let cluster = Cluster::without_controllers(config("172.30.0.200-172.30.0.250")).await;
    let (stop, running) = cluster.control();
    let services: Api<Service> = cluster.api();
    let mut chosen = service("chosen", json!({}));
    chosen["metadata"]["annotations"] = json!({ "ripstop.dev/load-balancer-ips": "172.30.0.201" });
    create(&services, chosen).await;
    until(&services, "chosen", "its choice", has("172.30.0.201")).await;
    create(&services, service("a", json!({}))).await;
    until(&services, "a", "an address", has("172.30.0.200")).await;
    stop.cancel();
    running.await.unwrap();
    create(&services, service("b", json!({}))).await;
    cluster.control();
    until(&services, "b", "an address that is free", has("172.30.0.202")).await;
    assert!(has("172.30.0.200")(&services.get("a").await.unwrap()));
}
