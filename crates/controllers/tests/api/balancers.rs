//! Addresses of Services of type LoadBalancer.

use k8s_openapi::api::core::v1::{Event, Node, Service};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Error};
use serde_json::{Value, json};

use crate::support::{Cluster, create, eventually, merge, until, until_gone};

fn config(range: &str) -> controllers::Config {
    controllers::Config {
        load_balancer_pool: range.split(',').map(|range| range.parse().unwrap()).collect(),
        reserved_addresses: vec!["172.30.0.1".parse().unwrap()],
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

fn pools(cluster: &Cluster) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("ripstop.dev", "v1alpha1", "LoadBalancerPool");
    Api::all_with(cluster.client.clone(), &ApiResource::from_gvk(&kind))
}

fn pool(name: &str, spec: &Value) -> DynamicObject {
    let object = json!({ "apiVersion": "ripstop.dev/v1alpha1", "kind": "LoadBalancerPool",
        "metadata": { "name": name }, "spec": spec });
    serde_json::from_value(object).unwrap()
}

async fn make_pool(cluster: &Cluster, name: &str, spec: Value) {
    let pools = pools(cluster);
    until(&pools, "default", "the first pool", |_| true).await;
    let created = pools.create(&PostParams::default(), &pool(name, &spec)).await;
    created.unwrap();
}

async fn annotate(services: &Api<Service>, name: &str, annotation: &str, value: Value) {
    merge(
        services,
        name,
        json!({ "metadata": { "annotations": { annotation: value } } }),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_add_change_and_remove_pools() {
    let cluster = Cluster::start_with(config("172.30.0.200-172.30.0.201")).await;
    let (services, pools) = (cluster.api::<Service>(), pools(&cluster));
    make_pool(
        &cluster,
        "edge",
        json!({ "addresses": ["192.0.2.8/30"], "autoAssign": false }),
    )
    .await;
    create(&services, service("a", json!({}))).await;
    until(&services, "a", "an address", has("172.30.0.200")).await;
    annotate(&services, "a", "ripstop.dev/load-balancer-pool", json!("edge")).await;
    until(&services, "a", "one of the pool that it chose", has("192.0.2.8")).await;
    let counts = |used: i64, free: i64| {
        move |pool: &DynamicObject| {
            let status = &pool.data["status"];
            status["used"] == used && status["ipv4"]["free"] == free
        }
    };
    until(&pools, "edge", "its use", counts(1, 3)).await;
    until(&pools, "default", "its use", counts(0, 2)).await;

    // A pool that grows serves those who wait; one that shrinks takes back what it hasn't any more.
    for (name, address) in [("b", "172.30.0.200"), ("c", "172.30.0.201")] {
        create(&services, service(name, json!({}))).await;
        until(&services, name, "an address", has(address)).await;
    }
    create(&services, service("d", json!({}))).await;
    let full = "Failed to allocate an address: no pool has an IPv4 address left";
    told(&cluster, "d", "AddressAllocationFailed", full).await;
    let grown = json!({ "spec": { "addresses": ["172.30.0.201-172.30.0.203"] } });
    merge(&pools, "default", grown).await;
    until(&services, "d", "an address", |service| {
        ["172.30.0.202", "172.30.0.203"]
            .iter()
            .any(|ip| addresses(service)[..] == [((*ip).to_owned(), "VIP".to_owned())])
    })
    .await;
    told(
        &cluster,
        "b",
        "AddressNotInPool",
        "172.30.0.200 is in no pool any more",
    )
    .await;
    until(&services, "b", "another address", |service| {
        addresses(service).iter().any(|(ip, _)| ip != "172.30.0.200")
    })
    .await;
    assert!(
        has("172.30.0.201")(&services.get("c").await.unwrap()),
        "a pool has it still"
    );

    // Without its pool it has none, and is told so.
    pools.delete("edge", &DeleteParams::default()).await.unwrap();
    until(&services, "a", "no address", |service| {
        addresses(service).is_empty()
    })
    .await;
    let why = "Failed to allocate an address: there is no pool edge";
    told(&cluster, "a", "AddressAllocationFailed", why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_pool_is_made_once() {
    let cluster = Cluster::without_controllers(config("172.30.0.200-172.30.0.201")).await;
    let (stop, running) = cluster.control();
    let pools = pools(&cluster);
    make_pool(&cluster, "mine", json!({ "addresses": ["192.0.2.8/30"] })).await;
    pools.delete("default", &DeleteParams::default()).await.unwrap();
    until_gone(&pools, "default").await;
    stop.cancel();
    running.await.unwrap();
    cluster.control();
    let services: Api<Service> = cluster.api();
    create(&services, service("a", json!({}))).await;
    until(&services, "a", "an address", has("192.0.2.8")).await;
    assert_eq!(pools.get_opt("default").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_cannot_be_is_refused_or_says_what_is_wrong() {
    let cluster = Cluster::start_with(config("172.30.0.200-172.30.0.201")).await;
    let pools = pools(&cluster);
    make_pool(
        &cluster,
        "odd",
        json!({ "addresses": ["10.0.0.9-10.0.0.1", "10.0.0.0/30", "127.0.0.0/30"] }),
    )
    .await;
    for (spec, message) in [
        (json!({}), "spec.addresses: Required value"),
        (
            json!({ "addresses": [] }),
            "spec.addresses: Invalid value: 0: spec.addresses in body should have at least 1 items",
        ),
        (
            json!({ "addresses": ["ten"] }),
            "spec.addresses[0]: Invalid value: \"ten\": spec.addresses[0] in body should match",
        ),
        (
            json!({ "addresses": ["10.0.0.0/30"], "autoAssign": "no" }),
            "spec.autoAssign: Invalid value: \"string\": spec.autoAssign in body must be of type boolean: \"string\"",
        ),
    ] {
        let refused = pools.create(&PostParams::default(), &pool("wrong", &spec)).await;
        let Err(Error::Api(status)) = refused else {
            panic!("{spec} was taken: {refused:?}")
        };
        assert!(status.message.contains(message), "{}", status.message);
    }
    let odd = until(&pools, "odd", "what is wrong", |pool| {
        pool.data["status"]["conditions"][0]["status"] == "False"
    })
    .await;
    let message = odd.data["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("\"10.0.0.9-10.0.0.1\" is no range") && message.contains("\"127.0.0.0/30\" has"),
        "{message}"
    );
    assert_eq!(odd.data["status"]["ipv4"]["free"], 4, "what can be used is");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_either_family_or_both_get_what_they_choose() {
    let cluster = Cluster::dual(config(
        "172.30.0.200-172.30.0.210,fd00:172:30::200-fd00:172:30::210",
    ))
    .await;
    let services: Api<Service> = cluster.api();
    let of = |ips: &'static [&'static str]| {
        move |service: &Service| {
            addresses(service)
                .iter()
                .map(|(ip, _)| ip.as_str())
                .eq(ips.iter().copied())
        }
    };
    create(&services, service("six", json!({ "ipFamilies": ["IPv6"] }))).await;
    until(&services, "six", "an IPv6 address", of(&["fd00:172:30::200"])).await;
    let both = json!({ "ipFamilyPolicy": "RequireDualStack" });
    create(&services, service("both", both)).await;
    until(
        &services,
        "both",
        "one of each",
        of(&["172.30.0.200", "fd00:172:30::201"]),
    )
    .await;
    let chosen = json!("fd00:172:30::20f, 172.30.0.209");
    annotate(&services, "both", "ripstop.dev/load-balancer-ips", chosen).await;
    until(
        &services,
        "both",
        "those that it chose",
        of(&["172.30.0.209", "fd00:172:30::20f"]),
    )
    .await;
    let one = json!({ "spec": { "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"] } });
    merge(&services, "both", one).await;
    let why = "Failed to allocate an address: address fd00:172:30::20f is of a family that the Service has not, or has one of already";
    told(&cluster, "both", "AddressAllocationFailed", why).await;
    annotate(&services, "both", "ripstop.dev/load-balancer-ips", Value::Null).await;
    until(&services, "both", "one", of(&["172.30.0.209"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_the_cluster_keep_their_own_addresses() {
    let cluster = Cluster::start_with(config("172.30.0.1-172.30.0.2")).await;
    let services: Api<Service> = cluster.api();
    create(&services, service("a", json!({}))).await;
    until(&services, "a", "one that isn't the cluster's", has("172.30.0.2")).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    create(&nodes, json!({ "metadata": { "name": "node-1" } })).await;
    let address = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": "172.30.0.2" }] } });
    let patch = Patch::Merge(address);
    nodes
        .patch_status("node-1", &PatchParams::default(), &patch)
        .await
        .unwrap();
    until(&services, "a", "no address", |service| {
        addresses(service).is_empty()
    })
    .await;
}
