//! Forwarding databases of tunnels: which node an Ethernet address's frames are sent to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::MacAddr;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::{Netlink, Result};

/// A permanent entry of a VXLAN link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fdb {
    /// The link's index.
    pub link: u32,
    /// The Ethernet address; all zeros for frames that no other entry is about.
    pub mac: MacAddr,
    /// Where its frames are sent.
    pub remote: IpAddr,
}

impl Netlink {
    /// The entries of a VXLAN link that say where to, whether they were written or learned.
    pub async fn fdb(&self, link: u32) -> Result<Vec<Fdb>> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        // The kernel's filter is for bridges' ports; ours is below.
        let request = RouteNetlinkMessage::GetNeighbour(message);
        let objects = self
            .dump(request, || "list the forwarding databases".into())
            .await?;
        let entries = objects.into_iter().filter_map(parse);
        Ok(entries.filter(|entry| entry.link == link).collect())
    }

    /// Adds an entry, or replaces where that address's frames are sent.
    pub async fn replace_fdb(&self, entry: &Fdb) -> Result<()> {
        let message = RouteNetlinkMessage::NewNeighbour(message(entry));
        self.execute(message, NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("set forwarding entry {} to {}", entry.mac, entry.remote)
        })
        .await
    }

    /// Deletes exactly this entry; false if it isn't there.
    pub async fn delete_fdb(&self, entry: &Fdb) -> Result<bool> {
        let message = RouteNetlinkMessage::DelNeighbour(message(entry));
        let request = || format!("delete forwarding entry {} to {}", entry.mac, entry.remote);
        match self.execute(message, 0, request).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn message(entry: &Fdb) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let header = &mut message.header;
    header.family = AddressFamily::Bridge;
    header.ifindex = entry.link;
    header.state = NeighbourState::Permanent;
    header.flags = NeighbourFlags::Own;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(entry.mac.0.to_vec()));
    message
        .attributes
        .push(NeighbourAttribute::Destination(NeighbourAddress::from(
            entry.remote,
        )));
    message
}

fn parse(object: RouteNetlinkMessage) -> Option<Fdb> {
    let RouteNetlinkMessage::NewNeighbour(message) = object else {
        return None;
    };
    let (mut mac, mut remote) = (None, None);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok().map(MacAddr),
            NeighbourAttribute::Destination(address) => remote = ip(&address),
            _ => {}
        }
    }
    Some(Fdb {
        link: message.header.ifindex,
        mac: mac?,
        remote: remote?,
    })
}

/// The family of these messages isn't that of the address.
fn ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(address) => Some(IpAddr::V4(*address)),
        NeighbourAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        NeighbourAddress::Other(bytes) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(|octets| Ipv4Addr::from(octets).into());
            let v6 = <[u8; 16]>::try_from(bytes.as_slice()).map(|octets| Ipv6Addr::from(octets).into());
            v4.or(v6).ok()
        }
        _ => None,
    }
}
