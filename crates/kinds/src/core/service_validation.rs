//! The rules of Services.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::{addresses, meta, names, numbers};
use crate::json::{at, int, list, text};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub(crate) fn rules(errors: &mut Errors, service: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &service["spec"];
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
    load_balancer(errors, spec, &path);
    policies(errors, spec, &path);
    if let Some(old) = old {
        cluster_ip_change(errors, spec, &old["spec"], &path);
    }
}

fn is_headless(spec: &Value) -> bool {
    text(spec, "/clusterIPs/0") == "None" || text(spec, "/clusterIP") == "None"
}

fn ports(errors: &mut Errors, spec: &Value, path: &Field) {
    let ports = list(spec, "/ports");
    let kind = text(spec, "/type");
    if ports.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.required(path, "");
    }
    for (index, entry) in ports.iter().enumerate() {
        let path = path.index(index);
        let earlier = &ports[..index];
        port(errors, entry, earlier, ports.len() > 1, &path);
        let protocol = text(entry, "/protocol");
        let same = |field: &str| {
            let number = int(entry, field);
            earlier
                .iter()
                .any(|other| int(other, field) == number && text(other, "/protocol") == protocol)
        };
        if same("/port") {
            errors.duplicate(&path, json!({"protocol": protocol, "port": int(entry, "/port")}));
        }
        match int(entry, "/nodePort").unwrap_or_default() {
            0 => {}
            _ if kind == "ClusterIP" => {
                errors.forbidden(
                    &path.child("nodePort"),
                    "may not be used when `type` is 'ClusterIP'",
                );
            }
            node_port if same("/nodePort") => errors.duplicate(&path.child("nodePort"), node_port),
            node_port => errors.in_range(&path.child("nodePort"), Some(node_port), 1, 65_535),
        }
    }
}

