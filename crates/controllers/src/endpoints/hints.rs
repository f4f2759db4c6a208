//! Hints: which zones and nodes an endpoint is for.
//!
//! `trafficDistribution` gives each endpoint to where it is. `service.kubernetes.io/topology-mode: Auto` gives
//! each zone endpoints in proportion to its processors, and no hints where that can't come out even.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForNode, ForZone};

const ZONE: &str = "topology.kubernetes.io/zone";
const CONTROL_PLANE: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];
const MODE: &str = "service.kubernetes.io/topology-mode";
const OLD_MODE: &str = "service.kubernetes.io/topology-aware-hints";

/// How much more than its share an endpoint may have to do.
const OVERLOAD: f64 = 0.2;

/// A node's zone.
pub(super) fn zone(node: &Node) -> Option<&str> {
    let labels = node.metadata.labels.as_ref()?;
    labels
        .get(ZONE)
        .map(String::as_str)
        .filter(|zone| !zone.is_empty())
}

/// What a node adds to its zone: thousandths of processors, if it takes pods at all.
pub(super) fn capacity(node: &Node) -> Option<u64> {
    let labels = node.metadata.labels.iter().flatten();
    let controls = labels
        .into_iter()
        .any(|(label, _)| CONTROL_PLANE.contains(&label.as_str()));
    let status = node.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let cpu = &status.allocatable.as_ref()?.get("cpu")?.0;
    let milli = match cpu.strip_suffix('m') {
        Some(milli) => milli.parse().ok()?,
        None => cpu.parse::<u64>().ok()? * 1000,
    };
    (ready && !controls).then_some(milli)
}

/// Zones and their sizes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Zones(BTreeMap<String, u64>);

impl Zones {
    /// `None` if a node that counts says too little.
    pub(super) fn of(nodes: &[Arc<Node>]) -> Option<Self> {
        let mut zones = BTreeMap::new();
        for node in nodes {
            if let Some(milli) = capacity(node) {
                *zones.entry(zone(node)?.to_owned()).or_insert(0) += milli;
            }
        }
        Some(Self(zones))
    }
}

pub(super) fn is_auto(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    let mode = annotations.and_then(|all| all.get(MODE).or_else(|| all.get(OLD_MODE)));
    mode.is_some_and(|mode| mode == "Auto" || mode == "auto")
}

