//! Telling everybody on a link which Ethernet address an IP address has now, unasked: gratuitous ARP, and
//! unsolicited neighbour advertisements.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use model::MacAddr;

use crate::{Error, Netlink, Result};

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const BROADCAST: MacAddr = MacAddr([0xff; 6]);
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

/// Says on a link that `mac` has these addresses.
pub fn tell(netlink: &Netlink, link: u32, mac: MacAddr, addresses: &[IpAddr]) -> Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    let failed = |action| move |source| Error::Io { action, source };
    let socket = netlink
        .netns()
        .run(socket)?
        .map_err(failed("open a packet socket"))?;
    for address in addresses {
        for frame in frames(mac, *address) {
            send(&socket, link, &frame).map_err(failed("send a frame"))?;
        }
    }
    Ok(())
}

/// The frames that say it: ARP has two forms, and some listen to one only.
fn frames(mac: MacAddr, address: IpAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => vec![arp(mac, address, 1), arp(mac, address, 2)],
        IpAddr::V6(address) => vec![advertisement(mac, address)],
    }
}

fn ethernet(to: MacAddr, from: MacAddr, kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(86);
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(kind.to_be_bytes());
    frame
}

/// A request (1) or reply (2) about oneself.
fn arp(mac: MacAddr, address: Ipv4Addr, operation: u16) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ARP);
    // Ethernet and IPv4, with addresses of 6 and 4 bytes.
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend(if operation == 1 { [0; 6] } else { BROADCAST.0 });
    frame.extend(address.octets());
    frame
}

fn advertisement(mac: MacAddr, address: Ipv6Addr) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    const ADVERTISEMENT: u8 = 136;
    /// What was known of the address before is to be forgotten.
    const OVERRIDE: u8 = 0x20;
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    // The option that tells the Ethernet address, one unit of eight bytes long.
    message.extend([2, 1]);
    message.extend(mac.0);
    let length = u16::try_from(message.len()).expect("an advertisement is short");
    let sum = checksum(address, ALL_NODES, ICMPV6, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(ALL_NODES_MAC, mac, IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    // Nobody beyond the link can have sent what has all its hops left.
    frame.extend([ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// The Internet checksum of a message, with the addresses that it goes between.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, message: &[u8]) -> u16 {
    let mut sum: u32 = u32::try_from(message.len()).unwrap_or(u32::MAX) + u32::from(protocol);
    let addresses = from.octets().into_iter().chain(to.octets());
    let bytes: Vec<u8> = addresses.chain(message.iter().copied()).collect();
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("it was folded")
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; protocol 0 means that nothing is received.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

fn send(socket: &OwnedFd, link: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: all of its fields may be zero.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = u16::try_from(libc::AF_PACKET).expect("address families are small");
    to.sll_protocol = u16::from_be_bytes([frame[12], frame[13]]).to_be();
    to.sll_ifindex = i32::try_from(link).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.sll_halen = 6;
    to.sll_addr[..6].copy_from_slice(&frame[..6]);
    let size = u32::try_from(size_of::<libc::sockaddr_ll>()).expect("an address is small");
    // SAFETY: the frame and the address are valid for their sizes during the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_the_standards_have_them() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let reply = arp(mac, Ipv4Addr::new(172, 30, 0, 200), 2);
        assert_eq!(reply.len(), 42);
        assert_eq!(reply[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        assert_eq!(
            (&reply[28..32], &reply[38..42]),
            (&[172, 30, 0, 200][..], &[172, 30, 0, 200][..])
        );
        let address: Ipv6Addr = "fd00:172:30::200".parse().unwrap();
        let frame = advertisement(mac, address);
        assert_eq!(frame.len(), 14 + 40 + 32);
        // A right checksum makes the sum of everything zero.
        assert_eq!(checksum(address, ALL_NODES, 58, &frame[54..]), 0);
    }
}
