//! The rules of Services.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::{addresses, meta, names, numbers};
use crate::core::service_addresses::{changed, cluster_ips, is_headless};
use crate::core::service_change;
use crate::json::{at, int, list, text};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub(crate) fn rules(errors: &mut Errors, service: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &service["spec"];
    topology(errors, service);
    errors.one_of(&path.child("type"), text(spec, "/type"), &TYPES);
    ports(errors, spec, &path.child("ports"));
    meta::labels(errors, spec, "/selector", &path.child("selector"));
    affinity(errors, spec, &path);
    if text(spec, "/type") == "ExternalName" {
        external_name(errors, spec, &path);
    } else {
        cluster_ips(errors, spec, &path);
    }
    for (index, ip) in list(spec, "/externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        errors.invalid_all(
            &path.child("externalIPs").index(index),
            ip,
            addresses::endpoint(ip),
        );
    }
    load_balancer(errors, service, &path);
    policies(errors, spec, &path);
    status(errors, service);
    if let Some(old) = old {
        changed(errors, spec, &old["spec"], &path);
    }
}

fn ports(errors: &mut Errors, spec: &Value, path: &Field) {
    let ports = list(spec, "/ports");
    let kind = text(spec, "/type");
    if ports.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.required(path, "");
    }
    let (mut names, mut numbers, mut node_ports) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (index, entry) in ports.iter().enumerate() {
        let path = path.index(index);
        port_name(
            errors,
            text(entry, "/name"),
            ports.len() > 1,
            &mut names,
            &path.child("name"),
        );
        port(errors, entry, &path);
        let protocol = text(entry, "/protocol");
        let number = int(entry, "/port").unwrap_or_default();
        if !numbers.insert((protocol, number)) {
            errors.duplicate(&path, json!({"protocol": protocol, "port": number}));
        }
        let field = path.child("nodePort");
        match int(entry, "/nodePort").unwrap_or_default() {
            0 => {}
            _ if kind == "ClusterIP" => {
                errors.forbidden(&field, "may not be used when `type` is 'ClusterIP'");
            }
            port if !node_ports.insert((protocol, port)) => errors.duplicate(&field, port),
            port => numbers::port(errors, Some(port), &field),
        }
    }
}

fn port_name<'a>(
    errors: &mut Errors,
    name: &'a str,
    required: bool,
    seen: &mut HashSet<&'a str>,
    path: &Field,
) {
    match name {
        "" if required => errors.required(path, ""),
        "" => {}
        name => {
            errors.invalid_all(path, name, names::label(name));
            if !seen.insert(name) {
                errors.duplicate(path, name);
            }
        }
    }
}

fn port(errors: &mut Errors, port: &Value, path: &Field) {
    let number = int(port, "/port").unwrap_or_default();
    numbers::port(errors, Some(number), &path.child("port"));
    let protocol = text(port, "/protocol");
    errors.one_of(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
    numbers::port_or_name(errors, &port["targetPort"], &path.child("targetPort"));
    if let Some(protocol) = port.get("appProtocol").and_then(Value::as_str) {
        errors.invalid_all(&path.child("appProtocol"), protocol, names::qualified(protocol));
    }
}

fn affinity(errors: &mut Errors, spec: &Value, path: &Field) {
    const DAY: i64 = 86_400;
    errors.one_of(
        &path.child("sessionAffinity"),
        text(spec, "/sessionAffinity"),
        &["ClientIP", "None"],
    );
    let path = path
        .child("sessionAffinityConfig")
        .child("clientIP")
        .child("timeoutSeconds");
    if let Some(seconds) = int(spec, "/sessionAffinityConfig/clientIP/timeoutSeconds")
        && !(1..=DAY).contains(&seconds)
    {
        errors.invalid(
            &path,
            seconds,
            &format!("must be greater than 0 and less than {DAY}"),
        );
    }
}

fn external_name(errors: &mut Errors, spec: &Value, path: &Field) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if at(spec, &format!("/{field}")).is_some_and(|value| *value != json!([])) {
            errors.forbidden(&path.child(field), "may not be set for ExternalName services");
        }
    }
    let path = path.child("externalName");
    match text(spec, "/externalName") {
        "" => errors.required(&path, ""),
        name => {
            let name = name.strip_suffix('.').unwrap_or(name);
            errors.invalid_all(&path, name, names::subdomain(name));
        }
    }
}

