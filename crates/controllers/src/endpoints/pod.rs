//! A pod as an endpoint of a Service.

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods;

/// Whether the pod can be anybody's endpoint: it has addresses and hasn't ended.
pub(super) fn counts(pod: &Pod) -> bool {
    !pods::has_ended(pod) && addresses(pod).next().is_some()
}

/// The pod's addresses.
fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let all = status.into_iter().flat_map(|status| {
        let more = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
        let one = status.pod_ip.as_deref().filter(|_| status.pod_ips.is_none());
        more.chain(one)
    });
    all.filter(|ip| !ip.is_empty())
}

/// The pod's address of a family.
pub(super) fn address<'a>(pod: &'a Pod, family: &str) -> Option<&'a str> {
    addresses(pod).find(|ip| ip.contains(':') == (family == "IPv6"))
}

/// Whether traffic is to go to the pod.
pub(super) fn is_ready(service: &Service, pod: &Pod) -> bool {
    publishes_unready(service) || pods::is_ready(pod) && !pods::is_leaving(pod)
}

pub(super) fn publishes_unready(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or_default()
}

/// The endpoint at an address; hints come later.
pub(super) fn endpoint(service: &Service, pod: &Pod, address: &str, zone: Option<String>) -> Endpoint {
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(is_ready(service, pod)),
            serving: Some(pods::is_ready(pod)),
            terminating: Some(pods::is_leaving(pod)),
        }),
        hostname: hostname(service, pod),
        node_name: pods::node_name(pod).map(str::to_owned),
        target_ref: Some(reference(pod)),
        zone,
        ..Endpoint::default()
    }
}

/// The name by which DNS knows the pod below the Service's.
pub(super) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let of_service = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    let hostname = spec.hostname.clone().filter(|name| !name.is_empty());
    hostname.filter(|_| of_service)
}

pub(super) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The Service's ports as this pod serves them; those that it doesn't know are left out.
pub(super) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref());
    let ports = ports.unwrap_or_default().iter();
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                app_protocol: port.app_protocol.clone(),
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number(port, pod)?),
                protocol: Some(protocol(port.protocol.as_deref()).to_owned()),
            })
        })
        .collect()
}

fn protocol(protocol: Option<&str>) -> &str {
    protocol.unwrap_or("TCP")
}

/// A port by number, or by a container's name for it.
fn number(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        Some(IntOrString::Int(number)) if *number != 0 => return Some(*number),
        Some(IntOrString::String(name)) if !name.is_empty() => name,
        _ => return Some(port.port),
    };
    let spec = pod.spec.as_ref()?;
    let lasting = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(lasting);
    let mut ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    let wanted = protocol(port.protocol.as_deref());
    let found = ports
        .find(|port| port.name.as_ref() == Some(name) && protocol(port.protocol.as_deref()) == wanted)?;
    Some(found.container_port)
}

/// Whether anything about the pod changed that its endpoints tell.
pub(super) fn differs(old: &Pod, new: &Pod) -> bool {
    let told = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        let addresses: Vec<_> = addresses(pod).map(str::to_owned).collect();
        let names = spec.map(|spec| (spec.hostname.clone(), spec.subdomain.clone()));
        (
            (pods::has_ended(pod), pods::is_ready(pod), pods::is_leaving(pod)),
            addresses,
            pods::node_name(pod).map(str::to_owned),
            names,
        )
    };
    told(old) != told(new)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(ports: serde_json::Value) -> Service {
        serde_json::from_value(json!({ "metadata": { "name": "web" }, "spec": { "ports": ports } })).unwrap()
    }

    fn pod(spec: serde_json::Value, status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec, "status": status }))
            .unwrap()
    }

    #[test]
    fn named_ports_are_each_pods_own() {
        let service = service(json!([
            { "port": 80, "targetPort": "http", "name": "a" }, { "port": 53, "protocol": "UDP", "targetPort": "dns", "name": "b" },
            { "port": 9, "targetPort": 90, "name": "c" }, { "port": 7, "name": "d" }, { "port": 1, "targetPort": "no", "name": "e" },
        ]));
        let pod = pod(
            json!({
                "containers": [{ "name": "c", "ports": [{ "name": "http", "containerPort": 8080 }, { "name": "dns", "containerPort": 1 }] }],
                "initContainers": [
                    { "name": "i", "ports": [{ "name": "no", "containerPort": 5 }] },
                    { "name": "s", "restartPolicy": "Always", "ports": [{ "name": "dns", "protocol": "UDP", "containerPort": 5353 }] },
                ],
            }),
            json!({}),
        );
        let found: Vec<_> = ports(&service, &pod)
            .into_iter()
            .map(|port| (port.name.unwrap(), port.port.unwrap()))
            .collect();
        let expected = [("a", 8080), ("b", 5353), ("c", 90), ("d", 7)];
        assert_eq!(found, expected.map(|(name, port)| (name.to_owned(), port)));
    }

    #[test]
    fn a_pod_that_ends_serves_on_and_is_not_ready() {
        let status = json!({ "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }],
            "conditions": [{ "type": "Ready", "status": "True" }] });
        let mut pod = pod(
            json!({ "containers": [], "hostname": "p-0", "subdomain": "web" }),
            status,
        );
        let mut service = service(json!([]));
        let conditions = |service: &Service, pod: &Pod| {
            let conditions = endpoint(service, pod, "x", None).conditions.unwrap();
            [conditions.ready, conditions.serving, conditions.terminating].map(Option::unwrap)
        };
        assert_eq!(conditions(&service, &pod), [true, true, false]);
        assert_eq!(address(&pod, "IPv6"), Some("fd00::1"));
        assert_eq!(hostname(&service, &pod).as_deref(), Some("p-0"));
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        pod.metadata.deletion_timestamp = Some(time);
        assert_eq!(conditions(&service, &pod), [false, true, true]);
        service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
        assert_eq!(conditions(&service, &pod), [true, true, true]);
        assert!(counts(&pod));
        pod.status.as_mut().unwrap().phase = Some("Failed".to_owned());
        assert!(!counts(&pod));
    }
}