/// Sets the hints of a Service's endpoints of one family.
pub(super) fn set(
    service: &Service,
    mut endpoints: Vec<&mut Endpoint>,
    zones: impl FnOnce() -> Option<Zones>,
) {
    endpoints.retain(|endpoint| is_ready(endpoint));
    if is_auto(service) {
        if let Some(zones) = zones() {
            spread(endpoints, &zones);
        }
        return;
    }
    let spec = service.spec.as_ref();
    let by_node = match spec.and_then(|spec| spec.traffic_distribution.as_deref()) {
        Some("PreferClose" | "PreferSameZone") => false,
        Some("PreferSameNode") => true,
        _ => return,
    };
    for endpoint in endpoints {
        let node = endpoint.node_name.clone().filter(|_| by_node);
        let for_nodes = node.map(|name| vec![ForNode { name }]);
        let for_zones = endpoint.zone.clone().map(for_zone);
        if for_nodes.is_some() || for_zones.is_some() {
            endpoint.hints = Some(EndpointHints { for_nodes, for_zones });
        }
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn for_zone(name: String) -> Vec<ForZone> {
    vec![ForZone { name }]
}

/// Every zone keeps its own endpoints, except that those with too few get some of the others'.
fn spread(endpoints: Vec<&mut Endpoint>, zones: &Zones) {
    let Some(mut given) = shares(&endpoints, zones) else {
        return;
    };
    let mut moved = Vec::new();
    for endpoint in endpoints {
        let Some(own) = endpoint.zone.clone() else {
            continue;
        };
        match given.get_mut(&own).filter(|left| **left > 0) {
            Some(left) => {
                *left -= 1;
                endpoint.hints = zone_hint(own);
            }
            None => moved.push(endpoint),
        }
    }
    let free = given.into_iter().flat_map(|(zone, left)| vec![zone; left]);
    for (endpoint, zone) in moved.into_iter().zip(free) {
        endpoint.hints = zone_hint(zone);
    }
}

fn zone_hint(zone: String) -> Option<EndpointHints> {
    Some(EndpointHints {
        for_nodes: None,
        for_zones: Some(for_zone(zone)),
    })
}

/// How many endpoints each zone gets. `None` where no share is fair: one zone alone, fewer endpoints than zones,
/// an endpoint without a zone.
fn shares(endpoints: &[&mut Endpoint], zones: &Zones) -> Option<BTreeMap<String, usize>> {
    let total: u64 = zones.0.values().sum();
    if zones.0.len() < 2 || endpoints.len() < zones.0.len() || total == 0 {
        return None;
    }
    let mut counts: BTreeMap<String, usize> = zones.0.keys().map(|zone| (zone.clone(), 0)).collect();
    for endpoint in endpoints {
        *counts.get_mut(endpoint.zone.as_ref()?)? += 1;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers of endpoints and processors are small"
    )]
    let fair = |zone: &str| endpoints.len() as f64 * zones.0[zone] as f64 / total as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is positive and small"
    )]
    let least = |zone: &str| (fair(zone) / (1.0 + OVERLOAD)).ceil() as usize;
    let least: BTreeMap<String, usize> = counts.keys().map(|zone| (zone.clone(), least(zone))).collect();
    if least.values().sum::<usize>() > endpoints.len() {
        return None;
    }
    while let Some(poor) = counts.keys().find(|zone| counts[*zone] < least[*zone]).cloned() {
        #[expect(clippy::cast_precision_loss, reason = "numbers of endpoints are small")]
        let surplus = |zone: &String| counts[zone] as f64 - fair(zone);
        let can_give = counts.keys().filter(|zone| counts[*zone] > least[*zone]);
        let rich = can_give
            .max_by(|a, b| surplus(a).total_cmp(&surplus(b)))
            .cloned()?;
        *counts.get_mut(&rich)? -= 1;
        *counts.get_mut(&poor)? += 1;
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::EndpointConditions;
    use serde_json::json;

    use super::*;

    fn service(distribution: Option<&str>, mode: Option<&str>) -> Service {
        let mut object = json!({ "metadata": { "name": "web" }, "spec": {} });
        if let Some(distribution) = distribution {
            object["spec"]["trafficDistribution"] = distribution.into();
        }
        if let Some(mode) = mode {
            object["metadata"]["annotations"] = json!({ MODE: mode });
        }
        serde_json::from_value(object).unwrap()
    }

    fn endpoints(zones: &[&str]) -> Vec<Endpoint> {
        let endpoint = |(index, zone): (usize, &&str)| Endpoint {
            addresses: vec![format!("10.0.0.{index}")],
            zone: (!zone.is_empty()).then(|| (*zone).to_owned()),
            node_name: Some(format!("n{index}")),
            ..Endpoint::default()
        };
        zones.iter().enumerate().map(endpoint).collect()
    }

    fn hinted(service: &Service, endpoints: &mut [Endpoint], zones: &[(&str, u64)]) -> Vec<String> {
        let zones = zones
            .iter()
            .map(|(zone, milli)| ((*zone).to_owned(), *milli))
            .collect();
        set(service, endpoints.iter_mut().collect(), || Some(Zones(zones)));
        let text = |endpoint: &Endpoint| {
            let hints = endpoint.hints.clone().unwrap_or_default();
            let zones = hints
                .for_zones
                .unwrap_or_default()
                .into_iter()
                .map(|zone| zone.name);
            let nodes = hints
                .for_nodes
                .unwrap_or_default()
                .into_iter()
                .map(|node| node.name);
            zones.chain(nodes).collect::<Vec<_>>().join(" ")
        };
        endpoints.iter().map(text).collect()
    }

    #[test]
    fn a_preference_gives_each_endpoint_to_where_it_is() {
        for (distribution, expected) in [
            (Some("PreferClose"), ["a", ""]),
            (Some("PreferSameZone"), ["a", ""]),
            (Some("PreferSameNode"), ["a n0", "n1"]),
            (None, ["", ""]),
        ] {
            let mut endpoints = endpoints(&["a", ""]);
            assert_eq!(
                hinted(&service(distribution, None), &mut endpoints, &[]),
                expected
            );
        }
        let mut unready = endpoints(&["a"]);
        unready[0].conditions = Some(EndpointConditions {
            ready: Some(false),
            ..EndpointConditions::default()
        });
        assert_eq!(
            hinted(&service(Some("PreferClose"), None), &mut unready, &[]),
            [""]
        );
    }

    #[test]
    fn zones_share_by_their_size() {
        let auto = service(None, Some("Auto"));
        let counted = |zones: &[&str], sizes: &[(&str, u64)]| {
            let mut endpoints = endpoints(zones);
            let mut hints = hinted(&auto, &mut endpoints, sizes);
            hints.sort();
            hints.join("")
        };
        let even = [("a", 1000), ("b", 1000)];
        assert_eq!(counted(&["a", "a", "b", "b"], &even), "aabb");
        assert_eq!(counted(&["a", "a", "a", "a", "a", "b"], &even), "aaabbb");
        assert_eq!(
            counted(&["a", "a", "a", "b"], &[("a", 3000), ("b", 1000)]),
            "aaab"
        );
        // No fair share.
        assert_eq!(counted(&["a", "b"], &[("a", 1000)]), "");
        assert_eq!(counted(&["a"], &even), "");
        assert_eq!(counted(&["a", ""], &even), "");
        assert_eq!(counted(&["a", "b", "b"], &[("a", 100), ("b", 100)]), "");
    }
}
