//! Echo requests to other nodes: those are answered by a node's kernel, whatever becomes of its processes, and by
//! nobody once it has lost its power or its link.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::{Error, NetNs, Result};

/// Sockets to ask other nodes with.
#[derive(Debug)]
pub struct Echoes {
    v4: UdpSocket,
    /// None where the kernel has no IPv6.
    v6: Option<UdpSocket>,
    id: u16,
}

/// The ICMP of one family.
struct Icmp {
    request: u8,
    reply: u8,
}

const V4: Icmp = Icmp { request: 8, reply: 0 };
const V6: Icmp = Icmp {
    request: 128,
    reply: 129,
};

impl Echoes {
    /// Opens the sockets in a namespace.
    pub fn open(netns: &NetNs) -> Result<Echoes> {
        let failed = |source| Error::Io {
            action: "open a socket to ask other nodes with",
            source,
        };
        netns.run(|| {
            Ok(Echoes {
                v4: open(Ipv4Addr::UNSPECIFIED.into()).map_err(failed)?,
                v6: open(Ipv6Addr::UNSPECIFIED.into()).ok(),
                id: (std::process::id() & 0xffff) as u16,
            })
        })?
    }

    /// Asks an address. What can't be sent isn't: no answer will say so.
    pub fn ask(&self, to: IpAddr) {
        let (socket, kind) = match to {
            IpAddr::V4(_) => (Some(&self.v4), V4.request),
            IpAddr::V6(_) => (self.v6.as_ref(), V6.request),
        };
        if let Some(socket) = socket {
            let _ = socket.send_to(&request(kind, self.id), SocketAddr::new(to, 0));
        }
    }

    /// Who has answered since the last time.
    pub fn answers(&self) -> BTreeSet<IpAddr> {
        let mut from = BTreeSet::new();
        let mut buffer = [0; 128];
        for socket in [Some(&self.v4), self.v6.as_ref()].into_iter().flatten() {
            // An error is one of an earlier request, and takes nobody's answer away.
            while let Some(received) = receive(socket, &mut buffer) {
                let Ok((length, sender)) = received else { continue };
                if is_answer(sender.ip(), &buffer[..length], self.id) {
                    from.insert(sender.ip());
                }
            }
        }
        from
    }
}

/// The next packet, or what became of an earlier one; none if there is neither.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<io::Result<(usize, SocketAddr)>> {
    match socket.recv_from(buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        received => Some(received),
    }
}

/// A raw socket, which sends and receives datagrams as one of UDP does. It hears nothing but answers.
fn open(any: IpAddr) -> io::Result<UdpSocket> {
    const ICMP_FILTER: libc::c_int = 1;
    const ICMPV6_FILTER: libc::c_int = 1;
    let (family, protocol) = match any {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let raw: OwnedFd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    match any {
        IpAddr::V4(_) => {
            let others: u32 = !(1 << V4.reply);
            set_option(&raw, libc::SOL_RAW, ICMP_FILTER, &others)?;
        }
        IpAddr::V6(_) => {
            let mut others = [u32::MAX; 8];
            others[usize::from(V6.reply >> 5)] &= !(1 << (V6.reply & 31));
            set_option(&raw, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &others)?;
        }
    }
    let socket = UdpSocket::from(raw);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether a packet is an answer to one of ours: IPv4's raw sockets see the IP header, too.
fn is_answer(from: IpAddr, packet: &[u8], id: u16) -> bool {
    let (header, reply) = match from {
        IpAddr::V4(_) => (
            packet.first().map_or(0, |first| usize::from(first & 0xf) * 4),
            V4.reply,
        ),
        IpAddr::V6(_) => (0, V6.reply),
    };
    matches!(packet.get(header..), Some([kind, _, _, _, a, b, ..])
        if *kind == reply && [*a, *b] == id.to_be_bytes())
}

/// The kernel overwrites the checksum of ICMPv6.
fn request(kind: u8, id: u16) -> [u8; 8] {
    // Two words of it aren't zero.
    let sum = (u32::from(kind) << 8) + u32::from(id);
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).expect("the sum of two words was folded");
    let ([a, b], [c, d]) = (id.to_be_bytes(), (!folded).to_be_bytes());
    [kind, 0, c, d, a, b, 0, 0]
}

fn set_option<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let size = u32::try_from(size_of::<T>()).expect("options are small");
    // SAFETY: the value is valid for its size during the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size,
        )
    };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_sums_to_zero() {
        for id in [0, 1, 0x1234, 0xf7ff, 0xffff] {
            let request = request(V4.request, id);
            let words = request
                .chunks(2)
                .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
            let sum: u32 = words.sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{id}");
        }
    }

    #[test]
    fn answers_to_others_are_none() {
        let (v4, v6) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let answer = |kind, id: u16| [&[kind, 0, 0, 0][..], &id.to_be_bytes(), &[0, 0]].concat();
        let header = [&[0x45][..], &[0; 19]].concat();
        assert!(is_answer(v4, &[header.clone(), answer(0, 7)].concat(), 7));
        assert!(!is_answer(v4, &[header.clone(), answer(0, 8)].concat(), 7));
        assert!(!is_answer(v4, &[header, answer(8, 7)].concat(), 7));
        assert!(is_answer(v6, &answer(129, 7), 7) && !is_answer(v6, &answer(128, 7), 7));
        assert!(!is_answer(v4, &[], 7) && !is_answer(v6, &[129], 7));
    }
}
