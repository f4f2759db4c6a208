//! What the records are made of: as much of the API's objects as names depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What its name leads to.
    pub kind: Kind,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// What a Service's name leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Its own addresses.
    Cluster(Vec<IpAddr>),
    /// Its endpoints.
    Headless {
        /// Those that aren't ready, too.
        unready: bool,
    },
    /// Another name.
    External(String),
}

/// A port of a Service, or of its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// Its name; empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Its number.
    pub number: u16,
}

/// A part of a Service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The Service, of the same namespace.
    pub service: String,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Their ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// An endpoint of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its name below the Service's, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Box<str>>,
    /// The node that it is on, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Box<str>>,
    /// Whether it takes traffic.
    pub ready: bool,
}

impl Endpoint {
    /// Its label below the Service's name: its own, or else its address with dashes.
    pub fn label(&self) -> String {
        match &self.hostname {
            Some(name) => name.to_string(),
            None => dashed(self.address),
        }
    }
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Its pods' addresses.
    pub pod_cidrs: Vec<IpNet>,
}

/// An object by namespace and name.
pub type Key = (String, String);

/// Everything that names depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// Names of the namespaces.
    pub namespaces: BTreeSet<String>,
    /// The Services, by namespace and name.
    pub services: Vec<(Key, Service)>,
    /// The endpoints, by namespace and the slice's name.
    pub slices: Vec<(Key, Slice)>,
    /// The nodes.
    pub nodes: BTreeMap<String, Node>,
}

/// `10.244.1.2` as `10-244-1-2`, `fd00::2` as `fd00--2`.
pub fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The address that a label means, the other way round.
pub fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = || label.replace('-', ".").parse().ok().map(IpAddr::V4);
    let v6 = || label.replace('-', ":").parse().ok().map(IpAddr::V6);
    v4().or_else(v6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_labels_and_back() {
        for text in ["10.244.1.2", "fd00:10:244::5", "::1", "fd00::"] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(undashed(&dashed(address)), Some(address));
        }
        for text in ["10-244-1", "web", "10-244-1-256", "", "-"] {
            assert_eq!(undashed(text), None, "{text}");
        }
    }
}
