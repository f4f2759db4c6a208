//! Packets of a wanted size to one target, and the answers to them.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, ip_mtu, ipv6_mtu, set_ip_mtu_discover, set_ipv6_mtu_discover,
};

use crate::{Error, Target, answer, link};

/// No path of either family may carry less (RFC 1122, RFC 8200).
const LEAST_V4: u32 = 576;
const LEAST_V6: u32 = 1280;

/// The header of an ICMP echo, and of UDP.
const HEADER: usize = 8;

/// The types of an ICMP echo: request and reply.
const ECHO_V4: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);

/// Tells one probe's packets from another's.
static PROBES: AtomicU64 = AtomicU64::new(0);

/// What came of waiting for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The packet of so many bytes arrived.
    Arrived(u32),
    /// Some packet was too big for something on the way.
    TooBig,
    Nothing,
}

/// A socket towards a target, whose packets may not be fragmented and are sent whatever this end
/// has learnt about the path.
#[derive(Debug)]
pub(crate) struct Probe {
    target: Target,
    socket: UdpSocket,
    token: u64,
    /// IPv4's raw sockets give the IP header, too.
    raw_v4: bool,
}

impl Probe {
    pub(crate) fn open(target: Target) -> Result<Self, Error> {
        let failed = |source| Error::Io {
            doing: "opening a socket to",
            target,
            source,
        };
        let (socket, raw) = match target {
            Target::Udp(_) => (UdpSocket::bind((any(target.ip()), 0)).map_err(failed)?, false),
            Target::Ping(to) => ping_socket(to).map_err(|source| match source.kind() {
                ErrorKind::PermissionDenied => Error::NotAllowed { target: to, source },
                _ => failed(source),
            })?,
        };
        let set = match target.ip() {
            IpAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE),
            IpAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE),
        };
        set.map_err(|errno| failed(errno.into()))?;
        let to = match target {
            Target::Udp(to) => to,
            Target::Ping(to) => SocketAddr::new(to, 0),
        };
        socket.connect(to).map_err(|source| Error::Io {
            doing: "finding a way to",
            target,
            source,
        })?;
        Ok(Self {
            target,
            socket,
            token: token(),
            raw_v4: raw && to.is_ipv4(),
        })
    }

    /// The link that packets leave by, and its MTU.
    pub(crate) fn link(&self) -> Result<(String, u32), Error> {
        let local = self.socket.local_addr().map_err(|error| error.to_string());
        let found = local.and_then(|local| link::of(local.ip()));
        found.map_err(|what| Error::Link {
            target: self.target,
            what,
        })
    }

    /// How many bytes every path of the family carries.
    pub(crate) const fn least(&self) -> u32 {
        match self.target.ip() {
            IpAddr::V4(_) => LEAST_V4,
            IpAddr::V6(_) => LEAST_V6,
        }
    }

    /// Sends a packet of that many bytes, headers and all; false if this end refuses its size.
    pub(crate) fn send(&self, size: u32) -> Result<bool, Error> {
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let mut packet = answer::question(self.token, length.saturating_sub(self.headers()));
        if let Target::Ping(to) = self.target {
            packet = echo_request(to, self.token, &packet);
        }
        for _ in 0..2 {
            match self.socket.send(&packet) {
                Ok(_) => return Ok(true),
                // Perhaps an answer to an earlier packet: that one is told first.
                Err(error) if is_too_big(&error) => {}
                Err(error) => return Err(self.failed("sending to", error)),
            }
        }
        Ok(false)
    }

    /// Waits until something comes back, no longer than `limit`.
    pub(crate) fn hear(&self, limit: Duration) -> Result<Heard, Error> {
        let mut buffer = vec![0; 66 << 10];
        let limit = limit.max(Duration::from_micros(1));
        let set = self.socket.set_read_timeout(Some(limit));
        set.map_err(|error| self.failed("waiting for", error))?;
        match self.socket.recv(&mut buffer) {
            Ok(length) => Ok(self
                .payload(&buffer[..length])
                .and_then(|payload| answer::answered(self.token, payload))
                .and_then(|length| u32::try_from(length + self.headers()).ok())
                .map_or(Heard::Nothing, Heard::Arrived)),
            Err(error) if is_too_big(&error) => Ok(Heard::TooBig),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(Heard::Nothing),
                _ => Err(self.failed("waiting for", error)),
            },
        }
    }

    /// What this end has been told that the path carries.
    pub(crate) fn told(&self) -> Option<u32> {
        let told = match self.target.ip() {
            IpAddr::V4(_) => ip_mtu(&self.socket),
            IpAddr::V6(_) => ipv6_mtu(&self.socket),
        };
        told.ok()
    }

    fn headers(&self) -> usize {
        HEADER + if self.target.ip().is_ipv4() { 20 } else { 40 }
    }

    /// What a packet carries, if it can be an answer.
    fn payload<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let Target::Ping(to) = self.target else {
            return Some(packet);
        };
        let packet = match self.raw_v4 {
            true => packet.get(usize::from(packet.first()? & 0xf) * 4..)?,
            false => packet,
        };
        let reply = if to.is_ipv4() { ECHO_V4.1 } else { ECHO_V6.1 };
        (*packet.first()? == reply).then(|| packet.get(HEADER..))?
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> Error {
        Error::Io {
            doing,
            target: self.target,
            source,
        }
    }
}

/// A raw socket where that is allowed, otherwise one that only pings; whether it is raw.
fn ping_socket(to: IpAddr) -> io::Result<(UdpSocket, bool)> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let open = |kind| -> io::Result<OwnedFd> { Ok(socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?) };
    // Either sends and receives datagrams just as a UDP socket does.
    match open(SockType::Raw) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Ok((UdpSocket::from(open(SockType::Datagram)?), false))
        }
        opened => Ok((UdpSocket::from(opened?), true)),
    }
}

/// An ICMP echo request. The kernel fills ICMPv6's checksum in, and the identifier of sockets that
/// only ping: the payload tells answers apart.
fn echo_request(to: IpAddr, token: u64, payload: &[u8]) -> Vec<u8> {
    let kind = if to.is_ipv4() { ECHO_V4.0 } else { ECHO_V6.0 };
    let [.., high, low] = token.to_be_bytes();
    let mut packet = vec![kind, 0, 0, 0, high, low, 0, 0];
    packet.extend(payload);
    if to.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// RFC 1071.
fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks(2);
    let words = words.map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Another for each probe, also of other processes and namespaces.
fn token() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_nanos() as u64;
    let own = PROBES.fetch_add(1, Ordering::Relaxed) << 32 | u64::from(std::process::id());
    now.rotate_left(20) ^ own
}

fn any(to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn is_too_big(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EMSGSIZE as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_over_itself_is_zero() {
        for payload in [&b""[..], b"abc", b"abcd"] {
            let packet = echo_request([192, 0, 2, 1].into(), 0x1234, payload);
            assert_eq!(checksum(&packet), 0);
        }
    }

    #[test]
    fn no_two_probes_have_the_same_token() {
        let tokens: std::collections::BTreeSet<u64> = (0..100).map(|_| token()).collect();
        assert_eq!(tokens.len(), 100);
    }
}