fn port(errors: &mut Errors, port: &Value, earlier: &[Value], require_name: bool, path: &Field) {
    match text(port, "/name") {
        "" if require_name => errors.required(&path.child("name"), ""),
        "" => {}
        name => {
            errors.invalid_all(&path.child("name"), name, names::label(name));
            if earlier.iter().any(|other| text(other, "/name") == name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
    }
    errors.in_range(
        &path.child("port"),
        Some(int(port, "/port").unwrap_or_default()),
        1,
        65_535,
    );
    errors.one_of(
        &path.child("protocol"),
        text(port, "/protocol"),
        &["SCTP", "TCP", "UDP"],
    );
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

fn cluster_ips(errors: &mut Errors, spec: &Value, path: &Field) {
    let ips: Vec<&str> = list(spec, "/clusterIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let field = path.child("clusterIPs");
    let (first, all) = (text(spec, "/clusterIP"), Value::from(ips.clone()));
    match (first, ips.first()) {
        ("", Some(_)) => errors.invalid(
            &field,
            all.clone(),
            "must be empty when `clusterIP` is not specified",
        ),
        (first, Some(ip)) if first != *ip => {
            errors.invalid(&field, all.clone(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    families(errors, spec, path);
    let kind = text(spec, "/type");
    if is_headless(spec) {
        if ips.len() > 1 {
            errors.invalid(&field, all, "'None' must be the first and only value");
        } else if matches!(kind, "NodePort" | "LoadBalancer") {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&field.index(0), "None", &detail);
        }
        return;
    }
    let before = errors.len();
    for (index, ip) in ips.iter().enumerate() {
        errors.invalid_all(&field.index(index), ip, addresses::ip(ip));
    }
    if errors.len() > before {
        return;
    }
    let parsed: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    if parsed.len() > 2 {
        errors.invalid(&field, all, "may only hold up to 2 values");
    } else if parsed.len() == 2 && parsed[0].is_ipv4() == parsed[1].is_ipv4() {
        errors.invalid(&field, all, "may specify no more than one IP for each IP family");
    }
    for (index, (ip, family)) in parsed.iter().zip(list(spec, "/ipFamilies")).enumerate() {
        let expected = family.as_str().unwrap_or_default();
        if expected != if ip.is_ipv4() { "IPv4" } else { "IPv6" } {
            let detail = format!("expected an {expected} value as indicated by `ipFamilies[{index}]`");
            errors.invalid(&field.index(index), ip.to_string(), &detail);
        }
    }
}

fn families(errors: &mut Errors, spec: &Value, path: &Field) {
    let families = list(spec, "/ipFamilies");
    for (index, family) in families.iter().enumerate() {
        let field = path.child("ipFamilies").index(index);
        errors.one_of(&field, family.as_str().unwrap_or_default(), &["IPv4", "IPv6"]);
        if families[..index].contains(family) {
            errors.duplicate(&field, family.clone());
        }
    }
    if let Some(policy) = spec.get("ipFamilyPolicy").and_then(Value::as_str) {
        let supported = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.one_of(&path.child("ipFamilyPolicy"), policy, &supported);
    }
}

fn load_balancer(errors: &mut Errors, spec: &Value, path: &Field) {
    let balanced = text(spec, "/type") == "LoadBalancer";
    for (index, range) in list(spec, "/loadBalancerSourceRanges").iter().enumerate() {
        let range = range.as_str().unwrap_or_default().trim();
        let field = path.child("loadBalancerSourceRanges").index(index);
        errors.invalid_all(&field, range, addresses::cidr(range));
    }
    for field in [
        "loadBalancerSourceRanges",
        "allocateLoadBalancerNodePorts",
        "loadBalancerClass",
    ] {
        let set = at(spec, &format!("/{field}")).is_some_and(|value| *value != json!([]));
        if set && !balanced {
            errors.forbidden(
                &path.child(field),
                "may only be used when `type` is 'LoadBalancer'",
            );
        }
    }
    if let Some(class) = spec.get("loadBalancerClass").and_then(Value::as_str) {
        errors.invalid_all(&path.child("loadBalancerClass"), class, names::qualified(class));
    }
}

fn policies(errors: &mut Errors, spec: &Value, path: &Field) {
    for field in ["externalTrafficPolicy", "internalTrafficPolicy"] {
        if let Some(policy) = spec.get(field).and_then(Value::as_str) {
            errors.one_of(&path.child(field), policy, &["Cluster", "Local"]);
        }
    }
    let external =
        matches!(text(spec, "/type"), "NodePort" | "LoadBalancer") || !list(spec, "/externalIPs").is_empty();
    if !external && !text(spec, "/externalTrafficPolicy").is_empty() {
        let value = text(spec, "/externalTrafficPolicy");
        errors.invalid(
            &path.child("externalTrafficPolicy"),
            value,
            "may only be set for externally-accessible services",
        );
    }
    if let Some(distribution) = spec.get("trafficDistribution").and_then(Value::as_str) {
        let supported = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        errors.one_of(&path.child("trafficDistribution"), distribution, &supported);
    }
    let health = int(spec, "/healthCheckNodePort").unwrap_or_default();
    let local = text(spec, "/externalTrafficPolicy") == "Local" && text(spec, "/type") == "LoadBalancer";
    if health != 0 && !local {
        errors.invalid(
            &path.child("healthCheckNodePort"),
            health,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        );
    }
}

/// A Service keeps its first address for life, unless it becomes or was an ExternalName.
fn cluster_ip_change(errors: &mut Errors, new: &Value, old: &Value, path: &Field) {
    if [new, old]
        .iter()
        .any(|spec| text(spec, "/type") == "ExternalName")
    {
        return;
    }
    let ips = |spec: &Value| list(spec, "/clusterIPs").to_vec();
    let (new_ips, old_ips) = (ips(new), ips(old));
    let path = path.child("clusterIPs");
    match (new_ips.first(), old_ips.first()) {
        (_, None) => {}
        (None, Some(_)) => errors.invalid(&path.index(0), new_ips, "primary clusterIP can not be unset"),
        (Some(new), Some(old)) if new != old => {
            errors.invalid(&path.index(0), new_ips, "may not change once set");
        }
        _ => {
            if let (Some(new), Some(old)) = (new_ips.get(1), old_ips.get(1))
                && new != old
            {
                errors.invalid(&path.index(1), new_ips, "may not change once set");
            }
        }
    }
}
