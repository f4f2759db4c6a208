//! What paths carry: probes, so that the kernel learns it before pods' packets are lost.
//!
//! A probe is one datagram as large as the link takes that routers may not fragment. The router
//! whose next link takes less says so, and the kernel remembers it as it does for every sender
//! ([`Netlink::path_mtu`] tells). A probe goes to the port of tunnels and names no tunnel, so
//! whoever receives one drops it.
//!
//! [`Netlink::path_mtu`]: crate::Netlink::path_mtu

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};

use crate::{Error, NetNs, Result};

/// Sockets to probe with. They must live until the answers are in: the kernel learns nothing for a
/// socket that is gone.
#[derive(Debug)]
pub struct Probes {
    v4: UdpSocket,
    /// None where the kernel has no IPv6.
    v6: Option<UdpSocket>,
}

impl Probes {
    /// Opens the sockets in a namespace.
    pub fn open(netns: &NetNs) -> Result<Probes> {
        let failed = |source| Error::Io {
            action: "open a socket to probe paths with",
            source,
        };
        netns.run(|| {
            Ok(Probes {
                v4: open(Ipv4Addr::UNSPECIFIED.into()).map_err(failed)?,
                v6: open(Ipv6Addr::UNSPECIFIED.into()).ok(),
            })
        })?
    }

    /// Sends each of the addresses a packet of `mtu` bytes. What can't be sent isn't: that shows
    /// elsewhere.
    pub fn send(&self, addresses: &BTreeSet<IpAddr>, port: u16, mtu: u32) {
        const UDP: usize = 8;
        let zeros = vec![0; usize::try_from(mtu).unwrap_or_default()];
        for address in addresses {
            let (socket, headers) = match address {
                IpAddr::V4(_) => (Some(&self.v4), 20 + UDP),
                IpAddr::V6(_) => (self.v6.as_ref(), 40 + UDP),
            };
            if let (Some(socket), Some(payload)) = (socket, zeros.get(headers..)) {
                let _ = socket.send_to(payload, SocketAddr::new(*address, port));
            }
        }
    }
}

fn open(any: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((any, 0))?;
    // A full queue isn't worth waiting for.
    socket.set_nonblocking(true)?;
    match any {
        IpAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?,
        IpAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?,
    }
    Ok(socket)
}
