//! `v1.Node`.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

const INTERNAL_IP: &str = "InternalIP";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A part of a Node that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// An address of the type `InternalIP` isn't one.
    #[error(
        "node {node}: the InternalIP {text:?} in status.addresses isn't an IP address, and no route leads to it"
    )]
    Address {
        /// The node.
        node: String,
        /// What it says.
        text: String,
    },
    /// A block of pod addresses isn't one.
    #[error("node {node}: {text:?} in spec.podCIDRs isn't a block of addresses like 10.244.1.0/24")]
    PodCidr {
        /// The node.
        node: String,
        /// What it says.
        text: String,
    },
}

/// A node as the network sees it, and what of it couldn't be used.
///
/// Addresses keep the order of the object: the first of a family is the one for routes. Blocks are
/// written without host bits, so that equal blocks are equal.
pub fn node(object: &Node) -> (model::Node, Vec<Problem>) {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let mut problems = Vec::new();
    let labels = object.metadata.labels.as_ref();
    let zone = labels
        .and_then(|labels| labels.get(ZONE))
        .filter(|zone| !zone.is_empty());
    let mut node = model::Node {
        zone: zone.cloned(),
        ..model::Node::default()
    };
    for text in internal_ips(object) {
        match text.parse::<IpAddr>() {
            Ok(address) => push_new(&mut node.addresses, address.to_canonical()),
            Err(_) => problems.push(Problem::Address {
                node: name.to_owned(),
                text: text.to_owned(),
            }),
        }
    }
    for text in pod_cidrs(object) {
        match text.parse::<IpNet>() {
            Ok(block) => push_new(&mut node.pod_cidrs, block.trunc()),
            Err(_) => problems.push(Problem::PodCidr {
                node: name.to_owned(),
                text: text.to_owned(),
            }),
        }
    }
    (node, problems)
}

fn internal_ips(object: &Node) -> impl Iterator<Item = &str> {
    let addresses = object
        .status
        .as_ref()
        .and_then(|status| status.addresses.as_deref())
        .unwrap_or_default();
    addresses
        .iter()
        .filter(|address| address.type_ == INTERNAL_IP)
        .map(|address| address.address.as_str())
}

/// `spec.podCIDRs`, or the older `spec.podCIDR` where that is all there is.
fn pod_cidrs(object: &Node) -> impl Iterator<Item = &str> {
    let spec = object.spec.as_ref();
    let many = spec
        .and_then(|spec| spec.pod_cidrs.as_deref())
        .unwrap_or_default();
    let one = spec
        .and_then(|spec| spec.pod_cidr.as_deref())
        .filter(|_| many.is_empty());
    many.iter()
        .map(String::as_str)
        .chain(one)
        .filter(|text| !text.is_empty())
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: &Value, addresses: &Value) -> (model::Node, Vec<Problem>) {
        let object = json!({"metadata": {"name": "a"}, "spec": spec, "status": {"addresses": addresses}});
        node(&serde_json::from_value(object).expect("a Node"))
    }

    fn blocks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a block")).collect()
    }

    #[test]
    fn a_dual_stack_node_is_read_in_its_own_order() {
        let (node, problems) = read(
            &json!({"podCIDR": "fd00:10:244:1::/64", "podCIDRs": ["fd00:10:244:1::/64", "10.244.1.0/24"]}),
            &json!([
                {"type": "Hostname", "address": "a"},
                {"type": "InternalIP", "address": "fd00:172:30::11"},
                {"type": "InternalIP", "address": "172.30.0.11"},
                {"type": "ExternalIP", "address": "192.0.2.1"},
            ]),
        );
        assert_eq!(problems, []);
        assert_eq!(node.pod_cidrs, blocks(&["fd00:10:244:1::/64", "10.244.1.0/24"]));
        let addresses: Vec<String> = node.addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(addresses, ["fd00:172:30::11", "172.30.0.11"]);
    }

    #[test]
    fn the_older_field_counts_where_the_newer_is_missing() {
        let (node, _) = read(&json!({"podCIDR": "10.244.1.0/24"}), &json!([]));
        assert_eq!(node.pod_cidrs, blocks(&["10.244.1.0/24"]));
    }

    #[test]
    fn equal_blocks_and_addresses_count_once_however_they_are_written() {
        let (node, _) = read(
            &json!({"podCIDRs": ["10.244.1.0/24", "10.244.1.7/24"]}),
            &json!([
                {"type": "InternalIP", "address": "172.30.0.11"},
                {"type": "InternalIP", "address": "::ffff:172.30.0.11"},
            ]),
        );
        assert_eq!(node.pod_cidrs, blocks(&["10.244.1.0/24"]));
        assert_eq!(node.addresses.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_counts() {
        let (node, problems) = read(
            &json!({"podCIDRs": ["10.244.1.0", "10.244.2.0/24"]}),
            &json!([{"type": "InternalIP", "address": "node-a"}, {"type": "InternalIP", "address": "172.30.0.11"}]),
        );
        assert_eq!(node.pod_cidrs, blocks(&["10.244.2.0/24"]));
        assert_eq!(node.addresses.len(), 1);
        let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert!(
            texts[0].contains("\"node-a\"") && texts[1].contains("\"10.244.1.0\""),
            "{texts:?}"
        );
    }

    #[test]
    fn a_nodes_zone_is_its_label() {
        let object = json!({"metadata": {"name": "a", "labels": {"topology.kubernetes.io/zone": "west"}}});
        let (node, _) = node(&serde_json::from_value(object).expect("a Node"));
        assert_eq!(node.zone.as_deref(), Some("west"));
    }

    #[test]
    fn an_empty_node_is_an_empty_node() {
        assert_eq!(node(&Node::default()), (model::Node::default(), Vec::new()));
    }
}
