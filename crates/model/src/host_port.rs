//! Ports of a node that lead to a pod (`hostPort`), and the rates that a pod is held to.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// Its number in IP headers.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// As people and the CNI write it.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A port of the node's own addresses that leads to a port of the pod. Its loopback's are reached by the node alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// The protocol.
    pub protocol: Protocol,
    /// The node's address that it is about; none: all of them. The unspecified address of a family
    /// stands for all of that family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The node's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
}

impl HostPort {
    /// Whether no node can have both: the same port of one protocol on addresses that overlap.
    pub fn conflicts(&self, other: &HostPort) -> bool {
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && match (self.host_ip, other.host_ip) {
                (Some(one), Some(two)) if one.is_ipv4() != two.is_ipv4() => false,
                (Some(one), Some(two)) => one == two || one.is_unspecified() || two.is_unspecified(),
                (None, _) | (_, None) => true,
            }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host_port, self.protocol)?;
        self.host_ip.map_or(Ok(()), |address| write!(f, " on {address}"))
    }
}

/// Rates that a pod's traffic is held to, in bits per second (`kubernetes.io/ingress-bandwidth`,
/// `kubernetes.io/egress-bandwidth`).
///
/// What a pod receives is shaped at the node's end of its link: a packet must pass that queue, so
/// no shortcut may lead around it ([`Limits::shapes_ingress`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// What the pod receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Rate>,
    /// What the pod sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Rate>,
}

impl Limits {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Limits::default()
    }

    /// Whether packets to the pod must pass the queue of the node's end of its link.
    pub fn shapes_ingress(&self) -> bool {
        self.ingress.is_some()
    }
}

/// A rate, and how much may pass at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rate {
    /// Bits per second.
    pub bits: u64,
    /// How many bits may pass at once after a pause; none: as the planner thinks fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_ip: Option<&str>) -> HostPort {
        HostPort {
            protocol: Protocol::Tcp,
            host_ip: host_ip.map(|text| text.parse().expect("an address")),
            host_port: 8080,
            container_port: 80,
        }
    }

    #[test]
    fn a_port_conflicts_on_addresses_that_overlap() {
        let overlaps = |one, two| {
            let (one, two) = (port(one), port(two));
            assert_eq!(one.conflicts(&two), two.conflicts(&one));
            one.conflicts(&two)
        };
        assert!(overlaps(None, None));
        assert!(overlaps(None, Some("fd00::1")));
        assert!(overlaps(Some("172.30.0.11"), Some("172.30.0.11")));
        assert!(overlaps(Some("172.30.0.11"), Some("0.0.0.0")));
        assert!(!overlaps(Some("172.30.0.11"), Some("172.30.0.12")));
        assert!(!overlaps(Some("0.0.0.0"), Some("::")));
        let udp = HostPort {
            protocol: Protocol::Udp,
            ..port(None)
        };
        assert!(!port(None).conflicts(&udp));
    }
}
