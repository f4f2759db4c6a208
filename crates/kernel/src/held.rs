//! Addresses that a node holds for a while: a load balancer's, on the link to whoever asks for it.
//!
//! They carry our protocol number, so that they are known as ours, and a lifetime: the kernel itself drops them
//! when nobody holds on to them any more, while other nodes already announce them. The node never sends by them
//! on its own account.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressProtocol, CacheInfo};

use crate::route::PROTOCOL;
use crate::{Netlink, Result, addr};

impl Netlink {
    /// The addresses of a link that are held.
    pub async fn held_addresses(&self, link: u32) -> Result<Vec<IpAddr>> {
        let addresses = self.addresses().await?.into_iter();
        let held = addresses.filter(|address| address.link == link && address.own);
        Ok(held.map(|address| address.address.addr()).collect())
    }

    /// Holds an address for a time, or for longer if it is held already.
    pub async fn hold_address(&self, link: u32, address: IpAddr, time: Duration) -> Result<()> {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let mut message = addr::message(link, IpNet::from(address));
        message
            .attributes
            .push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
        // Deprecated from the start: no source address.
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_valid = seconds;
        message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
        let message = RouteNetlinkMessage::NewAddress(message);
        let request = || format!("hold address {address} on link {link}");
        self.execute(message, NLM_F_CREATE | NLM_F_REPLACE, request).await
    }

    /// Lets go of an address; false if it wasn't held.
    pub async fn release_address(&self, link: u32, address: IpAddr) -> Result<bool> {
        self.delete_address(link, IpNet::from(address)).await
    }
}
