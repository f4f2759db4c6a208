//! A packet, as far as decisions depend on it.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Protocol;

/// The first packet of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Packet {
    /// Who sends it.
    pub source: IpAddr,
    /// Whom it's for.
    pub destination: IpAddr,
    /// What it carries.
    pub transport: Transport,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// An ICMP echo request.
    Icmp,
    /// The start of a TCP connection to this port.
    Tcp(u16),
    /// A UDP datagram to this port.
    Udp(u16),
    /// The start of an SCTP association to this port.
    Sctp(u16),
}

impl Transport {
    /// The protocol and the port that it is for; none where there are no ports.
    pub const fn port(self) -> Option<(Protocol, u16)> {
        match self {
            Transport::Icmp => None,
            Transport::Tcp(port) => Some((Protocol::Tcp, port)),
            Transport::Udp(port) => Some((Protocol::Udp, port)),
            Transport::Sctp(port) => Some((Protocol::Sctp, port)),
        }
    }

    /// The same, for another port.
    #[must_use]
    pub const fn to_port(self, port: u16) -> Transport {
        match self {
            Transport::Icmp => Transport::Icmp,
            Transport::Tcp(_) => Transport::Tcp(port),
            Transport::Udp(_) => Transport::Udp(port),
            Transport::Sctp(_) => Transport::Sctp(port),
        }
    }
}

impl Packet {
    /// An ICMP echo request.
    pub fn icmp(source: IpAddr, destination: IpAddr) -> Packet {
        Packet {
            source,
            destination,
            transport: Transport::Icmp,
        }
    }

    /// The start of a TCP connection.
    pub fn tcp(source: IpAddr, destination: IpAddr, port: u16) -> Packet {
        Packet {
            source,
            destination,
            transport: Transport::Tcp(port),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {} {}", self.source, self.destination, self.transport)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Icmp => f.write_str("icmp"),
            Transport::Tcp(port) => write!(f, "tcp/{port}"),
            Transport::Udp(port) => write!(f, "udp/{port}"),
            Transport::Sctp(port) => write!(f, "sctp/{port}"),
        }
    }
}
