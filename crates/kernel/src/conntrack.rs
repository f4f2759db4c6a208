//! Conntrack: the connections that the kernel remembers, read and deleted one by one.
//!
//! A connection keeps the translation that it began with. When a translation is withdrawn or leads
//! elsewhere, the connections that it made must be forgotten, or their packets go on to whoever has
//! the address next. Nothing is ever flushed: what belongs to others stays.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nft::wire::{Attributes, find};

use crate::direct::{Direct, Message, error_number, messages, refused};
use crate::{Error, NetNs, Result};

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1;
const NEW: u16 = SUBSYSTEM << 8;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_DUMP: u16 = 0x300;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_INFO: u16 = 4;
const ID: u16 = 12;
const ZONE: u16 = 18;
const STATUS_MASK: u16 = 26;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
/// `IPS_DST_NAT`.
const DESTINATION_TRANSLATED: u32 = 1 << 5;
/// `IPS_SEEN_REPLY`.
const ANSWERED: u32 = 1 << 1;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Direction {
    /// Who sends.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
}

/// A connection that the kernel remembers, of a protocol that has ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Connection {
    /// Transport protocol.
    pub protocol: u8,
    /// As its first packet came.
    pub original: Direction,
    /// As answers to it come.
    pub reply: Direction,
    /// Of TCP: both sides have ended it, or one has broken it off, and it's remembered for stragglers.
    pub is_over: bool,
    /// Whether something has come back.
    pub is_answered: bool,
    /// The tuple, number and zone that it's deleted by, as the kernel wrote them.
    tuple: Vec<u8>,
    id: Vec<u8>,
    zone: Option<Vec<u8>>,
}

impl Connection {
    /// Whether its destination was translated.
    pub fn is_translated(&self) -> bool {
        self.reply.source != self.original.destination
    }
}

/// Which connections to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those whose destination was translated.
    Translated,
    /// Those that nobody has answered, translated or not.
    Unanswered,
}

/// A conntrack connection into one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    netfilter: Direct,
}

impl Conntrack {
    /// Connects to the calling thread's namespace.
    pub fn current() -> Result<Conntrack> {
        Ok(Conntrack {
            netfilter: Direct::netfilter()?,
        })
    }

    /// Connects to the given namespace.
    pub fn open(netns: &NetNs) -> Result<Conntrack> {
        netns.run(Conntrack::current)?
    }

    /// The connections of both families.
    pub fn connections(&self, which: Which) -> Result<Vec<Connection>> {
        // The bits that are asked about, and how they're to be.
        let status = match which {
            Which::All => None,
            Which::Translated => Some((DESTINATION_TRANSLATED, DESTINATION_TRANSLATED)),
            Which::Unanswered => Some((ANSWERED, 0)),
        };
        // Kernels before 5.15 don't know the mask and say more: whoever asks looks himself.
        let attributes = status.map_or_else(Attributes::new, |(mask, status)| {
            Attributes::new().be32(STATUS, status).be32(STATUS_MASK, mask)
        });
        let request = message(GET, F_REQUEST | F_DUMP, libc::AF_UNSPEC, &attributes);
        self.netfilter.dump(&request, "read the connections", parse)
    }

    /// Deletes exactly this connection; false if it's gone already.
    pub fn delete(&self, connection: &Connection) -> Result<bool> {
        let family = match connection.original.source {
            SocketAddr::V4(_) => libc::AF_INET,
            SocketAddr::V6(_) => libc::AF_INET6,
        };
        let mut attributes = Attributes::new()
            .bytes(TUPLE_ORIGINAL | NESTED, &connection.tuple)
            .bytes(ID, &connection.id);
        if let Some(zone) = &connection.zone {
            attributes = attributes.bytes(ZONE, zone);
        }
        let request = message(DELETE, F_REQUEST | F_ACK, family, &attributes);
        let _exchange = self.netfilter.exchange();
        self.netfilter.send(&request, "delete a connection")?;
        let describe = || {
            let Direction { source, destination } = connection.original;
            format!("forget the connection from {source} to {destination}")
        };
        while let Some(buffer) = self.netfilter.receive()? {
            for message in messages(&buffer) {
                match error_number(&message) {
                    Some(0) => return Ok(true),
                    Some(libc::ENOENT) => return Ok(false),
                    Some(errno) => return Err(refused(describe(), errno, message.body)),
                    None => {}
                }
            }
        }
        Err(Error::Disconnected { request: describe() })
    }
}

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;

fn message(kind: u16, flags: u16, family: libc::c_int, attributes: &Attributes) -> Vec<u8> {
    const HEADERS: usize = 16 + 4;
    let length = u32::try_from(HEADERS + attributes.len()).expect("a request is short");
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    // One question at a time needs no number; the port: the kernel knows who asks.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[u8::try_from(family).expect("families are small numbers"), 0, 0, 0]);
    bytes.extend_from_slice(attributes.as_bytes());
    bytes
}

/// A connection of a protocol that has ports; `None` for others.
fn parse(message: &Message<'_>) -> Option<Connection> {
    if message.kind != NEW {
        return None;
    }
    let body = message.body.get(4..)?;
    let tuple = find(body, TUPLE_ORIGINAL)?;
    let (protocol, original) = direction(tuple)?;
    let (_, reply) = direction(find(body, TUPLE_REPLY)?)?;
    Some(Connection {
        protocol,
        original,
        reply,
        is_answered: find(body, STATUS)
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
            .is_some_and(|bytes| u32::from_be_bytes(bytes) & ANSWERED != 0),
        is_over: tcp_state(body).is_some_and(|state| OVER.contains(&state)),
        tuple: tuple.to_vec(),
        id: find(body, ID)?.to_vec(),
        zone: find(body, ZONE).map(<[u8]>::to_vec),
    })
}

/// `TCP_CONNTRACK_LAST_ACK`, `_TIME_WAIT` and `_CLOSE`.
const OVER: std::ops::RangeInclusive<u8> = 6..=8;

fn tcp_state(body: &[u8]) -> Option<u8> {
    const TCP: u16 = 1;
    const STATE: u16 = 1;
    let info = find(find(body, PROTOCOL_INFO)?, TCP)?;
    find(info, STATE)?.first().copied()
}

fn direction(tuple: &[u8]) -> Option<(u8, Direction)> {
    const PROTOCOL_NUMBER: u16 = 1;
    const SOURCE_PORT: u16 = 2;
    const DESTINATION_PORT: u16 = 3;
    let addresses = find(tuple, TUPLE_ADDRESSES)?;
    let protocol = find(tuple, TUPLE_PROTOCOL)?;
    let address = |v4: u16, v6: u16| -> Option<IpAddr> {
        let old = find(addresses, v4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let new = || find(addresses, v6).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        old.map(|bytes| Ipv4Addr::from(bytes).into())
            .or_else(|| new().map(|bytes| Ipv6Addr::from(bytes).into()))
    };
    let port = |kind| {
        let bytes: [u8; 2] = find(protocol, kind)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    };
    let direction = Direction {
        source: SocketAddr::new(address(1, 3)?, port(SOURCE_PORT)?),
        destination: SocketAddr::new(address(2, 4)?, port(DESTINATION_PORT)?),
    };
    Some((*find(protocol, PROTOCOL_NUMBER)?.first()?, direction))
}
