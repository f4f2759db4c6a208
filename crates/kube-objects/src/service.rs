//! `v1.Service` and `discovery.k8s.io/v1.EndpointSlice`.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use model::{Hints, Protocol, ServiceName, Slice, SlicePort, TrafficPolicy};

/// The annotation of a Service that says how an endpoint is picked.
pub const STRATEGY: &str = "ripstop.dev/load-balancing";
/// What selects Services and EndpointSlices that are for nobody else, and have addresses.
pub const SELECTOR: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// As long as a client stays by default, and at most.
const AFFINITY_DEFAULT: i32 = 10_800;
const AFFINITY_MOST: i32 = 86_400;

/// A part of a Service or its endpoints that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceProblem {
    /// An address isn't one.
    #[error("{0} {1:?} isn't an IP address, and is left out")]
    Address(&'static str, String),
    /// A range of addresses isn't one.
    #[error("{1:?} in {0} isn't a range of addresses like 192.0.2.0/24, and nobody is let in by it")]
    Range(&'static str, String),
    /// A port isn't one.
    #[error("{0} {1} isn't a port, and is left out")]
    Port(&'static str, i32),
    /// A protocol isn't one that has ports.
    #[error("protocol {0:?} isn't TCP, UDP or SCTP, and its port is left out")]
    Protocol(String),
    /// The annotation says nothing that is known.
    #[error("annotation {STRATEGY}: {0}; it is random")]
    Strategy(#[from] model::ParseStrategyError),
}

/// Names that many objects repeat, kept once.
#[derive(Debug, Default)]
pub struct Names(HashSet<Arc<str>>);

impl Names {
    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(held) = self.0.get(name) {
            return held.clone();
        }
        let name: Arc<str> = name.into();
        self.0.insert(name.clone());
        name
    }
}

/// The name of an object's Service: its own, if it's one.
pub fn service_name(object: &Service) -> ServiceName {
    let meta = &object.metadata;
    ServiceName::new(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

/// A Service as the network sees it, without endpoints, and what of it couldn't be used; none if
/// nothing is translated for it: it has no address, or it is somebody else's to serve.
pub fn service(object: &Service) -> Option<(model::Service, Vec<ServiceProblem>)> {
    let labels = object.metadata.labels.as_ref();
    let spec = object.spec.as_ref()?;
    let elsewhere = labels.is_some_and(|labels| labels.contains_key(PROXY_NAME));
    if elsewhere || spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let mut problems = Vec::new();
    let cluster_ips = addresses("spec.clusterIPs", cluster_ips(spec), &mut problems);
    if cluster_ips.is_empty() {
        return None;
    }
    let is_balanced = spec.type_.as_deref() == Some("LoadBalancer");
    let ingress = object
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_deref())
        .filter(|_| is_balanced)
        .unwrap_or_default();
    // What a proxy brings comes to node ports, from the proxy.
    let brought = ingress
        .iter()
        .filter(|one| one.ip_mode.as_deref() != Some("Proxy"));
    let brought = brought.filter_map(|one| one.ip.as_deref());
    let service = model::Service {
        cluster_ips,
        load_balancer_ips: addresses("status.loadBalancer.ingress", brought, &mut problems),
        external_ips: addresses(
            "spec.externalIPs",
            spec.external_ips.iter().flatten().map(String::as_str),
            &mut problems,
        ),
        source_ranges: source_ranges(spec, &mut problems).filter(|_| is_balanced),
        ports: ports(spec, &mut problems),
        internal_policy: policy(spec.internal_traffic_policy.as_deref()),
        external_policy: policy(spec.external_traffic_policy.as_deref()),
        affinity: affinity(spec),
        strategy: strategy(object, &mut problems),
        slices: BTreeMap::new(),
    };
    Some((service, problems))
}

fn cluster_ips(spec: &ServiceSpec) -> impl Iterator<Item = &str> {
    let many = spec.cluster_ips.as_deref().unwrap_or_default();
    let one = spec.cluster_ip.as_deref().filter(|_| many.is_empty());
    let all = many.iter().map(String::as_str).chain(one);
    all.filter(|text| !text.is_empty() && *text != "None")
}

fn addresses<'a>(
    field: &'static str,
    texts: impl Iterator<Item = &'a str>,
    problems: &mut Vec<ServiceProblem>,
) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in texts {
        match text.parse::<IpAddr>() {
            // An unspecified one would stand for all of the node's own.
            Ok(address) if !address.is_unspecified() => {
                let address = address.to_canonical();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            _ => problems.push(ServiceProblem::Address(field, text.to_owned())),
        }
    }
    addresses
}

fn source_ranges(spec: &ServiceSpec, problems: &mut Vec<ServiceProblem>) -> Option<Vec<IpNet>> {
    let texts = spec
        .load_balancer_source_ranges
        .as_ref()
        .filter(|texts| !texts.is_empty())?;
    let mut ranges = Vec::new();
    for text in texts {
        // Spaces are allowed, as they were always.
        match text.trim().parse::<IpNet>() {
            Ok(range) => ranges.push(range.trunc()),
            Err(_) => problems.push(ServiceProblem::Range(
                "spec.loadBalancerSourceRanges",
                text.clone(),
            )),
        }
    }
    Some(ranges)
}

fn ports(spec: &ServiceSpec, problems: &mut Vec<ServiceProblem>) -> Vec<model::ServicePort> {
    let on_nodes = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    let mut ports = Vec::new();
    for port in spec.ports.iter().flatten() {
        let ServicePort {
            name,
            protocol: text,
            node_port,
            ..
        } = port;
        let (Some(protocol), Some(number)) = (
            protocol(text.as_deref(), problems),
            number("spec.ports: port", port.port, problems),
        ) else {
            continue;
        };
        let node_port = node_port.filter(|port| on_nodes && *port != 0);
        ports.push(model::ServicePort {
            name: name.clone().unwrap_or_default(),
            protocol,
            port: number,
            node_port: node_port.and_then(|port| self::number("spec.ports: nodePort", port, problems)),
        });
    }
    ports
}

fn protocol(text: Option<&str>, problems: &mut Vec<ServiceProblem>) -> Option<Protocol> {
    match text {
        None | Some("TCP" | "") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(other) => {
            problems.push(ServiceProblem::Protocol(other.to_owned()));
            None
        }
    }
}

fn number(field: &'static str, port: i32, problems: &mut Vec<ServiceProblem>) -> Option<u16> {
    let number = u16::try_from(port).ok().filter(|port| *port != 0);
    if number.is_none() {
        problems.push(ServiceProblem::Port(field, port));
    }
    number
}

fn policy(text: Option<&str>) -> TrafficPolicy {
    match text {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    }
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    spec.session_affinity
        .as_deref()
        .filter(|text| *text == "ClientIP")?;
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let seconds = seconds.unwrap_or(AFFINITY_DEFAULT).clamp(1, AFFINITY_MOST);
    Some(seconds.unsigned_abs())
}

fn strategy(object: &Service, problems: &mut Vec<ServiceProblem>) -> model::Strategy {
    let annotations = object.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|annotations| annotations.get(STRATEGY)) else {
        return model::Strategy::default();
    };
    text.parse().unwrap_or_else(|problem| {
        problems.push(ServiceProblem::Strategy(problem));
        model::Strategy::default()
    })
}

/// The Service that an EndpointSlice is of; none if it's of none.
pub fn slice_owner(object: &EndpointSlice) -> Option<ServiceName> {
    let meta = &object.metadata;
    let name = meta
        .labels
        .as_ref()?
        .get(SERVICE_NAME)
        .filter(|name| !name.is_empty())?;
    Some(ServiceName::new(
        meta.namespace.as_deref().unwrap_or_default(),
        name.as_str(),
    ))
}

/// The endpoints of an EndpointSlice, and what of it couldn't be used. Ones that aren't addresses but
/// names have none.
pub fn slice(object: &EndpointSlice, names: &mut Names) -> (Slice, Vec<ServiceProblem>) {
    let mut problems = Vec::new();
    let v4 = match object.address_type.as_str() {
        "IPv4" => true,
        "IPv6" => false,
        _ => return (Slice::default(), problems),
    };
    let ports = object.ports.iter().flatten();
    let ports = ports.filter_map(|port| slice_port(port, &mut problems)).collect();
    let mut endpoints = Vec::new();
    for one in object.endpoints.iter().flatten() {
        // The others are the same endpoint by other names.
        let Some(text) = one.addresses.first() else {
            continue;
        };
        match text.parse::<IpAddr>() {
            Ok(address) if address.is_ipv4() == v4 && !address.is_unspecified() => {
                endpoints.push(endpoint(one, address, names));
            }
            _ => problems.push(ServiceProblem::Address("endpoints: address", text.clone())),
        }
    }
    endpoints.shrink_to_fit();
    (Slice { ports, endpoints }, problems)
}

fn slice_port(port: &EndpointPort, problems: &mut Vec<ServiceProblem>) -> Option<SlicePort> {
    Some(SlicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(port.protocol.as_deref(), problems)?,
        // Without a number it's for whoever reads more out of it.
        port: number("endpoints: port", port.port?, problems)?,
    })
}

