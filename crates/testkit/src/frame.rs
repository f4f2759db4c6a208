//! Frames as they are, sent past the sender's own network stack.

use std::io;
use std::os::fd::AsRawFd;

use kernel::NetNs;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, sendto, socket,
};

/// Sends frames, Ethernet header and all, by a link of a namespace.
pub fn send_frames(netns: &NetNs, link: &str, frames: &[Vec<u8>]) -> io::Result<()> {
    netns.run(|| send(link, frames)).map_err(io::Error::other)?
}

fn send(link: &str, frames: &[Vec<u8>]) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    let to = address(link)?;
    for frame in frames {
        sendto(socket.as_raw_fd(), frame, &to, MsgFlags::empty())?;
    }
    Ok(())
}

/// A link as packet sockets address it.
fn address(link: &str) -> io::Result<LinkAddr> {
    let packet = |address: &LinkAddr| address.family() == Some(AddressFamily::Packet);
    getifaddrs()?
        .filter(|found| found.interface_name == link)
        .find_map(|found| found.address?.as_link_addr().copied().filter(packet))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no link {link}")))
}