fn load_balancer(errors: &mut Errors, service: &Value, path: &Field) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let spec = &service["spec"];
    let balanced = text(spec, "/type") == "LoadBalancer";
    let ranges = list(spec, "/loadBalancerSourceRanges");
    // Kubernetes' own spelling of this field's path.
    let field = path.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() && !balanced {
        errors.forbidden(&field, ONLY);
    }
    for (index, range) in ranges.iter().enumerate() {
        let range = range.as_str().unwrap_or_default().trim();
        errors.invalid_all(&field.index(index), range, addresses::cidr(range));
    }
    if let Some(text) = service["metadata"]["annotations"][ANNOTATION].as_str()
        && ranges.is_empty()
    {
        let field = Field::root()
            .child("metadata")
            .child("annotations")
            .key(ANNOTATION);
        if !balanced {
            errors.forbidden(&field, ONLY);
        }
        for range in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            errors.invalid_all(&field, range, addresses::cidr(range));
        }
    }
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if at(spec, &format!("/{field}")).is_some() && !balanced {
            errors.forbidden(&path.child(field), ONLY);
        }
    }
    if let Some(class) = spec.get("loadBalancerClass").and_then(Value::as_str)
        && balanced
    {
        errors.invalid_all(&path.child("loadBalancerClass"), class, names::qualified(class));
    }
}

/// An annotation under its old and its new name.
fn topology(errors: &mut Errors, service: &Value) {
    const OLD: &str = "service.kubernetes.io/topology-aware-hints";
    const NEW: &str = "service.kubernetes.io/topology-mode";
    let annotations = &service["metadata"]["annotations"];
    if let (Some(old), Some(new)) = (annotations[OLD].as_str(), annotations[NEW].as_str())
        && old != new
    {
        let field = Field::root().child("metadata").child("annotations").key(NEW);
        let detail = format!("must match annotations[{OLD}] when both are specified");
        errors.invalid(&field, new, &detail);
    }
}

fn policies(errors: &mut Errors, spec: &Value, path: &Field) {
    let field = path.child("externalTrafficPolicy");
    match text(spec, "/externalTrafficPolicy") {
        "" => {}
        policy if !service_change::is_external(spec) => {
            errors.invalid(
                &field,
                policy,
                "may only be set for externally-accessible services",
            );
        }
        policy => errors.one_of(&field, policy, &["Cluster", "Local"]),
    }
    if let Some(policy) = spec.get("internalTrafficPolicy").and_then(Value::as_str) {
        errors.one_of(
            &path.child("internalTrafficPolicy"),
            policy,
            &["Cluster", "Local"],
        );
    }
    if let Some(distribution) = spec.get("trafficDistribution").and_then(Value::as_str) {
        let supported = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        errors.one_of(&path.child("trafficDistribution"), distribution, &supported);
    }
    let field = path.child("healthCheckNodePort");
    match int(spec, "/healthCheckNodePort").unwrap_or_default() {
        0 => {}
        port if !service_change::has_health_port(spec) => errors.invalid(
            &field,
            port,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ),
        port => numbers::port(errors, Some(port), &field),
    }
}

fn status(errors: &mut Errors, service: &Value) {
    let ingress = list(service, "/status/loadBalancer/ingress");
    let path = Field::root()
        .child("status")
        .child("loadBalancer")
        .child("ingress");
    if !ingress.is_empty() && text(service, "/spec/type") != "LoadBalancer" {
        return errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    for (index, entry) in ingress.iter().enumerate() {
        let path = path.index(index);
        let (ip, mode) = (text(entry, "/ip"), text(entry, "/ipMode"));
        if !ip.is_empty() {
            errors.invalid_all(&path.child("ip"), ip, addresses::ip(ip));
        }
        match (ip, mode) {
            (_, "") => {}
            ("", _) => errors.forbidden(&path.child("ipMode"), "may not be specified when `ip` is not set"),
            _ => errors.one_of(&path.child("ipMode"), mode, &["Proxy", "VIP"]),
        }
        let name = text(entry, "/hostname");
        if !name.is_empty() {
            errors.invalid_all(&path.child("hostname"), name, names::subdomain(name));
            if name.parse::<IpAddr>().is_ok() {
                let detail = "must be a DNS name, not an IP address";
                errors.invalid(&path.child("hostname"), name, detail);
            }
        }
    }
}
