//! One ICMP echo, as `ping -c 1` sends it.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process;
use std::time::{Duration, Instant};

use kernel::NetNs;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};

const TIMEOUT: Duration = Duration::from_secs(2);
const HEADER: usize = 8;

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pong {
    /// The echo.
    Reply,
    /// Somebody's word that the destination can't be reached.
    Unreachable {
        /// Who said so.
        from: IpAddr,
    },
    /// Somebody's word that the packet is too big, and what gets through.
    TooBig {
        /// How large it may be; unknown if this end itself refused.
        mtu: Option<u32>,
    },
    /// Nothing.
    Silence,
}

/// The ICMP types of one family.
struct Types {
    request: u8,
    reply: u8,
    unreachable: u8,
    /// The type and code of "too big", and where it says how big one may be.
    too_big: (u8, u8),
}

const V4: Types = Types {
    request: 8,
    reply: 0,
    unreachable: 3,
    too_big: (3, 4),
};
const V6: Types = Types {
    request: 128,
    reply: 129,
    unreachable: 1,
    too_big: (2, 0),
};

/// Sends one echo request with `size` bytes of payload from `netns` and waits up to two seconds.
pub fn ping(netns: &NetNs, target: IpAddr, size: usize) -> io::Result<Pong> {
    netns
        .run(|| ping_here(target, size, false))
        .map_err(io::Error::other)?
}

/// A raw socket for ICMPv6 messages of one's own in the calling thread's namespace, with that hop
/// limit; the kernel fills the checksum in. It sends and receives datagrams just as a UDP socket does.
pub fn icmp6_socket(hops: i32) -> io::Result<UdpSocket> {
    use nix::sys::socket::{setsockopt, sockopt};
    let raw = socket(
        AddressFamily::Inet6,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::IcmpV6,
    )?;
    setsockopt(&raw, sockopt::Ipv6MulticastHops, &hops)?;
    setsockopt(&raw, sockopt::Ipv6Ttl, &hops)?;
    Ok(UdpSocket::from(raw))
}

/// Sends one echo request as a packet of `packet` bytes, headers and all, that may not be fragmented,
/// whatever this end has learnt about the path.
pub fn ping_whole(netns: &NetNs, target: IpAddr, packet: usize) -> io::Result<Pong> {
    let headers = if target.is_ipv4() { 20 } else { 40 } + HEADER;
    netns
        .run(|| ping_here(target, packet - headers, true))
        .map_err(io::Error::other)?
}

fn ping_here(target: IpAddr, size: usize, whole: bool) -> io::Result<Pong> {
    let (family, protocol, types) = match target {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, V4),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, V6),
    };
    let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    // A raw socket sends and receives datagrams just as a UDP socket does.
    let socket = UdpSocket::from(raw);
    match target {
        _ if !whole => {}
        IpAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?,
        IpAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?,
    }
    let id = (process::id() & 0xffff) as u16;
    match socket.send_to(&request(types.request, id, size), SocketAddr::new(target, 0)) {
        Err(error) if error.kind() == io::ErrorKind::HostUnreachable => {
            return Ok(Pong::Unreachable { from: target });
        }
        Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
            return Ok(Pong::TooBig { mtu: None });
        }
        sent => sent?,
    };
    let end = Instant::now() + TIMEOUT;
    let mut buffer = vec![0; 65536];
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        socket.set_read_timeout(Some(left))?;
        let (length, from) = match socket.recv_from(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            received => received?,
        };
        let message = payload(target, &buffer[..length]);
        match message {
            [kind, _, _, _, a, b, ..] if *kind == types.reply && [*a, *b] == id.to_be_bytes() => {
                return Ok(Pong::Reply);
            }
            [kind, code, _, _, rest @ ..] if (*kind, *code) == types.too_big => {
                return Ok(Pong::TooBig {
                    mtu: told(target, rest),
                });
            }
            [kind, ..] if *kind == types.unreachable => return Ok(Pong::Unreachable { from: from.ip() }),
            _ => {}
        }
    }
    Ok(Pong::Silence)
}

/// How large a packet may be, from what follows the checksum of "too big".
fn told(target: IpAddr, rest: &[u8]) -> Option<u32> {
    match (target, rest) {
        (IpAddr::V4(_), [_, _, high, low, ..]) => Some(u16::from_be_bytes([*high, *low]).into()),
        (IpAddr::V6(_), [a, b, c, d, ..]) => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// The ICMP message: IPv4 raw sockets see the IP header before it, IPv6 ones don't.
fn payload(target: IpAddr, packet: &[u8]) -> &[u8] {
    let header = match target {
        IpAddr::V4(_) => packet.first().map_or(0, |first| usize::from(first & 0xf) * 4),
        IpAddr::V6(_) => 0,
    };
    packet.get(header..).unwrap_or_default()
}

fn request(kind: u8, id: u16, size: usize) -> Vec<u8> {
    let mut message = vec![0; HEADER + size];
    message[0] = kind;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[7] = 1;
    // The kernel overwrites the checksum of ICMPv6.
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn checksum(message: &[u8]) -> u16 {
    let words = message
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_its_checksum_sums_to_zero() {
        assert_eq!(checksum(&request(8, 7, 5)), 0);
    }
}
