//! Neighbours: which Ethernet address an IP address on a link has.

use std::net::IpAddr;

use model::MacAddr;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::{Netlink, Result};

/// A neighbour that never expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The link's index.
    pub link: u32,
    /// Its IP address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

impl Netlink {
    /// The permanent neighbours of all links.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let objects = self.dump(request, || "list neighbours".into()).await?;
        Ok(objects.into_iter().filter_map(parse).collect())
    }

    /// Adds a permanent neighbour, or replaces what is known about that address.
    pub async fn replace_neighbour(&self, neighbour: &Neighbour) -> Result<()> {
        let message = RouteNetlinkMessage::NewNeighbour(message(neighbour));
        self.execute(message, NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("set neighbour {}", neighbour.address)
        })
        .await
    }

    /// Deletes a neighbour; false if it isn't there.
    pub async fn delete_neighbour(&self, neighbour: &Neighbour) -> Result<bool> {
        let message = RouteNetlinkMessage::DelNeighbour(message(neighbour));
        match self
            .execute(message, 0, || format!("delete neighbour {}", neighbour.address))
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn message(neighbour: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let (family, address) = match neighbour.address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message.header.ifindex = neighbour.link;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(neighbour.mac.0.to_vec()));
    message
}

fn parse(object: RouteNetlinkMessage) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = object else {
        return None;
    };
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => {
                address = Some(IpAddr::V4(found))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                address = Some(IpAddr::V6(found))
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok().map(MacAddr),
            _ => {}
        }
    }
    Some(Neighbour {
        link: message.header.ifindex,
        address: address?,
        mac: mac?,
    })
}
