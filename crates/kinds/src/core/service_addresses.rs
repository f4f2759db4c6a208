//! The rules of Services' addresses and IP families.

use std::net::IpAddr;

use serde_json::Value;

use crate::check::addresses;
use crate::check::errors::{Errors, Field};
use crate::core::service_change;
use crate::json::{at, int, list, text};

pub(crate) fn is_headless(spec: &Value) -> bool {
    text(spec, "/clusterIPs/0") == "None" || text(spec, "/clusterIP") == "None"
}

pub(crate) fn cluster_ips(errors: &mut Errors, spec: &Value, path: &Field) {
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

/// A Service keeps its addresses' families and order for life, unless it becomes or was an ExternalName.
pub(crate) fn changed(errors: &mut Errors, new: &Value, old: &Value, path: &Field) {
    let kind = |spec| text(spec, "/type");
    if kind(new) == "LoadBalancer" && kind(old) == "LoadBalancer" {
        let (new, old) = (at(new, "/loadBalancerClass"), at(old, "/loadBalancerClass"));
        if new != old {
            let value = new.cloned().unwrap_or_default();
            errors.invalid(&path.child("loadBalancerClass"), value, "may not change once set");
        }
    }
    let port = "/healthCheckNodePort";
    let checked = service_change::has_health_port(new) && service_change::has_health_port(old);
    if checked && int(new, port) != int(old, port) {
        errors.forbidden(&path.child("healthCheckNodePort"), "field is immutable");
    }
    if [new, old].iter().any(|spec| kind(spec) == "ExternalName") {
        return;
    }
    match (is_headless(new), is_headless(old)) {
        (true, true) => {}
        (false, false) => {
            unchanged(errors, new, old, "clusterIPs", "clusterIP", path);
            unchanged(errors, new, old, "ipFamilies", "ipFamily", path);
        }
        _ => unchanged(errors, new, old, "clusterIPs", "clusterIP", path),
    }
}

/// The first of a list stays, the second may come and, for `SingleStack`, go.
fn unchanged(errors: &mut Errors, new: &Value, old: &Value, field: &str, one: &str, path: &Field) {
    let pointer = format!("/{field}");
    let (new_values, old_values) = (list(new, &pointer), list(old, &pointer));
    let path_of_list = path.child(field);
    if new_values.is_empty() {
        if !old_values.is_empty() {
            let detail = format!("primary {one} can not be unset");
            errors.invalid(&path_of_list.index(0), new_values.to_vec(), &detail);
        }
        return;
    }
    let changed = new_values
        .iter()
        .zip(old_values)
        .position(|(new, old)| new != old);
    if let Some(index) = changed {
        errors.invalid(
            &path_of_list.index(index),
            new_values.to_vec(),
            "may not change once set",
        );
    }
    let policy = &new["ipFamilyPolicy"];
    if new_values.len() < old_values.len() && policy != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.invalid(&path.child("ipFamilyPolicy"), policy.clone(), &detail);
    }
}
