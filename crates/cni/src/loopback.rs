//! The `loopback` plugin: brings `lo` up in the container's network namespace.
//!
//! containerd calls a plugin of that name for every sandbox, with a configuration of its own that
//! has no `socket`. So this needs no agent: it joins the namespace, sends one netlink message, and
//! reads back what `lo` has. A pod's loopback works even while the agent restarts.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use cni::{AddResult, Call, Code, Command, Error, Interface, Ip, NetworkConfig};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto,
    socket,
};
use serde_json::Value;

const LO: &str = "lo";
/// Every network namespace has its loopback link at index 1.
const LO_INDEX: i32 = 1;
const LO_MAC: &str = "00:00:00:00:00:00";

// linux/netlink.h, linux/rtnetlink.h, linux/if.h
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const IFF_UP: u32 = 1;

/// Serves one call.
pub(crate) fn run(call: &Call, config: &NetworkConfig) -> Result<Option<Value>, Error> {
    let version = config.version_for(call.command)?;
    let netns = call.netns.as_deref().unwrap_or_default();
    match call.command {
        Command::Add => {
            join(netns)?;
            set_up()?;
            if let Some(previous) = config.prev_result.as_ref().filter(|value| !value.is_null()) {
                return Ok(Some(previous.clone()));
            }
            let (_, addresses) = observe()?;
            Ok(Some(result(netns, addresses).render(version)))
        }
        Command::Check => {
            join(netns)?;
            match observe()? {
                (true, _) => Ok(None),
                (false, _) => Err(Error::new(Code::CheckFailed, format!("{LO} is down in {netns}"))),
            }
        }
        // The link goes with its namespace, and there's nothing else that could be left or wrong.
        Command::Del | Command::Status | Command::Gc | Command::Version => Ok(None),
    }
}

fn result(netns: &str, addresses: Vec<IpNet>) -> AddResult {
    AddResult {
        interfaces: vec![Interface {
            name: LO.to_owned(),
            mac: LO_MAC.to_owned(),
            mtu: None,
            sandbox: Some(netns.to_owned()),
        }],
        ips: addresses
            .into_iter()
            .map(|address| Ip {
                interface: Some(0),
                address,
                gateway: None,
            })
            .collect(),
        routes: Vec::new(),
    }
}

/// Moves this thread, the plugin's only one, into the namespace for the rest of its life.
fn join(netns: &str) -> Result<(), Error> {
    let file = File::open(netns).map_err(|error| {
        Error::new(
            Code::UnknownContainer,
            format!("network namespace {netns} can't be opened: {error}"),
        )
    })?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| {
        Error::new(
            Code::Io,
            format!("{netns} can't be joined as a network namespace: {error}"),
        )
    })
}

/// RTM_NEWLINK with `IFF_UP` set, acknowledged by the kernel.
fn set_up() -> Result<(), Error> {
    let failed = |error: nix::Error| Error::new(Code::Io, format!("{LO} can't be brought up: {error}"));
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )
    .map_err(failed)?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(
        netlink.as_raw_fd(),
        &link_up_message(),
        &kernel,
        MsgFlags::empty(),
    )
    .map_err(failed)?;
    let mut answer = [0u8; 256];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(failed)?;
    match acknowledgement(&answer[..length]) {
        Some(0) => Ok(()),
        Some(errno) => Err(failed(nix::Error::from_raw(-errno))),
        None => Err(Error::new(
            Code::Io,
            format!("{LO} can't be brought up: the kernel's answer is no answer"),
        )),
    }
}

/// `struct nlmsghdr` and `struct ifinfomsg`, 16 bytes each.
fn link_up_message() -> [u8; 32] {
    let mut message = [0u8; 32];
    message[0..4].copy_from_slice(&32u32.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    message[8..12].copy_from_slice(&1u32.to_ne_bytes());
    message[20..24].copy_from_slice(&LO_INDEX.to_ne_bytes());
    message[24..28].copy_from_slice(&IFF_UP.to_ne_bytes());
    message[28..32].copy_from_slice(&IFF_UP.to_ne_bytes());
    message
}

/// The number in an NLMSG_ERROR: 0, or an errno below it.
fn acknowledgement(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let errno = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(errno)
}

/// Whether `lo` is up in this thread's namespace, and its addresses.
fn observe() -> Result<(bool, Vec<IpNet>), Error> {
    let entries = getifaddrs()
        .map_err(|error| Error::new(Code::Io, format!("the addresses of {LO} can't be read: {error}")))?;
    let mut up = false;
    let mut addresses = Vec::new();
    for entry in entries.filter(|entry| entry.interface_name == LO) {
        up |= entry.flags.contains(InterfaceFlags::IFF_UP);
        let address = entry.address.as_ref().and_then(ip);
        let netmask = entry.netmask.as_ref().and_then(ip);
        if let (Some(address), Some(netmask)) = (address, netmask) {
            addresses.extend(IpNet::with_netmask(address, netmask));
        }
    }
    Ok((up, addresses))
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}
