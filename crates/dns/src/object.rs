//! The API's objects as records and search lists. What can't be read is left out: the API server
//! has checked what people wrote, and one odd object must not take the names of others with it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service as ApiService};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::record::{Endpoint, Key, Kind, Node, Port, Service, Slice};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name.
pub fn key(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Key {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    (text(&meta.namespace), text(&meta.name))
}

/// A Service; none that has no address yet.
pub fn service(object: &ApiService) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    let external = spec.type_.as_deref() == Some("ExternalName");
    let many = spec.cluster_ips.as_deref().unwrap_or_default();
    let one = spec.cluster_ip.as_ref().filter(|_| many.is_empty());
    let ips: Vec<&str> = many.iter().chain(one).map(String::as_str).collect();
    let kind = if external {
        Kind::External(spec.external_name.clone().unwrap_or_default())
    } else if ips.contains(&"None") {
        Kind::Headless {
            unready: spec.publish_not_ready_addresses.unwrap_or(false),
        }
    } else {
        let addresses: Vec<IpAddr> = ips.iter().filter_map(|text| text.parse().ok()).collect();
        if addresses.is_empty() {
            return None;
        }
        Kind::Cluster(addresses)
    };
    let ports = spec.ports.iter().flatten();
    let ports = ports.filter_map(|found| port(found.name.as_deref(), found.protocol.as_deref(), found.port));
    Some(Service {
        kind,
        ports: ports.collect(),
    })
}

/// A slice; none that belongs to no Service, or has names in place of addresses.
pub fn slice(object: &EndpointSlice) -> Option<Slice> {
    let labels = object.metadata.labels.as_ref()?;
    let service = labels.get(SERVICE_NAME).filter(|name| !name.is_empty())?;
    let endpoints = object.endpoints.iter().flatten().flat_map(|found| {
        let ready = found.conditions.as_ref().and_then(|conditions| conditions.ready);
        let addresses = found.addresses.iter().filter_map(|text| text.parse().ok());
        addresses.map(move |address| Endpoint {
            address,
            hostname: found
                .hostname
                .as_deref()
                .filter(|name| !name.is_empty())
                .map(Box::from),
            node: found.node_name.as_deref().map(Box::from),
            ready: ready.unwrap_or(true),
        })
    });
    let ports = object.ports.iter().flatten();
    let ports = ports.filter_map(|found| port(found.name.as_deref(), found.protocol.as_deref(), found.port?));
    Some(Slice {
        service: service.clone(),
        endpoints: endpoints.collect(),
        ports: ports.collect(),
    })
}

fn port(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<Port> {
    Some(Port {
        name: name.unwrap_or_default().to_ascii_lowercase(),
        protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
        number: u16::try_from(number).ok()?,
    })
}

/// A node.
pub fn node(object: &k8s_openapi::api::core::v1::Node) -> Node {
    let (node, _) = kube_objects::node(object);
    Node {
        addresses: node.addresses,
        pod_cidrs: node.pod_cidrs,
    }
}

/// A pod's addresses and the domains that its resolver completes names with; none of a pod whose
/// address is its node's, or that asks others.
pub fn searches(pod: &Pod, domain: &str, of_node: &[String]) -> Option<(Vec<IpAddr>, Vec<String>)> {
    let spec = pod.spec.as_ref()?;
    if spec.host_network == Some(true) {
        return None;
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut list = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" | "ClusterFirstWithHostNet" => {
            let own = [
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.to_owned(),
            ];
            own.into_iter().chain(of_node.iter().cloned()).collect()
        }
        "None" => Vec::new(),
        _ => return None,
    };
    let own = spec
        .dns_config
        .as_ref()
        .and_then(|config| config.searches.as_ref());
    for search in own.into_iter().flatten() {
        if !list.contains(search) {
            list.push(search.clone());
        }
    }
    let status = pod.status.as_ref()?;
    let phase = status.phase.as_deref();
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let addresses = status
        .pod_ips
        .iter()
        .flatten()
        .filter_map(|ip| ip.ip.parse().ok());
    let addresses: Vec<IpAddr> = addresses.collect();
    (!addresses.is_empty() && !list.is_empty()).then_some((addresses, list))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value) -> Option<Service> {
        service(&serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).expect("a Service"))
    }

    #[test]
    fn services_of_every_type() {
        let ports = json!([{"name": "Web", "port": 80}, {"port": 53, "protocol": "UDP"}]);
        let cluster =
            read(json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"], "ports": ports}));
        let cluster = cluster.expect("it has addresses");
        assert_eq!(
            cluster.kind,
            Kind::Cluster(vec![
                "10.96.0.5".parse().expect("one"),
                "fd00::5".parse().expect("one")
            ])
        );
        let ports: Vec<String> = cluster
            .ports
            .iter()
            .map(|port| format!("{}/{}/{}", port.name, port.protocol, port.number))
            .collect();
        assert_eq!(ports, ["web/tcp/80", "/udp/53"]);
        let headless =
            read(json!({"clusterIP": "None", "publishNotReadyAddresses": true})).expect("it is there");
        assert_eq!(headless.kind, Kind::Headless { unready: true });
        let external =
            read(json!({"type": "ExternalName", "externalName": "example.com"})).expect("it is there");
        assert_eq!(external.kind, Kind::External("example.com".to_owned()));
        assert_eq!(read(json!({"type": "ClusterIP"})), None, "no address yet");
    }

    #[test]
    fn slices_without_a_service_or_addresses_say_nothing() {
        let read = |value: Value| slice(&serde_json::from_value(value).expect("a slice"));
        let endpoints = json!([{"addresses": ["10.0.0.1"], "conditions": {}, "hostname": "a"},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}]);
        let object = json!({"metadata": {"labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "a", "port": 80}, {"name": "all"}]});
        let found = read(object).expect("a slice of a Service");
        assert_eq!(found.ports.len(), 1);
        let ready: Vec<bool> = found.endpoints.iter().map(|endpoint| endpoint.ready).collect();
        assert_eq!(ready, [true, false]);
        assert_eq!(
            read(json!({"metadata": {}, "addressType": "IPv4", "endpoints": []})),
            None
        );
    }

    #[rstest]
    #[case::usual(json!({}), Some(&["a.svc.c.l", "svc.c.l", "c.l", "corp.example"][..]))]
    #[case::own(json!({"dnsConfig": {"searches": ["x.y", "c.l"]}}), Some(&["a.svc.c.l", "svc.c.l", "c.l", "corp.example", "x.y"][..]))]
    #[case::alone(json!({"dnsPolicy": "None", "dnsConfig": {"searches": ["x.y"]}}), Some(&["x.y"][..]))]
    #[case::nothing(json!({"dnsPolicy": "None"}), None)]
    #[case::nodes(json!({"dnsPolicy": "Default"}), None)]
    #[case::on_the_node(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), None)]
    fn a_pods_search_list_is_what_its_resolver_has(
        #[case] mut spec: Value,
        #[case] expected: Option<&[&str]>,
    ) {
        spec["containers"] = json!([]);
        let pod =
            json!({"metadata": {"namespace": "a"}, "spec": spec, "status": {"podIPs": [{"ip": "10.0.0.1"}]}});
        let pod = serde_json::from_value(pod).expect("a pod");
        let found = searches(&pod, "c.l", &["corp.example".to_owned()]).map(|(_, list)| list);
        assert_eq!(
            found.as_deref(),
            expected
                .map(|list| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
                .as_deref()
        );
    }
}
