//! What a path carries, and whether it says so when that is less than its first link takes.
//!
//! A packet that may not be fragmented either arrives; or something on the way says that it is too
//! big, and how big one may be (RFC 1191, RFC 8201); or it is lost without a word, which is what
//! breaks connections: small packets pass and large ones don't. So the largest that arrives is
//! looked for, and then one byte more is sent.
//!
//! ```text
//! Target::Udp   a datagram of N bytes ──► answer::head: its first bytes come back     one direction
//! Target::Ping  an echo of N bytes    ──► any kernel: the same N bytes come back      there and back
//! ```
//!
//! Whoever echoes UDP can be asked; who answers with the head alone ([`answer::head`],
//! [`Answerer`]) tells about the one direction. Everything happens in the calling thread's network
//! namespace.

pub mod answer;
mod link;
mod probe;
mod search;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use answer::Answerer;

/// Who is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A server that echoes datagrams, or their head.
    Udp(SocketAddr),
    /// The kernel at that address, by an ICMP echo as `ping -M do` sends it. It takes
    /// `CAP_NET_RAW`, or a group in `net.ipv4.ping_group_range`.
    Ping(IpAddr),
}

impl Target {
    /// The address of either kind.
    pub const fn ip(&self) -> IpAddr {
        match self {
            Target::Udp(to) => to.ip(),
            Target::Ping(to) => *to,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Udp(to) => to.fmt(f),
            Target::Ping(to) => to.fmt(f),
        }
    }
}

/// How long something counts as under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the answer to one packet.
    pub limit: Duration,
    /// How often a packet is sent before it counts as lost.
    pub tries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            limit: Duration::from_millis(500),
            tries: 5,
        }
    }
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was answered.
    Arrived,
    /// This end, or something on the way, said that it is too big.
    Refused,
    /// Nobody said anything.
    Lost,
}

impl Fate {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Fate::Arrived => "arrived",
            Fate::Refused => "refused",
            Fate::Lost => "lost",
        }
    }
}

/// What was found out about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The link that packets leave by.
    pub link: String,
    /// How many bytes the link takes, IP header and all.
    pub link_mtu: u32,
    /// The largest packet that arrives, in bytes, IP header and all; none if nothing does.
    pub carries: Option<u32>,
    /// What became of one byte more.
    pub larger: Fate,
}

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A socket, or what was to be done with it.
    #[error("{doing} {target}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To whom.
        target: Target,
        /// Why it failed.
        source: io::Error,
    },
    /// Neither kind of socket for pings may be opened.
    #[error("pings to {target} need CAP_NET_RAW, or a group in net.ipv4.ping_group_range: {source}")]
    NotAllowed {
        /// To whom.
        target: IpAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// It isn't known by which link packets leave.
    #[error("the link towards {target}: {what}")]
    Link {
        /// To whom.
        target: Target,
        /// What is missing.
        what: String,
    },
}

/// Finds out what the path to a target carries, from the calling thread's network namespace.
///
/// A path that loses packets takes some multiples of `patience`; one that doesn't, a few round
/// trips.
///
/// # Errors
/// When there is no socket, no route, or a server's machine refuses. Silence is no error.
pub fn measure(target: Target, patience: Patience) -> Result<Found, Error> {
    let probe = probe::Probe::open(target)?;
    let (link, link_mtu) = probe.link()?;
    let largest = search::largest(&probe, link_mtu, patience)?;
    Ok(Found {
        link,
        link_mtu,
        carries: largest.carries,
        larger: largest.larger,
    })
}