fn endpoint(object: &Endpoint, address: IpAddr, names: &mut Names) -> model::Endpoint {
    let conditions = object.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let serving = conditions
        .and_then(|conditions| conditions.serving)
        .unwrap_or(ready);
    let hints = object.hints.as_ref();
    let zones = hints
        .and_then(|hints| hints.for_zones.as_deref())
        .unwrap_or_default();
    let nodes = hints
        .and_then(|hints| hints.for_nodes.as_deref())
        .unwrap_or_default();
    model::Endpoint {
        address,
        ready,
        serving,
        terminating: conditions
            .and_then(|conditions| conditions.terminating)
            .unwrap_or(false),
        hints: Hints {
            zones: zones.iter().map(|zone| names.get(&zone.name)).collect(),
            nodes: nodes.iter().map(|node| names.get(&node.name)).collect(),
        },
        node: object
            .node_name
            .as_deref()
            .filter(|name| !name.is_empty())
            .map(|name| names.get(name)),
    }
}

#[cfg(test)]
mod tests {
    use model::Strategy;
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: &Value) -> Option<(model::Service, Vec<ServiceProblem>)> {
        let status = json!({"loadBalancer": {"ingress": [
            {"ip": "172.30.0.200"}, {"ip": "172.30.0.201", "ipMode": "Proxy"}, {"hostname": "lb"},
        ]}});
        let object =
            json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec, "status": status});
        service(&serde_json::from_value(object).expect("a Service"))
    }

    fn texts(addresses: &[IpAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_load_balanced_service_is_read_whole() {
        let (service, problems) = read(&json!({
            "type": "LoadBalancer", "clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20", "fd00:10:96::20"],
            "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "loadBalancerSourceRanges": ["192.0.2.7/24", " 198.51.100.0/25 "],
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        }))
        .expect("it has addresses");
        assert_eq!(problems, []);
        assert_eq!(texts(&service.cluster_ips), ["10.96.0.20", "fd00:10:96::20"]);
        assert_eq!(texts(&service.load_balancer_ips), ["172.30.0.200"]);
        let ranges = service.source_ranges.expect("there are some");
        assert_eq!(ranges[0].to_string(), "192.0.2.0/24");
        assert_eq!(ranges[1].to_string(), "198.51.100.0/25");
        assert_eq!(
            (service.affinity, service.external_policy),
            (Some(60), TrafficPolicy::Local)
        );
        assert_eq!(service.ports[0].node_port, Some(30080));
        assert_eq!(service.ports[1].protocol, Protocol::Udp);
    }

    #[test]
    fn what_has_no_address_or_is_served_by_others_is_none() {
        assert_eq!(read(&json!({"clusterIP": "None", "clusterIPs": ["None"]})), None);
        assert_eq!(
            read(&json!({"type": "ExternalName", "externalName": "example.com"})),
            None
        );
        let object = json!({"metadata": {"name": "web", "labels": {(PROXY_NAME): "other"}}, "spec": {"clusterIP": "10.96.0.20"}});
        assert_eq!(service(&serde_json::from_value(object).expect("a Service")), None);
    }

    #[test]
    fn a_cluster_ip_has_no_node_ports_and_no_load_balancer() {
        let (service, _) = read(&json!({"type": "ClusterIP", "clusterIP": "10.96.0.20", "ports": [{"port": 80, "nodePort": 30080}]}))
            .expect("it has an address");
        assert_eq!(service.ports[0].node_port, None);
        assert_eq!(service.load_balancer_ips, Vec::<IpAddr>::new());
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_counts() {
        let object = json!({
            "metadata": {"name": "web", "annotations": {(STRATEGY): "fastest"}},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.20", "externalIPs": ["0.0.0.0", "x"],
                     "loadBalancerSourceRanges": ["everybody"],
                     "ports": [{"port": 70000}, {"port": 80, "protocol": "ICMP"}, {"port": 81}]},
        });
        let (service, problems) =
            service(&serde_json::from_value(object).expect("a Service")).expect("it has an address");
        assert_eq!(problems.len(), 6, "{problems:?}");
        assert_eq!(
            service.source_ranges,
            Some(Vec::new()),
            "nobody is let in by mistake"
        );
        assert_eq!((service.ports.len(), service.strategy), (1, Strategy::Random));
    }

    #[test]
    fn conditions_that_are_not_there_have_their_defaults() {
        let object = json!({
            "metadata": {"name": "web-1", "namespace": "default", "labels": {(SERVICE_NAME): "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080}, {"name": "all"}],
            "endpoints": [
                {"addresses": ["10.244.1.5"]},
                {"addresses": ["10.244.1.6"], "conditions": {"ready": false, "serving": true, "terminating": true},
                 "nodeName": "a", "hints": {"forZones": [{"name": "west"}], "forNodes": [{"name": "a"}]}},
                {"addresses": ["fd00::1"]},
            ],
        });
        let object = serde_json::from_value(object).expect("an EndpointSlice");
        assert_eq!(slice_owner(&object), Some(ServiceName::new("default", "web")));
        let mut names = Names::default();
        let (slice, problems) = slice(&object, &mut names);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(slice.ports.len(), 1);
        let [first, second] = slice.endpoints.as_slice() else {
            panic!("{slice:?}");
        };
        assert!(first.ready && first.serving && !first.terminating && first.node.is_none());
        assert!(!second.ready && second.serving && second.terminating);
        assert!(Arc::ptr_eq(
            second.node.as_ref().expect("a node"),
            &second.hints.nodes[0]
        ));
    }

    #[test]
    fn names_that_are_no_addresses_are_nobodys_endpoints() {
        let object =
            json!({"metadata": {}, "addressType": "FQDN", "endpoints": [{"addresses": ["example.com"]}]});
        let object = serde_json::from_value(object).expect("an EndpointSlice");
        assert_eq!(
            slice(&object, &mut Names::default()),
            (Slice::default(), Vec::new())
        );
    }
}
