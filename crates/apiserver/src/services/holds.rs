//! What a Service holds, as it says itself.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde_json::Value;

use super::families::is_headless;
use crate::object::{list, text};

/// Something that one Service has and no other may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Held {
    /// An address of the cluster.
    Address(IpAddr),
    /// A port of every node.
    Port(u16),
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Held::Address(address) => address.fmt(f),
            Held::Port(port) => write!(f, "node port {port}"),
        }
    }
}

/// Everything that a Service holds. Ports of two protocols may have the same number.
pub(super) fn of(service: &Value) -> BTreeSet<Held> {
    let spec = &service["spec"];
    let addresses = addresses(spec).into_iter().map(Held::Address);
    let ports = node_ports(spec).into_iter().map(Held::Port);
    let health = health_port(spec).filter(|port| *port != 0).map(Held::Port);
    addresses.chain(ports).chain(health).collect()
}

pub(super) fn has_address(spec: &Value) -> bool {
    text(spec, "/type") != "ExternalName" && !is_headless(spec)
}

fn addresses(spec: &Value) -> Vec<IpAddr> {
    if !has_address(spec) {
        return Vec::new();
    }
    let addresses = list(spec, "/clusterIPs").iter().filter_map(Value::as_str);
    addresses.filter_map(|address| address.parse().ok()).collect()
}

pub(super) fn may_have_ports(spec: &Value) -> bool {
    matches!(text(spec, "/type"), "NodePort" | "LoadBalancer")
}

/// The node ports, without zeros.
pub(super) fn node_ports(spec: &Value) -> Vec<u16> {
    if !may_have_ports(spec) {
        return Vec::new();
    }
    let ports = list(spec, "/ports").iter().map(|port| number(port, "nodePort"));
    ports.filter(|port| *port != 0).collect()
}

/// The port of the health check; zero where it is still to be found.
pub(super) fn health_port(spec: &Value) -> Option<u16> {
    let checked = text(spec, "/type") == "LoadBalancer" && text(spec, "/externalTrafficPolicy") == "Local";
    checked.then(|| number(spec, "healthCheckNodePort"))
}

/// A port that the kind's rules have checked; absent is zero.
pub(super) fn number(value: &Value, field: &str) -> u16 {
    let number = value[field].as_u64().unwrap_or_default();
    u16::try_from(number).unwrap_or_default()
}
