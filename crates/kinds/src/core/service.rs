//! Service.

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use crate::check::names;
use crate::columns::{self, column, or_none, wide};
use crate::core::{service_change, service_validation};
use crate::entry::Entry;
use crate::json::{int, list, list_mut, object_mut, set, set_default, set_default_text, text};
use crate::kind::Column;
use crate::labels;

pub(crate) const KIND: Entry = Entry {
    short_names: &["svc"],
    categories: &["all"],
    subresources: &["proxy"],
    status: true,
    default,
    // It becomes a host name.
    name: names::label,
    prepare: service_change::prepare,
    rules: service_validation::rules,
    columns: COLUMNS,
    row,
    fields: &[
        ("spec.clusterIP", |service| {
            text(service, "/spec/clusterIP").to_owned()
        }),
        ("spec.type", |service| text(service, "/spec/type").to_owned()),
    ],
    ..Entry::namespaced::<Service>("service")
};

/// How long a client stays with its endpoint under `sessionAffinity: ClientIP`: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

fn default(service: &mut Value) {
    set_default(service, "spec", json!({}));
    let spec = &mut service["spec"];
    set_default_text(spec, "sessionAffinity", "None");
    match text(spec, "/sessionAffinity") {
        "ClientIP" if int(spec, "/sessionAffinityConfig/clientIP/timeoutSeconds").is_none() => {
            set(
                spec,
                "sessionAffinityConfig",
                json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}),
            );
        }
        "None" => {
            object_mut(spec, "").and_then(|spec| spec.remove("sessionAffinityConfig"));
        }
        _ => {}
    }
    set_default_text(spec, "type", "ClusterIP");
    cluster_ips(spec);
    list_mut(spec, "/ports").for_each(default_port);
    let kind = text(spec, "/type").to_owned();
    if service_change::is_external(spec) {
        set_default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        set_default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set_default(spec, "allocateLoadBalancerNodePorts", true);
        for ingress in list_mut(service, "/status/loadBalancer/ingress") {
            if !text(ingress, "/ip").is_empty() {
                set_default(ingress, "ipMode", "VIP");
            }
        }
    }
    set_default(service, "status", json!({}));
    set_default(&mut service["status"], "loadBalancer", json!({}));
}

/// `clusterIP` is the first of `clusterIPs`: who sets one has set both.
fn cluster_ips(spec: &mut Value) {
    let first = text(spec, "/clusterIP").to_owned();
    let listed = text(spec, "/clusterIPs/0").to_owned();
    match (first.as_str(), listed.as_str()) {
        ("", "") => {}
        ("", _) => set(spec, "clusterIP", listed),
        (_, "") => set(spec, "clusterIPs", json!([first])),
        _ => {}
    }
}

fn default_port(port: &mut Value) {
    set_default_text(port, "protocol", "TCP");
    let number = int(port, "/port").unwrap_or_default();
    match port.get("targetPort") {
        None => set(port, "targetPort", number),
        Some(target) if *target == json!(0) || *target == json!("") => set(port, "targetPort", number),
        Some(_) => {}
    }
}

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Type", "string", "How the Service is exposed."),
    column(
        "Cluster-IP",
        "string",
        "The Service's address inside the cluster.",
    ),
    column(
        "External-IP",
        "string",
        "The Service's addresses for the outside.",
    ),
    column("Port(s)", "string", "The ports that the Service exposes."),
    columns::AGE,
    wide(
        "Selector",
        "string",
        "The labels of the pods that traffic is routed to.",
    ),
];

fn row(service: &Value, now: i64) -> Vec<Value> {
    let ports: Vec<_> = list(service, "/spec/ports").iter().map(port_text).collect();
    vec![
        columns::name(service),
        text(service, "/spec/type").into(),
        or_none(text(service, "/spec/clusterIPs/0")),
        external_addresses(service).into(),
        or_none(&ports.join(",")),
        columns::age(service, now),
        labels::format_map(service, "/spec/selector").into(),
    ]
}

fn port_text(port: &Value) -> String {
    let number = int(port, "/port").unwrap_or_default();
    let protocol = text(port, "/protocol");
    match int(port, "/nodePort") {
        Some(node_port) if node_port > 0 => format!("{number}:{node_port}/{protocol}"),
        _ => format!("{number}/{protocol}"),
    }
}

fn external_addresses(service: &Value) -> String {
    let kind = text(service, "/spec/type");
    if kind == "ExternalName" {
        return text(service, "/spec/externalName").to_owned();
    }
    let balanced = kind == "LoadBalancer";
    let given = balanced
        .then(|| columns::load_balancer(service))
        .filter(|text| !text.is_empty());
    let external = list(service, "/spec/externalIPs").iter();
    let external = external.filter_map(Value::as_str).map(str::to_owned);
    let addresses: Vec<_> = given.into_iter().chain(external).collect();
    match (addresses.is_empty(), balanced) {
        (false, _) => addresses.join(","),
        (true, true) => "<pending>".to_owned(),
        (true, false) => "<none>".to_owned(),
    }
}
