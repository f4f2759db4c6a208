//! Services and their endpoints.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use crate::Protocol;
use ipnet::IpNet;

/// A Service by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A Service as the network sees it, with all its endpoints. One that nothing is translated for, a
/// headless one for instance, isn't among the cluster's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Its own addresses (`spec.clusterIPs`).
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses that a load balancer brings traffic for to the nodes, as it is
    /// (`status.loadBalancer.ingress`, but for those with the mode `Proxy`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Addresses that somebody else brings traffic for to the nodes (`spec.externalIPs`).
    pub external_ips: Vec<IpAddr>,
    /// Who may come by the load balancer's addresses (`spec.loadBalancerSourceRanges`); none:
    /// everybody.
    pub source_ranges: Option<Vec<IpNet>>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Which endpoints serve what comes from the cluster to its own addresses.
    pub internal_policy: TrafficPolicy,
    /// Which endpoints serve what comes from outside.
    pub external_policy: TrafficPolicy,
    /// How long a client stays with its endpoint, in seconds, if it does (`sessionAffinity: ClientIP`).
    pub affinity: Option<u32>,
    /// How an endpoint is picked.
    pub strategy: Strategy,
    /// Its endpoints, by the names of the EndpointSlices that have them.
    pub slices: BTreeMap<String, Arc<Slice>>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty if it is the only one. Endpoints' ports have the same.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the Service's addresses.
    pub port: u16,
    /// The port of every node's own addresses, if there is one.
    pub node_port: Option<u16>,
}

/// Which endpoints serve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Those of the whole cluster.
    #[default]
    Cluster,
    /// Those of the node that the traffic is at.
    Local,
}

/// How one of several endpoints is picked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// Any of them.
    #[default]
    Random,
    /// One after the other.
    RoundRobin,
    /// The one with fewer connections, of two that are picked at random.
    LeastConnections,
    /// By a hash of the client's address, which leads to the same endpoint for as long as it's there.
    Maglev,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Strategy; 4] = [
        Strategy::Random,
        Strategy::RoundRobin,
        Strategy::LeastConnections,
        Strategy::Maglev,
    ];

    /// Its name in annotations.
    pub const fn name(self) -> &'static str {
        match self {
            Strategy::Random => "random",
            Strategy::RoundRobin => "round-robin",
            Strategy::LeastConnections => "least-connections",
            Strategy::Maglev => "maglev",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text was none of the strategies' names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a way to pick an endpoint (there are random, round-robin, least-connections and maglev)"
)]
pub struct ParseStrategyError(String);

impl FromStr for Strategy {
    type Err = ParseStrategyError;

    fn from_str(text: &str) -> Result<Strategy, ParseStrategyError> {
        Strategy::ALL
            .into_iter()
            .find(|strategy| strategy.name() == text)
            .ok_or_else(|| ParseStrategyError(text.to_owned()))
    }
}

/// Some of a Service's endpoints, of one family, with the same ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// The ports.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A port of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// Which of the Service's ports it serves.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The endpoints' own port.
    pub port: u16,
}

/// One endpoint of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is reached.
    pub address: IpAddr,
    /// The node that it is on, if any.
    pub node: Option<Arc<str>>,
    /// Whether it is to get new connections.
    pub ready: bool,
    /// Whether it serves, ready or not.
    pub serving: bool,
    /// Whether it is about to end.
    pub terminating: bool,
    /// Whom it is rather for than for others, if that is known.
    pub hints: Hints,
}

/// Whom an endpoint is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Zones.
    pub zones: Box<[Arc<str>]>,
    /// Nodes.
    pub nodes: Box<[Arc<str>]>,
}

/// An endpoint of a Service, with its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Its address and port.
    pub socket: SocketAddr,
    /// Whether it has an address of this node, or of its pods.
    pub local: bool,
}

impl ServiceName {
    /// A Service of that namespace and name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> ServiceName {
        ServiceName {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_are_found_by_their_names() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        let error = "Random".parse::<Strategy>().unwrap_err();
        assert!(error.to_string().contains("least-connections"), "{error}");
    }
}
