//! Ports of the node's loopback that lead to pods, as the plan's objects: what the programs on sockets know of them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bpf_abi::V6;
use bpf_abi::service::{FrontendKey, Loopback};
use model::Protocol;
use plan::LoopbackPort;

use super::load::Maps;
use super::table::{Plain, Table};
use super::tables::{ip4, ip6, key4, key6};
use crate::Result;
use crate::netns::Cookie;

// SAFETY: numbers without padding between them, as `layouts_have_no_padding` shows.
unsafe impl Plain for Loopback {}

/// The map of them.
pub(super) struct Loopbacks {
    map: Table<FrontendKey<V6>, Loopback>,
}

impl Loopbacks {
    /// Takes it from the loaded or pinned ones.
    pub(super) fn new(maps: &mut Maps) -> Result<Loopbacks> {
        let map = Table::new(maps.map("loopbacks"), "ports of the loopback")?;
        Ok(Loopbacks { map })
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> Result<bool> {
        self.map.is_empty()
    }

    /// All of them. What is another namespace's, as of one that this node had before, leads nowhere.
    pub(super) fn read(&self, own: Option<Cookie>) -> Result<Vec<LoopbackPort>> {
        let entries = self.map.read()?.into_iter();
        let ports = entries.filter_map(|(key, value)| {
            let is_own = own.is_some_and(|own| words(own) == value.namespace);
            // No IPv6 loopback has anything in its first word.
            let v4 = key.address[0] != 0;
            Some(LoopbackPort {
                address: address(key.address, v4),
                protocol: protocol(key.protocol)?,
                port: u16::from_be(key.port),
                to: match is_own {
                    true => SocketAddr::new(address(value.address, v4), u16::from_be(value.port)),
                    false => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
                },
            })
        });
        Ok(ports.collect())
    }

    /// Writes one, over whatever is there.
    pub(super) fn put(&self, port: &LoopbackPort, own: Cookie) -> Result<()> {
        let value = Loopback {
            namespace: words(own),
            address: key(port.to.ip()),
            port: port.to.port().to_be(),
            zero: 0,
        };
        self.map.put(&[(called(port), value)])
    }

    /// Removes one; false if it isn't there.
    pub(super) fn remove(&self, port: &LoopbackPort) -> Result<bool> {
        Ok(self.map.remove(&[called(port)])? > 0)
    }
}

fn called(port: &LoopbackPort) -> FrontendKey<V6> {
    FrontendKey {
        address: key(port.address),
        port: port.port.to_be(),
        protocol: port.protocol.number(),
        zero: 0,
    }
}

fn protocol(number: u8) -> Option<Protocol> {
    Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.number() == number)
}

fn words(Cookie(cookie): Cookie) -> [u32; 2] {
    let [low, high] = [cookie & u64::from(u32::MAX), cookie >> 32];
    [low, high].map(|word| u32::try_from(word).expect("it has 32 bits"))
}

fn key(address: IpAddr) -> V6 {
    match address {
        IpAddr::V4(v4) => [key4(v4), 0, 0, 0],
        IpAddr::V6(v6) => key6(v6),
    }
}

fn address(key: V6, v4: bool) -> IpAddr {
    if v4 { ip4(key[0]) } else { ip6(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_no_padding() {
        assert_eq!(size_of::<Loopback>(), 8 + 16 + 2 + 2);
    }
}
