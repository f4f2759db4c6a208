//! What the controllers need to know that the API doesn't tell.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use crate::balancer::AddressRange;

/// The controllers' configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The ranges of pod addresses, one a family at most.
    pub cluster_cidrs: Vec<IpNet>,
    /// The size of a node's block of the IPv4 range.
    pub node_mask_v4: u8,
    /// The size of a node's block of the IPv6 range.
    pub node_mask_v6: u8,
    /// The cluster's CA certificate, for the ConfigMap `kube-root-ca.crt`.
    pub ca_pem: String,
    /// How long a node may be silent before it counts as lost.
    pub node_monitor_grace: Duration,
    /// How many ended pods are kept.
    pub terminated_pod_threshold: usize,
    /// The first pool of load balancers' addresses, made when the cluster is.
    pub load_balancer_pool: Vec<AddressRange>,
    /// Addresses that no load balancer gets, beside those of nodes.
    pub reserved_addresses: Vec<IpAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster_cidrs: vec![IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16))],
            node_mask_v4: 24,
            node_mask_v6: 64,
            ca_pem: String::new(),
            node_monitor_grace: Duration::from_secs(40),
            terminated_pod_threshold: 12_500,
            load_balancer_pool: Vec::new(),
            reserved_addresses: Vec::new(),
        }
    }
}
