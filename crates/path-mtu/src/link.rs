//! The link that an address is on.
//!
//! The kernel is asked over rtnetlink: `/sys/class/net` shows the namespace that it was mounted in,
//! not that of the thread that reads.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, socket};

/// Numbers of `linux/rtnetlink.h` and `linux/if_link.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const IFLA_MTU: u16 = 4;
/// `struct nlmsghdr` and `struct ifinfomsg`.
const HEADERS: usize = 16 + 16;

/// The link that has the address, and its MTU; or what is missing.
pub(crate) fn of(local: IpAddr) -> Result<(String, u32), String> {
    let name = nix::ifaddrs::getifaddrs()
        .map_err(|error| error.to_string())?
        .find(|found| has(found.address.as_ref(), local))
        .map(|found| found.interface_name)
        .ok_or_else(|| format!("no interface has {local}"))?;
    let mtu = mtu(&name).map_err(|error| format!("the MTU of {name}: {error}"))?;
    Ok((name, mtu))
}

fn has(address: Option<&SockaddrStorage>, wanted: IpAddr) -> bool {
    let Some(address) = address else { return false };
    let v4 = address.as_sockaddr_in().map(|found| IpAddr::V4(found.ip()));
    let v6 = address.as_sockaddr_in6().map(|found| IpAddr::V6(found.ip()));
    v4.or(v6) == Some(wanted)
}

fn mtu(name: &str) -> io::Result<u32> {
    let index = if_nametoindex(name)?;
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    // It sends and receives datagrams just as a UDP socket does; what names nobody is the kernel's.
    let netlink = UdpSocket::from(netlink);
    netlink.set_read_timeout(Some(Duration::from_secs(2)))?;
    netlink.send(&question(index))?;
    let mut buffer = vec![0; 32 << 10];
    let length = netlink.recv(&mut buffer)?;
    let unexpected = || io::Error::new(ErrorKind::InvalidData, "the kernel's answer has none");
    answer(&buffer[..length]).ok_or_else(unexpected)
}

/// `RTM_GETLINK` about one link.
fn question(index: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADERS);
    message.extend((HEADERS as u32).to_ne_bytes());
    message.extend(RTM_GETLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence and port; then family, type.
    message.extend([0; 8 + 4]);
    message.extend(index.to_ne_bytes());
    message.resize(HEADERS, 0);
    message
}

/// The attribute `IFLA_MTU` of a link's description.
fn answer(message: &[u8]) -> Option<u32> {
    let word = |at: usize| Some(u16::from_ne_bytes(message.get(at..at + 2)?.try_into().ok()?));
    if word(4)? != RTM_NEWLINK {
        return None;
    }
    let mut at = HEADERS;
    loop {
        let length = usize::from(word(at)?);
        if word(at + 2)? == IFLA_MTU {
            return Some(u32::from_ne_bytes(message.get(at + 4..at + 8)?.try_into().ok()?));
        }
        // An attribute is at least its own header, and begins at a multiple of four.
        at += length.max(4).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_by_its_addresses() {
        for address in ["127.0.0.1", "::1"] {
            let (name, mtu) = of(address.parse().expect("an address")).expect("every machine has it");
            assert_eq!((name.as_str(), mtu), ("lo", 65536));
        }
    }

    #[test]
    fn an_address_that_nobody_has_is_named() {
        let said = of([192, 0, 2, 1].into()).expect_err("a documentation address");
        assert_eq!(said, "no interface has 192.0.2.1");
    }

    #[test]
    fn what_is_no_description_of_a_link_has_no_mtu() {
        assert_eq!(answer(&[]), None);
        assert_eq!(answer(&question(1)), None);
        let mut cut = question(1);
        cut[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
        cut.extend([0, 0, 1, 0, 8, 0, 4, 0, 1]);
        assert_eq!(answer(&cut), None);
    }
}
