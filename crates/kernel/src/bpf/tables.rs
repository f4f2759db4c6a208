//! The maps that say where pods are, as the plan's objects.

use std::collections::HashMap as Names;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::Pod;
use aya::maps::lpm_trie::{Key as Prefix, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use bpf_abi::{Counter, V4, V6, endpoint, mac};
use ipnet::IpNet;
use model::MacAddr;
use plan::{Endpoint, Forward, NodeAddress, Object};

use super::load::Maps;
use crate::{Error, Result};

/// A layout that both sides share.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Shared<T>(pub(super) T);

// SAFETY: numbers without padding between them, as `layouts_have_no_padding` shows.
unsafe impl Pod for Shared<bpf_abi::Endpoint> {}
// SAFETY: as above.
unsafe impl Pod for Shared<bpf_abi::Forward<V4>> {}
// SAFETY: as above.
unsafe impl Pod for Shared<bpf_abi::Forward<V6>> {}
type Endpoints<A> = HashMap<MapData, A, Shared<bpf_abi::Endpoint>>;
/// As their words: nobody but the programs reads more of them than whether there is one.
type Openings<const WORDS: usize> = Array<MapData, [u32; WORDS]>;
type Forwards<A> = LpmTrie<MapData, A, Shared<bpf_abi::Forward<A>>>;

/// What tells a node's address from a pod's.
const NODES: u16 = endpoint::OWN | endpoint::NODE;

/// The maps of where pods and nodes are.
pub(super) struct Tables {
    endpoints4: Endpoints<V4>,
    endpoints6: Endpoints<V6>,
    forwards4: Forwards<V4>,
    forwards6: Forwards<V6>,
    names4: Array<MapData, u64>,
    names6: Array<MapData, u64>,
    openings4: Openings<{ size_of::<bpf_abi::Flow<V4>>() / 4 }>,
    openings6: Openings<{ size_of::<bpf_abi::Flow<V6>>() / 4 }>,
    generation: Array<MapData, u32>,
    counters: PerCpuArray<MapData, u64>,
}

impl Tables {
    /// Takes them from the loaded or pinned ones.
    pub(super) fn new(mut maps: Maps) -> Result<Tables> {
        let mut tables = Tables {
            endpoints4: maps.take("endpoints4")?,
            endpoints6: maps.take("endpoints6")?,
            forwards4: maps.take("forwards4")?,
            forwards6: maps.take("forwards6")?,
            names4: maps.take("names4")?,
            names6: maps.take("names6")?,
            openings4: maps.take("openings4")?,
            openings6: maps.take("openings6")?,
            generation: maps.take("generation")?,
            counters: maps.take("counters")?,
        };
        // Whoever had them before may have been ended between a change and this.
        tables.renew()?;
        Ok(tables)
    }

    /// Has the programs find paths anew that they know, and ask the policies again: something has changed.
    pub(super) fn renew(&mut self) -> Result<()> {
        let now = self.generation.get(&0, 0);
        let now = now.map_err(failed("read the tables' generation"))?;
        // Zero is none.
        let next = now.wrapping_add(1).max(1);
        let set = self.generation.set(0, next, 0);
        set.map_err(failed("write the tables' generation"))
    }

    /// Everything that is in them. `names` are those of the links by index; what refers to a link
    /// that is gone names its index.
    pub(super) fn read(&self, names: &Names<u32, &str>) -> Result<Vec<Object>> {
        let mut objects = Vec::new();
        let name = |link: u32| {
            names
                .get(&link)
                .map_or_else(|| format!("#{link}"), ToString::to_string)
        };
        let v4 = self
            .endpoints4
            .iter()
            .map(|entry| entry.map(|(key, value)| (ip4(key), value)));
        let v6 = self
            .endpoints6
            .iter()
            .map(|entry| entry.map(|(key, value)| (ip6(key), value)));
        for entry in v4.chain(v6) {
            let (address, Shared(value)) = entry.map_err(failed("read the endpoints"))?;
            if value.flags & NODES != 0 {
                let own = value.flags & endpoint::OWN != 0;
                objects.push(Object::NodeAddress(NodeAddress { address, own }));
                continue;
            }
            objects.push(Object::Endpoint(Endpoint {
                address,
                link: name(value.link),
                mac: MacAddr(octets(value.mac)),
                mtu: value.mtu,
                shaped: value.flags & endpoint::SHAPED != 0,
            }));
        }
        for entry in self.forwards4.iter() {
            let (key, Shared(value)) = entry.map_err(failed("read the forwards"))?;
            let forward = Forward {
                destination: net(ip4(key.data()), key.prefix_len()),
                gateway: ip4(value.gateway),
                link: name(value.link),
                mtu: value.mtu,
            };
            objects.push(Object::Forward(forward));
        }
        for entry in self.forwards6.iter() {
            let (key, Shared(value)) = entry.map_err(failed("read the forwards"))?;
            let forward = Forward {
                destination: net(ip6(key.data()), key.prefix_len()),
                gateway: ip6(value.gateway),
                link: name(value.link),
                mtu: value.mtu,
            };
            objects.push(Object::Forward(forward));
        }
        Ok(objects)
    }

    /// Writes a pod's address, over whatever is there.
    pub(super) fn put_endpoint(&mut self, endpoint: &Endpoint, link: u32) -> Result<()> {
        let value = Shared(bpf_abi::Endpoint {
            link,
            mtu: endpoint.mtu,
            mac: mac(endpoint.mac.0),
            flags: if endpoint.shaped { endpoint::SHAPED } else { 0 },
        });
        let put = match endpoint.address {
            IpAddr::V4(address) => self.endpoints4.insert(key4(address), value, 0),
            IpAddr::V6(address) => self.endpoints6.insert(key6(address), value, 0),
        };
        put.map_err(failed("write an endpoint"))?;
        self.renew()
    }

    /// Removes a pod's address; false if it isn't there, or is another pod's by now.
    pub(super) fn remove_endpoint(&mut self, endpoint: &Endpoint) -> Result<bool> {
        let removed = match endpoint.address {
            IpAddr::V4(address) => remove_if(&mut self.endpoints4, key4(address), endpoint),
            IpAddr::V6(address) => remove_if(&mut self.endpoints6, key6(address), endpoint),
        }?;
        self.renew()?;
        Ok(removed)
    }

    /// Writes a node's address, over whatever is there.
    pub(super) fn put_node(&mut self, node: NodeAddress) -> Result<()> {
        let value = Shared(bpf_abi::Endpoint {
            link: 0,
            mtu: 0,
            mac: [0; 3],
            flags: if node.own { endpoint::OWN } else { endpoint::NODE },
        });
        let put = match node.address {
            IpAddr::V4(address) => self.endpoints4.insert(key4(address), value, 0),
            IpAddr::V6(address) => self.endpoints6.insert(key6(address), value, 0),
        };
        put.map_err(failed("write a node's address"))?;
        self.renew()
    }

    /// Removes a node's address; false if it isn't there, or is a pod's by now.
    pub(super) fn remove_node(&mut self, address: IpAddr) -> Result<bool> {
        let removed = match address {
            IpAddr::V4(address) => remove_node(&mut self.endpoints4, key4(address)),
            IpAddr::V6(address) => remove_node(&mut self.endpoints6, key6(address)),
        }?;
        self.renew()?;
        Ok(removed)
    }

    /// Writes the way to a block, over whatever is there.
    pub(super) fn put_forward(&mut self, forward: &Forward, link: u32) -> Result<()> {
        let (length, mtu) = (u32::from(forward.destination.prefix_len()), forward.mtu);
        let put = match (forward.destination.network(), forward.gateway) {
            (IpAddr::V4(block), IpAddr::V4(gateway)) => {
                let gateway = key4(gateway);
                let value = Shared(bpf_abi::Forward { link, mtu, gateway });
                self.forwards4.insert(&Prefix::new(length, key4(block)), value, 0)
            }
            (IpAddr::V6(block), IpAddr::V6(gateway)) => {
                let gateway = key6(gateway);
                let value = Shared(bpf_abi::Forward { link, mtu, gateway });
                self.forwards6.insert(&Prefix::new(length, key6(block)), value, 0)
            }
            // A next hop of the other family is the network stack's to know.
            _ => return Ok(()),
        };
        put.map_err(failed("write a forward"))?;
        self.renew()
    }

    /// Removes the way to a block; false if it isn't there.
    pub(super) fn remove_forward(&mut self, destination: IpNet) -> Result<bool> {
        let length = u32::from(destination.prefix_len());
        let removed = match destination.network() {
            IpAddr::V4(block) => self.forwards4.remove(&Prefix::new(length, key4(block))),
            IpAddr::V6(block) => self.forwards6.remove(&Prefix::new(length, key6(block))),
        };
        let removed = was_there(removed).map_err(failed("remove a forward"))?;
        self.renew()?;
        Ok(removed)
    }

    /// Forgets all conversations; says how many there were.
    pub(super) fn forget_flows(&mut self) -> Result<usize> {
        forget_openings(&mut self.openings4)?;
        forget_openings(&mut self.openings6)?;
        Ok(forget(&mut self.names4)? + forget(&mut self.names6)?)
    }

    /// What was counted, over all processors.
    pub(super) fn count(&self, counter: Counter) -> Result<u64> {
        let counts = self.counters.get(&(counter as u32), 0);
        Ok(counts.map_err(failed("read a counter"))?.iter().sum())
    }
}

/// Each attachment has an Ethernet address of its own: it tells whose the entry is.
fn remove_if<A: Pod>(endpoints: &mut Endpoints<A>, key: A, endpoint: &Endpoint) -> Result<bool> {
    match endpoints.get(&key, 0) {
        Ok(Shared(held)) if held.mac != mac(endpoint.mac.0) => return Ok(false),
        Ok(_) => {}
        Err(MapError::KeyNotFound) => return Ok(false),
        Err(error) => return Err(failed("read an endpoint")(error)),
    }
    was_there(endpoints.remove(&key)).map_err(failed("remove an endpoint"))
}

fn remove_node<A: Pod>(endpoints: &mut Endpoints<A>, key: A) -> Result<bool> {
    match endpoints.get(&key, 0) {
        Ok(Shared(held)) if held.flags & NODES == 0 => return Ok(false),
        Ok(_) => {}
        Err(MapError::KeyNotFound) => return Ok(false),
        Err(error) => return Err(failed("read a node's address")(error)),
    }
    was_there(endpoints.remove(&key)).map_err(failed("remove a node's address"))
}

/// What has no name isn't found.
fn forget(names: &mut Array<MapData, u64>) -> Result<usize> {
    let mut forgotten = 0;
    for set in 0..names.len() {
        let held = names.get(&set, 0).map_err(failed("read the conversations"))?;
        if held != 0 {
            let cleared = names.set(set, 0, 0);
            cleared.map_err(failed("forget conversations"))?;
            forgotten += held
                .to_ne_bytes()
                .chunks(2)
                .filter(|name| *name != [0, 0])
                .count();
        }
    }
    Ok(forgotten)
}

fn forget_openings<const WORDS: usize>(openings: &mut Openings<WORDS>) -> Result<()> {
    for at in 0..openings.len() {
        let held = openings.get(&at, 0).map_err(failed("read the beginnings"))?;
        if held != [0; WORDS] {
            let cleared = openings.set(at, [0; WORDS], 0);
            cleared.map_err(failed("forget a beginning"))?;
        }
    }
    Ok(())
}

pub(super) fn was_there(removed: Result<(), MapError>) -> Result<bool, MapError> {
    match removed {
        Ok(()) => Ok(true),
        Err(MapError::KeyNotFound) => Ok(false),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn failed(action: &'static str) -> impl Fn(MapError) -> Error {
    move |error| Error::bpf(action, &error)
}

pub(super) fn key4(address: Ipv4Addr) -> V4 {
    u32::from_ne_bytes(address.octets())
}

pub(super) fn key6(address: Ipv6Addr) -> V6 {
    let bytes = address.octets();
    [0, 4, 8, 12].map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
}

pub(super) fn ip4(key: V4) -> IpAddr {
    Ipv4Addr::from(key.to_ne_bytes()).into()
}

pub(super) fn ip6(key: V6) -> IpAddr {
    let mut bytes = [0; 16];
    for (word, place) in key.iter().zip(bytes.chunks_exact_mut(4)) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(bytes).into()
}

pub(super) fn net(address: IpAddr, length: u32) -> IpNet {
    let length = u8::try_from(length).unwrap_or(u8::MAX);
    // What others wrote may be nonsense: then it's the address alone, and removed as such.
    IpNet::new(address, length).unwrap_or_else(|_| IpNet::from(address))
}

fn octets(mac: [u16; 3]) -> [u8; 6] {
    let [[a, b], [c, d], [e, f]] = mac.map(u16::to_ne_bytes);
    [a, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_no_padding() {
        assert_eq!(size_of::<bpf_abi::Endpoint>(), 4 + 4 + 6 + 2);
        assert_eq!(size_of::<bpf_abi::Forward<V4>>(), 4 + 4 + 4);
        assert_eq!(size_of::<bpf_abi::Forward<V6>>(), 4 + 4 + 16);
        assert_eq!(size_of::<bpf_abi::FlowKey<V4>>(), 4 + 4 + 2 + 2 + 1 + 3);
        assert_eq!(size_of::<bpf_abi::FlowKey<V6>>(), 16 + 16 + 2 + 2 + 1 + 3);
        assert_eq!(size_of::<bpf_abi::End>(), 4 + 4 + 6 + 2);
        assert_eq!(size_of::<bpf_abi::Flow<V4>>(), 16 + 2 * 16 + 4 + 4 + 4 + 4);
        assert_eq!(size_of::<bpf_abi::Flow<V6>>(), 40 + 2 * 16 + 16 + 4 + 4 + 4);
    }

    #[test]
    fn addresses_are_kept_as_packets_have_them() {
        for text in ["10.244.0.5", "fd00:10:244::5"] {
            let address: IpAddr = text.parse().unwrap();
            let back = match address {
                IpAddr::V4(v4) => ip4(key4(v4)),
                IpAddr::V6(v6) => ip6(key6(v6)),
            };
            assert_eq!(back, address);
        }
        assert_eq!(octets(mac([1, 2, 3, 4, 5, 6])), [1, 2, 3, 4, 5, 6]);
    }
}
