//! What becomes of a changed Service: what was allocated stays although the client doesn't repeat it, and
//! what another type allowed goes when the client just left it there.

use serde_json::{Value, json};

use crate::json::{at, int, list, list_mut, object_mut, set, text};

pub(crate) fn prepare(new: &mut Value, old: Option<&Value>) {
    let Some(old) = old else { return };
    let (new_spec, old_spec) = (&mut new["spec"], &old["spec"]);
    keep_allocated(new_spec, old_spec);
    drop_of_other_type(new_spec, old_spec);
    if text(new_spec, "/type") != "LoadBalancer"
        && let Some(balancer) = object_mut(new, "/status/loadBalancer")
    {
        balancer.remove("ingress");
    }
}

fn keep_allocated(new: &mut Value, old: &Value) {
    if has_address(new) && has_address(old) {
        if text(new, "/clusterIP").is_empty() && list(new, "/clusterIPs").is_empty() {
            copy(new, old, "clusterIP");
            copy(new, old, "clusterIPs");
        } else if text(new, "/clusterIP") != text(old, "/clusterIP")
            && list(new, "/clusterIPs") == list(old, "/clusterIPs")
        {
            // Who changes the one means the other as well.
            let address = text(new, "/clusterIP").to_owned();
            set(new, "clusterIPs", json!([address]));
        }
    }
    if has_node_ports(new) && has_node_ports(old) {
        keep_node_ports(new, old);
    }
    if has_health_port(new) && has_health_port(old) && number(new, "healthCheckNodePort") == 0 {
        copy(new, old, "healthCheckNodePort");
    }
}

/// Ports are the same by their names.
fn keep_node_ports(new: &mut Value, old: &Value) {
    let kept: Vec<i64> = list(new, "/ports").iter().map(node_port).collect();
    for port in list_mut(new, "/ports") {
        let before = list(old, "/ports")
            .iter()
            .find(|before| text(before, "/name") == text(port, "/name"))
            .map_or(0, node_port);
        if node_port(port) == 0 && before != 0 && !kept.contains(&before) {
            set(port, "nodePort", before);
        }
    }
}

fn drop_of_other_type(new: &mut Value, old: &Value) {
    if has_address(old) && !has_address(new) {
        let same = ["clusterIP", "clusterIPs"]
            .iter()
            .all(|field| new.get(field) == old.get(field));
        if same {
            remove(new, "clusterIP");
            remove(new, "clusterIPs");
        }
        remove_same(new, old, "ipFamilies");
        remove_same(new, old, "ipFamilyPolicy");
    }
    let node_ports = |spec: &Value| list(spec, "/ports").iter().map(node_port).collect::<Vec<_>>();
    if has_node_ports(old) && !has_node_ports(new) && node_ports(new) == node_ports(old) {
        list_mut(new, "/ports").for_each(|port| remove(port, "nodePort"));
    }
    if has_health_port(old) && !has_health_port(new) {
        remove_same(new, old, "healthCheckNodePort");
    }
    if text(old, "/type") == "LoadBalancer" && text(new, "/type") != "LoadBalancer" {
        remove_same(new, old, "allocateLoadBalancerNodePorts");
        remove_same(new, old, "loadBalancerClass");
    }
    if is_external(old) && !is_external(new) {
        remove_same(new, old, "externalTrafficPolicy");
    }
}

fn has_address(spec: &Value) -> bool {
    matches!(text(spec, "/type"), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn has_node_ports(spec: &Value) -> bool {
    match text(spec, "/type") {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// Whether load balancers ask nodes which of them have endpoints.
pub(crate) fn has_health_port(spec: &Value) -> bool {
    text(spec, "/type") == "LoadBalancer" && text(spec, "/externalTrafficPolicy") == "Local"
}

/// Whether traffic from outside the cluster can come in.
pub(crate) fn is_external(spec: &Value) -> bool {
    match text(spec, "/type") {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !list(spec, "/externalIPs").is_empty(),
        _ => false,
    }
}

fn node_port(port: &Value) -> i64 {
    number(port, "nodePort")
}

fn number(value: &Value, field: &str) -> i64 {
    int(value, &format!("/{field}")).unwrap_or_default()
}

fn copy(new: &mut Value, old: &Value, field: &str) {
    if let Some(value) = at(old, &format!("/{field}")) {
        set(new, field, value.clone());
    }
}

fn remove(value: &mut Value, field: &str) {
    if let Some(object) = value.as_object_mut() {
        object.remove(field);
    }
}

fn remove_same(new: &mut Value, old: &Value, field: &str) {
    if new.get(field) == old.get(field) {
        remove(new, field);
    }
}
