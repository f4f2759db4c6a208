//! Services: addresses, families and node ports.

use apiserver::ServiceConfig;
use serde_json::{Value, json};

use crate::support::{Answer, Raw, Running};

pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(crate) const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";

pub(crate) fn config(ranges: &[&str]) -> ServiceConfig {
    ServiceConfig {
        ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..ServiceConfig::default()
    }
}

async fn dual() -> Running {
    Running::with_services(config(&["10.96.0.0/16", "fd00:10:96::/112"])).await
}

fn service(name: &str, mut spec: Value) -> Value {
    if spec.get("ports").is_none() && spec["type"] != "ExternalName" {
        spec["ports"] = json!([{ "port": 80 }]);
    }
    json!({ "metadata": { "name": name }, "spec": spec })
}

async fn create(raw: &Raw, name: &str, spec: Value) -> Value {
    let answer = raw.post(SERVICES, &service(name, spec)).await;
    assert_eq!(answer.code, 201, "{}", answer.body);
    answer.body
}

async fn refused(raw: &Raw, spec: Value) -> String {
    let answer = raw.post(SERVICES, &service("bad", spec)).await;
    assert_eq!(answer.code, 422, "{}", answer.body);
    let message = answer.message().to_owned();
    message
        .strip_prefix("Service \"bad\" is invalid: ")
        .unwrap()
        .to_owned()
}

async fn merge(raw: &Raw, name: &str, patch: Value) -> Answer {
    raw.patch(&format!("{SERVICES}/{name}"), "merge", &patch).await
}

/// The addresses that are taken, and by whom.
async fn taken(raw: &Raw) -> Vec<(String, String)> {
    let list = raw.get(ADDRESSES).await.body;
    let items = list["items"].as_array().unwrap().iter();
    let mut taken: Vec<_> = items
        .map(|item| {
            let parent = &item["spec"]["parentRef"];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&item["metadata"]["name"]), text(&parent["name"]))
        })
        .collect();
    taken.sort();
    taken
}

