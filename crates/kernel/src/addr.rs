//! Addresses on links.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use plan::LOOPBACK;

use crate::route::PROTOCOL;
use crate::{Error, Netlink, Result};

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// The address with its prefix length.
    pub address: IpNet,
    /// Whether it's valid beyond its link and host.
    pub global: bool,
    /// Whether Ripstop gave it: to the loopback, or to another link for a while ([`crate::held`]).
    /// Kernels before Linux 5.18 don't remember.
    pub own: bool,
    /// Whether duplicate address detection isn't done with it, or failed: it can't be used yet.
    pub tentative: bool,
}

impl Netlink {
    /// All addresses of both families.
    pub async fn addresses(&self) -> Result<Vec<Address>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let objects = self.dump(request, || "list addresses".into()).await?;
        Ok(objects.into_iter().filter_map(parse).collect())
    }

    /// Adds an address; IPv6 without duplicate detection, so that it can be used at once. False if
    /// it was there.
    pub async fn add_address(&self, link: u32, address: IpNet) -> Result<bool> {
        let message = RouteNetlinkMessage::NewAddress(message(link, address));
        let request = || format!("add address {address} to link {link}");
        match self.execute(message, NLM_F_CREATE | NLM_F_EXCL, request).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Adds an address to the loopback, marked as Ripstop's; false if it was there.
    pub(crate) async fn add_own_address(&self, address: IpAddr) -> Result<bool> {
        let mut message = message(self.link_index(LOOPBACK).await?, IpNet::from(address));
        let own = AddressProtocol::from(PROTOCOL);
        message.attributes.push(AddressAttribute::Protocol(own));
        let message = RouteNetlinkMessage::NewAddress(message);
        let request = || format!("add address {address} to {LOOPBACK}");
        match self.execute(message, NLM_F_CREATE | NLM_F_EXCL, request).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes an address from the loopback; false if it wasn't there.
    pub(crate) async fn delete_own_address(&self, address: IpAddr) -> Result<bool> {
        let link = self.link_index(LOOPBACK).await?;
        self.delete_address(link, IpNet::from(address)).await
    }

    /// Waits until packets to an address that was added to a running link are taken in. IPv6 makes
    /// the route to the address itself some time after it has said that the address is there, and
    /// until then drops or forwards what comes.
    pub async fn wait_address(&self, address: IpAddr) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(5);
        const PAUSE: Duration = Duration::from_millis(1);
        let end = Instant::now() + PATIENCE;
        while !self.is_local(address).await? {
            if Instant::now() > end {
                return Err(Error::AddressUnused(address));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Removes an address; false if it wasn't there.
    pub async fn delete_address(&self, link: u32, address: IpNet) -> Result<bool> {
        let message = RouteNetlinkMessage::DelAddress(message(link, address));
        let request = || format!("delete address {address} from link {link}");
        match self.execute(message, 0, request).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

pub(crate) fn message(link: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = link;
    message.header.prefix_len = address.prefix_len();
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    match address {
        IpNet::V4(net) => {
            message.header.family = AddressFamily::Inet;
            if net.prefix_len() < 31 {
                message
                    .attributes
                    .push(AddressAttribute::Broadcast(net.broadcast()));
            }
        }
        IpNet::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            message.header.flags = AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message
}

fn parse(object: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = object else {
        return None;
    };
    let (mut local, mut address, mut own) = (None, None, false);
    let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(found) => local = Some(found),
            AddressAttribute::Address(found) => address = Some(found),
            AddressAttribute::Protocol(protocol) => own = u8::from(protocol) == PROTOCOL,
            _ => {}
        }
    }
    // On a point-to-point link `Address` is the other end's; IPv6 has `Local` only there.
    let ip: IpAddr = local.or(address)?;
    Some(Address {
        link: message.header.index,
        address: IpNet::new(ip, message.header.prefix_len).ok()?,
        own,
        global: message.header.scope == AddressScope::Universe,
        tentative: message.header.flags.intersects(unusable),
    })
}