fn strings(value: &Value) -> Vec<&str> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn a_service_gets_an_address_that_an_object_stands_for() {
    let raw = Running::start().await.raw();
    let cidr = raw.get(&format!("{CIDRS}/kubernetes")).await.body;
    assert_eq!(cidr["spec"]["cidrs"], json!(["10.96.0.0/16"]));
    let web = create(&raw, "web", json!({})).await;
    let ip = web["spec"]["clusterIP"].as_str().unwrap();
    assert!(ip.starts_with("10.96."), "{ip}");
    assert_eq!(web["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(web["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(web["spec"]["ipFamilyPolicy"], "SingleStack");
    // Nobody owns what the server has found.
    let owned = web["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"].clone();
    assert!(
        owned.get("f:ports").is_some() && owned.get("f:clusterIP").is_none(),
        "{owned}"
    );

    let address = raw.get(&format!("{ADDRESSES}/{ip}")).await.body;
    let parent = json!({ "resource": "services", "namespace": "default", "name": "web" });
    assert_eq!(address["spec"]["parentRef"], parent);
    let labels = json!({
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    });
    assert_eq!(address["metadata"]["labels"], labels);

    raw.delete(&format!("{SERVICES}/web"), &json!({})).await;
    assert_eq!(taken(&raw).await, []);
}

#[tokio::test]
async fn a_chosen_address_is_given_once_and_from_the_range_only() {
    let raw = Running::start().await.raw();
    let a = create(&raw, "a", json!({ "clusterIP": "10.96.0.5" })).await;
    assert_eq!(a["spec"]["clusterIPs"], json!(["10.96.0.5"]));
    assert_eq!(
        refused(&raw, json!({ "clusterIP": "10.96.0.5" })).await,
        "spec.clusterIPs: Invalid value: [\"10.96.0.5\"]: failed to allocate IP 10.96.0.5: provided IP is already allocated"
    );
    for outside in ["10.97.0.1", "10.96.0.0", "10.96.255.255"] {
        let message = refused(&raw, json!({ "clusterIP": outside })).await;
        let why = format!(
            "failed to allocate IP {outside}: the provided IP ({outside}) is not in the valid range. The range of valid IPs is 10.96.0.0/16"
        );
        assert!(message.ends_with(&why), "{message}");
    }
    let message = refused(&raw, json!({ "clusterIP": "10.96.0.300" })).await;
    assert!(
        message.starts_with("spec.clusterIPs[0]: Invalid value: \"10.96.0.300\""),
        "{message}"
    );
    assert_eq!(taken(&raw).await, [("10.96.0.5".to_owned(), "a".to_owned())]);
    // The same name once more is not the address's fault.
    let again = raw
        .post(SERVICES, &service("a", json!({ "clusterIP": "10.96.0.5" })))
        .await;
    assert_eq!(
        (again.code, again.message()),
        (409, "services \"a\" already exists")
    );
}

#[tokio::test]
async fn families_are_what_policy_and_cluster_allow() {
    let raw = dual().await.raw();
    let both = create(&raw, "both", json!({ "ipFamilyPolicy": "PreferDualStack" })).await;
    assert_eq!(strings(&both["spec"]["ipFamilies"]), ["IPv4", "IPv6"]);
    assert_eq!(both["spec"]["clusterIPs"].as_array().unwrap().len(), 2);
    let six = create(&raw, "six", json!({ "ipFamilies": ["IPv6"] })).await;
    assert!(
        six["spec"]["clusterIP"]
            .as_str()
            .unwrap()
            .starts_with("fd00:10:96::")
    );
    let chosen =
        json!({ "clusterIPs": ["fd00:10:96::5", "10.96.0.5"], "ipFamilyPolicy": "RequireDualStack" });
    let chosen = create(&raw, "chosen", chosen).await;
    assert_eq!(strings(&chosen["spec"]["ipFamilies"]), ["IPv6", "IPv4"]);
    assert_eq!(
        refused(&raw, json!({ "clusterIPs": ["fd00:10:96::6", "10.96.0.6"] })).await,
        "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"
    );

    // One family becomes two, and one again.
    let before = create(&raw, "web", json!({})).await["spec"]["clusterIP"].clone();
    let up = merge(
        &raw,
        "web",
        json!({ "spec": { "ipFamilyPolicy": "RequireDualStack" } }),
    )
    .await
    .body;
    assert_eq!(up["spec"]["clusterIPs"][0], before);
    let second = up["spec"]["clusterIPs"][1].as_str().unwrap().to_owned();
    assert!(taken(&raw).await.contains(&(second.clone(), "web".to_owned())));
    let down = merge(
        &raw,
        "web",
        json!({ "spec": { "ipFamilyPolicy": "SingleStack" } }),
    )
    .await
    .body;
    assert_eq!(down["spec"]["clusterIPs"], json!([before]));
    assert_eq!(strings(&down["spec"]["ipFamilies"]), ["IPv4"]);
    assert!(!taken(&raw).await.contains(&(second, "web".to_owned())));

    let single = Running::start().await.raw();
    assert_eq!(
        refused(&single, json!({ "ipFamilyPolicy": "RequireDualStack" })).await,
        "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
    );
}

#[tokio::test]
async fn headless_and_external_services_hold_no_address() {
    let raw = dual().await.raw();
    let none = create(
        &raw,
        "none",
        json!({ "clusterIP": "None", "selector": { "a": "b" } }),
    )
    .await;
    assert_eq!(none["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(strings(&none["spec"]["ipFamilies"]), ["IPv4"]);
    create(
        &raw,
        "name",
        json!({ "type": "ExternalName", "externalName": "example.org" }),
    )
    .await;
    assert_eq!(taken(&raw).await, []);

    // To a name and back: the address goes, and another comes.
    create(&raw, "web", json!({ "type": "NodePort" })).await;
    let name = json!({ "spec": { "type": "ExternalName", "externalName": "example.org" } });
    let named = merge(&raw, "web", name).await;
    assert_eq!(named.code, 200, "{}", named.body);
    let spec = named.body["spec"].as_object().unwrap();
    assert!(
        !spec.contains_key("clusterIP") && !spec.contains_key("ipFamilies"),
        "{spec:?}"
    );
    assert_eq!(taken(&raw).await, []);
    let back = merge(
        &raw,
        "web",
        json!({ "spec": { "type": "ClusterIP", "externalName": null } }),
    )
    .await;
    assert_eq!(back.code, 200, "{}", back.body);
    assert_eq!(taken(&raw).await.len(), 1);
    let gone = merge(&raw, "web", json!({ "spec": { "clusterIP": "None" } })).await;
    assert_eq!(gone.code, 422);
    assert!(
        gone.message().contains("may not change once set"),
        "{}",
        gone.message()
    );
}

#[tokio::test]
async fn node_ports_are_given_once() {
    let raw = Running::start().await.raw();
    let ports = json!([{ "port": 53, "protocol": "UDP", "name": "u" }, { "port": 53, "name": "t" }, { "port": 80, "name": "h" }]);
    let dns = create(&raw, "dns", json!({ "type": "NodePort", "ports": ports })).await;
    let ports: Vec<_> = dns["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["nodePort"].as_u64().unwrap())
        .collect();
    assert!(ports[0] == ports[1] && ports[0] != ports[2], "{ports:?}");
    assert!(ports.iter().all(|port| (30_000..=32_767).contains(port)));

    let at = |port: u16| json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": port }] });
    create(&raw, "web", at(30_000)).await;
    assert_eq!(
        refused(&raw, at(30_000)).await,
        "spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated"
    );
    assert_eq!(
        refused(&raw, at(80)).await,
        "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
    );
    // Changed to another type, the port is free for others.
    let plain = merge(&raw, "web", json!({ "spec": { "type": "ClusterIP" } }))
        .await
        .body;
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none(), "{plain}");
    create(&raw, "other", at(30_000)).await;
    // A failed attempt left nothing behind.
    assert_eq!(taken(&raw).await.len(), 3);
}

#[tokio::test]
async fn load_balancers_get_ports_unless_they_want_none_and_one_to_be_asked_at() {
    let raw = Running::start().await.raw();
    let local = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local" });
    let local = create(&raw, "local", local).await;
    let health = local["spec"]["healthCheckNodePort"].as_u64().unwrap();
    let port = local["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!(health >= 30_000 && port >= 30_000 && health != port);
    let taken =
        json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": health });
    let refused = raw.post(SERVICES, &service("bad", taken)).await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            500,
            &*format!(
                "Internal error occurred: failed to allocate requested HealthCheck NodePort {health}: provided port is already allocated"
            )
        )
    );
    let none = json!({ "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false });
    let none = create(&raw, "none", none).await;
    assert!(none["spec"]["ports"][0].get("nodePort").is_none());
    // Not asked at any more.
    let changed = merge(
        &raw,
        "local",
        json!({ "spec": { "externalTrafficPolicy": "Cluster" } }),
    )
    .await
    .body;
    assert!(changed["spec"].get("healthCheckNodePort").is_none(), "{changed}");
    let free = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": health }] });
    create(&raw, "free", free).await;
}

#[tokio::test]
async fn a_rehearsal_takes_nothing() {
    let raw = Running::start().await.raw();
    let wanted = service("web", json!({ "type": "NodePort", "clusterIP": "10.96.0.7" }));
    let answer = raw.post(&format!("{SERVICES}?dryRun=All"), &wanted).await;
    assert_eq!(answer.code, 201);
    assert!(answer.body["spec"]["ports"][0]["nodePort"].is_u64());
    assert_eq!(taken(&raw).await, []);
    create(&raw, "other", json!({ "clusterIP": "10.96.0.7" })).await;
    let answer = raw.post(&format!("{SERVICES}?dryRun=All"), &wanted).await;
    assert_eq!(answer.code, 422, "{}", answer.body);
}

#[tokio::test]
async fn a_whole_update_keeps_what_was_allocated() {
    let raw = Running::start().await.raw();
    let made = create(&raw, "web", json!({ "type": "NodePort" })).await;
    let again = service(
        "web",
        json!({ "type": "NodePort", "ports": [{ "port": 80 }], "selector": { "a": "b" } }),
    );
    let put = raw.put(&format!("{SERVICES}/web"), &again).await;
    assert_eq!(put.code, 200, "{}", put.body);
    for field in ["clusterIP", "clusterIPs", "ports", "ipFamilies", "ipFamilyPolicy"] {
        assert_eq!(put.body["spec"][field], made["spec"][field], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_get_different_addresses_until_there_are_none() {
    let running = Running::with_services(config(&["10.96.0.0/26"])).await;
    let raw = running.raw();
    let names: Vec<_> = (0..80).map(|n| format!("s{n}")).collect();
    let wanted = |name: &String| service(name, json!({ "type": "NodePort" }));
    let answers = futures::future::join_all(names.iter().map(|name| {
        let (raw, body) = (&raw, wanted(name));
        async move { raw.post(SERVICES, &body).await }
    }))
    .await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.code == 201);
    assert_eq!((made.len(), refused.len()), (62, 18));
    let why = "Internal error occurred: failed to allocate a serviceIP: range is full";
    assert!(refused.iter().all(|answer| answer.message() == why));
    let unique: std::collections::HashSet<_> = made
        .iter()
        .map(|answer| answer.body["spec"]["clusterIP"].to_string())
        .collect();
    assert_eq!((unique.len(), taken(&raw).await.len()), (62, 62));
}

#[tokio::test]
async fn another_range_gives_more_addresses() {
    let running = Running::with_services(config(&["10.96.0.0/30"])).await;
    let raw = running.raw();
    create(&raw, "a", json!({})).await;
    create(&raw, "b", json!({})).await;
    assert_eq!(raw.post(SERVICES, &service("c", json!({}))).await.code, 500);
    let more = json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["10.97.0.0/24"] } });
    assert_eq!(raw.post(CIDRS, &more).await.code, 201);
    let c = create(&raw, "c", json!({})).await;
    assert!(c["spec"]["clusterIP"].as_str().unwrap().starts_with("10.97.0."));
}

#[tokio::test]
async fn the_api_is_a_service_itself_and_comes_back() {
    let services = ServiceConfig {
        endpoints: vec![
            "172.30.0.2:6443".parse().unwrap(),
            "[fd00::2]:6443".parse().unwrap(),
        ],
        ..config(&["10.96.0.0/16", "fd00:10:96::/112"])
    };
    let running = Running::with_services(services).await;
    let raw = running.raw();
    let path = format!("{SERVICES}/kubernetes");
    let api = raw.get(&path).await.body;
    assert_eq!(api["spec"]["clusterIPs"], json!(["10.96.0.1"]));
    let ports = json!([{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443 }]);
    assert_eq!(api["spec"]["ports"], ports);
    let endpoints = raw
        .get("/api/v1/namespaces/default/endpoints/kubernetes")
        .await
        .body;
    assert_eq!(
        endpoints["subsets"][0]["addresses"],
        json!([{ "ip": "172.30.0.2" }])
    );
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let slice = raw.get(slice).await.body;
    assert_eq!(
        slice["metadata"]["labels"]["kubernetes.io/service-name"],
        "kubernetes"
    );
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["172.30.0.2"]));
    let dns = raw
        .get("/api/v1/namespaces/kube-system/services/kube-dns")
        .await
        .body;
    assert_eq!(dns["spec"]["clusterIPs"], json!(["10.96.0.10", "fd00:10:96::a"]));
    assert_eq!(dns["metadata"]["labels"]["k8s-app"], "kube-dns");
    assert!(dns["spec"].get("selector").is_none());

    raw.delete(&path, &json!({})).await;
    merge(&raw, "kubernetes", json!({})).await;
    running.server.bootstrap().await.unwrap();
    let again = raw.get(&path).await.body;
    assert_eq!(again["spec"]["clusterIP"], "10.96.0.1");
    // Nothing is written that needn't be.
    let version = again["metadata"]["resourceVersion"].clone();
    running.server.bootstrap().await.unwrap();
    assert_eq!(raw.get(&path).await.body["metadata"]["resourceVersion"], version);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_was_freed_by_hand_is_claimed_again() {
    let running = Running::start().await;
    let raw = running.raw();
    let stop = running.stop.clone();
    let looking = tokio::spawn(running.server.clone().look_after_services(stop.clone()));
    create(&raw, "web", json!({ "clusterIP": "10.96.0.9" })).await;
    let address = format!("{ADDRESSES}/10.96.0.9");
    let back = async {
        loop {
            if raw.get(&address).await.code == 200 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let uid = raw.get(&address).await.body["metadata"]["uid"].clone();
    assert_eq!(raw.delete(&address, &json!({})).await.code, 200);
    tokio::time::timeout(std::time::Duration::from_secs(30), back)
        .await
        .unwrap();
    assert_ne!(raw.get(&address).await.body["metadata"]["uid"], uid);
    // People may keep addresses for themselves.
    let kept = json!({ "metadata": { "name": "10.96.0.10" },
        "spec": { "parentRef": { "resource": "nodes", "name": "n" } } });
    assert_eq!(raw.post(ADDRESSES, &kept).await.code, 201);
    let message = refused(&raw, json!({ "clusterIP": "10.96.0.10" })).await;
    assert!(message.ends_with("provided IP is already allocated"), "{message}");
    stop.cancel();
    looking.await.unwrap();
}
