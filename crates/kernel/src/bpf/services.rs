//! What the programs know of Services: the maps that the agent writes, and those that programs write
//! and the agent weeds.
//!
//! Everything here is the kernel's own numbers: ids of backends and of sets. Who gives them, and in which
//! order what is written, is [`bpf_abi::service`]'s matter. Nothing is compared: what is put is written.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use aya::Pod;
use aya::maps::lpm_trie::{Key as Prefix, LpmTrie};
use aya::maps::{Array, MapData};
use bpf_abi::service::{
    self, Affinity, AffinityKey, Frontend, FrontendKey, Namespace, Peer, PeerKey, SlotKey, SourceKey,
    TalkKey, backend, namespace, used,
};
use bpf_abi::{FlowKey, V4, V6};
use ipnet::IpNet;
use model::Backend;

pub use super::service::At;

use super::load::Maps;
use super::service::{Entries, ServiceMaps};
use super::table::{Plain, Table};
use super::tables::{Shared, failed, ip4, ip6, key4, key6, net, was_there};
use crate::{Result, netns};

macro_rules! plain {
    ($($layout:ty),*) => {
        // SAFETY: numbers without padding between them, as `layouts_have_no_padding` shows.
        $(unsafe impl Plain for $layout {})*
    };
}

plain!(
    FrontendKey<V4>,
    FrontendKey<V6>,
    Frontend,
    SlotKey,
    service::Backend<V4>,
    service::Backend<V6>,
    Namespace,
    PeerKey<V4>,
    PeerKey<V6>,
    Peer<V4>,
    Peer<V6>,
    TalkKey<V4>,
    TalkKey<V6>,
    FlowKey<V4>,
    FlowKey<V6>,
    AffinityKey,
    Affinity
);

// SAFETY: as above.
unsafe impl Pod for Shared<SourceKey<V4>> {}
// SAFETY: as above.
unsafe impl Pod for Shared<SourceKey<V6>> {}

/// IP's protocol number.
const UDP: u8 = 17;
/// How many bits of a source range's key are the set's.
const SET_BITS: u32 = 32;

type Ranges<A> = Mutex<LpmTrie<MapData, Shared<SourceKey<A>>, u32>>;

/// The maps of one family.
struct OfFamily<A> {
    frontends: Table<FrontendKey<A>, Frontend>,
    backends: Table<u32, service::Backend<A>>,
    ranges: Ranges<A>,
    peers: Table<PeerKey<A>, Peer<A>>,
    talks: Table<TalkKey<A>, u32>,
    picks: Table<FlowKey<A>, u32>,
}

/// The maps, of both families.
pub struct Services {
    v4: OfFamily<V4>,
    v6: OfFamily<V6>,
    slots: Table<SlotKey, u32>,
    namespaces: Table<u64, Namespace>,
    turns: Table<u32, u64>,
    loads: Table<u32, u64>,
    translated: Table<u32, u64>,
    counted: Table<u64, u32>,
    affinity: Table<AffinityKey, Affinity>,
    used: Mutex<Array<MapData, u32>>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

impl Services {
    /// Takes them from the loaded or pinned ones.
    pub(super) fn new(maps: &mut Maps) -> Result<Services> {
        let services = Services {
            used: Mutex::new(maps.take("used")?),
            v4: OfFamily {
                frontends: Table::new(maps.map("frontends4"), "Services")?,
                backends: Table::new(maps.map("backends4"), "endpoints of Services")?,
                ranges: Mutex::new(maps.take("ranges4")?),
                peers: Table::new(maps.map("peers4"), "sockets' Services")?,
                talks: Table::new(maps.map("talks4"), "datagrams' Services")?,
                picks: Table::new(maps.map("picks4"), "datagrams' endpoints")?,
            },
            v6: OfFamily {
                frontends: Table::new(maps.map("frontends6"), "Services")?,
                backends: Table::new(maps.map("backends6"), "endpoints of Services")?,
                ranges: Mutex::new(maps.take("ranges6")?),
                peers: Table::new(maps.map("peers6"), "sockets' Services")?,
                talks: Table::new(maps.map("talks6"), "datagrams' Services")?,
                picks: Table::new(maps.map("picks6"), "datagrams' endpoints")?,
            },
            slots: Table::new(maps.map("slots"), "slots of Services")?,
            namespaces: Table::new(maps.map("namespaces"), "pods' namespaces")?,
            turns: Table::new(maps.map("turns"), "Services' turns")?,
            loads: Table::new(maps.map("loads"), "endpoints' connections")?,
            translated: Table::new(maps.map("translated"), "endpoints' translated connections")?,
            counted: Table::new(maps.map("counted"), "counted sockets")?,
            affinity: Table::new(maps.map("affinity"), "clients' endpoints")?,
        };
        // An older object's programs, whose tables these may have been, took no note of it.
        if !services.v4.peers.is_empty()? || !services.v6.peers.is_empty()? {
            services.ask_for(used::PEERS)?;
        }
        if !services.counted.is_empty()? {
            services.ask_for(used::COUNTED)?;
        }
        if services.namespaces()?.iter().any(|(_, _, left_out)| *left_out) {
            services.ask_for(used::LEFT_OUT)?;
        }
        Ok(services)
    }

    /// Has the programs look for ports of the loopback.
    pub(super) fn use_loopbacks(&self) -> Result<()> {
        self.ask_for(used::LOOPBACKS)
    }

    /// Has the programs ask what they needn't ask as long as nobody uses it.
    fn ask_for(&self, which: u32) -> Result<()> {
        let put = lock(&self.used).set(which, 1, 0);
        put.map_err(failed("write what of Services is used"))
    }

    /// Writes where Services are reached.
    pub fn put_frontends(&self, frontends: &[(At, Frontend)]) -> Result<()> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (at, frontend) in frontends {
            match at.address {
                IpAddr::V4(address) => v4.push((at.key(key4(address)), *frontend)),
                IpAddr::V6(address) => v6.push((at.key(key6(address)), *frontend)),
            }
        }
        self.v4.frontends.put(&v4)?;
        self.v6.frontends.put(&v6)
    }

    /// Removes where Services were reached; says how many were there.
    pub fn remove_frontends(&self, frontends: &[At]) -> Result<usize> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for at in frontends {
            match at.address {
                IpAddr::V4(address) => v4.push(at.key(key4(address))),
                IpAddr::V6(address) => v6.push(at.key(key6(address))),
            }
        }
        Ok(self.v4.frontends.remove(&v4)? + self.v6.frontends.remove(&v6)?)
    }

    /// Where Services are reached.
    pub fn frontends(&self) -> Result<Vec<(At, Frontend)>> {
        let v4 = self.v4.frontends.read()?.into_iter();
        let v6 = self.v6.frontends.read()?.into_iter();
        let v4 = v4.map(|(key, value)| (At::of(ip4(key.address), key.port, key.protocol), value));
        let v6 = v6.map(|(key, value)| (At::of(ip6(key.address), key.port, key.protocol), value));
        Ok(v4.chain(v6).collect())
    }

    /// Writes endpoints by their ids.
    pub fn put_backends(&self, backends: &[(u32, Backend)]) -> Result<()> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (id, Backend { socket, local }) in backends {
            let port = socket.port().to_be();
            let flags = if *local { backend::LOCAL } else { 0 };
            match socket.ip() {
                IpAddr::V4(address) => {
                    let address = key4(address);
                    v4.push((*id, service::Backend { address, port, flags }));
                }
                IpAddr::V6(address) => {
                    let address = key6(address);
                    v6.push((*id, service::Backend { address, port, flags }));
                }
            }
        }
        self.v4.backends.put(&v4)?;
        self.v6.backends.put(&v6)
    }

    /// Removes endpoints of one family: what remembers them doesn't go there any more. Before their ids are
    /// given again, all must be made to forget them.
    pub fn remove_backends(&self, v4: bool, ids: &[u32]) -> Result<usize> {
        if v4 {
            self.v4.backends.remove(ids)
        } else {
            self.v6.backends.remove(ids)
        }
    }

    /// Endpoints by their ids.
    pub fn backends(&self) -> Result<Vec<(u32, Backend)>> {
        let planned = |address, port: u16, flags| Backend {
            socket: SocketAddr::new(address, u16::from_be(port)),
            local: flags & backend::LOCAL != 0,
        };
        let v4 = self.v4.backends.read()?.into_iter();
        let v6 = self.v6.backends.read()?.into_iter();
        let v4 = v4.map(|(id, found)| (id, planned(ip4(found.address), found.port, found.flags)));
        let v6 = v6.map(|(id, found)| (id, planned(ip6(found.address), found.port, found.flags)));
        Ok(v4.chain(v6).collect())
    }

    /// Writes slots.
    pub fn put_slots(&self, slots: &[(SlotKey, u32)]) -> Result<()> {
        self.slots.put(slots)
    }

    /// Removes slots; with a set's first goes whose turn it was.
    pub fn remove_slots(&self, slots: &[SlotKey]) -> Result<usize> {
        let removed = self.slots.remove(slots)?;
        let firsts = slots.iter().filter(|key| key.slot == 0);
        self.turns
            .remove(&firsts.map(|key| key.set).collect::<Vec<_>>())?;
        Ok(removed)
    }

    /// The slots, in no order.
    pub fn slots(&self) -> Result<Vec<(SlotKey, u32)>> {
        self.slots.read()
    }

    /// Lets sources of a range reach the frontends whose `outside` is the set.
    pub fn put_range(&self, set: u32, range: IpNet) -> Result<()> {
        let put = match range.network() {
            IpAddr::V4(address) => lock(&self.v4.ranges).insert(&source(set, range, key4(address)), 1, 0),
            IpAddr::V6(address) => lock(&self.v6.ranges).insert(&source(set, range, key6(address)), 1, 0),
        };
        put.map_err(failed("write a range of sources"))
    }

    /// Removes a range of sources; false if it isn't there.
    pub fn remove_range(&self, set: u32, range: IpNet) -> Result<bool> {
        let removed = match range.network() {
            IpAddr::V4(address) => lock(&self.v4.ranges).remove(&source(set, range, key4(address))),
            IpAddr::V6(address) => lock(&self.v6.ranges).remove(&source(set, range, key6(address))),
        };
        was_there(removed).map_err(failed("remove a range of sources"))
    }

    /// The ranges of sources, by set.
    pub fn ranges(&self) -> Result<Vec<(u32, IpNet)>> {
        let mut ranges = Vec::new();
        for key in lock(&self.v4.ranges).keys() {
            let key = key.map_err(failed("read the ranges of sources"))?;
            let Shared(SourceKey { set, address }) = key.data();
            ranges.push((set, net(ip4(address), key.prefix_len().saturating_sub(SET_BITS))));
        }
        for key in lock(&self.v6.ranges).keys() {
            let key = key.map_err(failed("read the ranges of sources"))?;
            let Shared(SourceKey { set, address }) = key.data();
            ranges.push((set, net(ip6(address), key.prefix_len().saturating_sub(SET_BITS))));
        }
        Ok(ranges)
    }

    /// Writes what is known of a network namespace: its addresses, the first of each family, and whether
    /// its sockets see Services' addresses as they are.
    pub fn put_namespace(
        &self,
        cookie: netns::Cookie,
        addresses: &[IpAddr],
        untranslated: bool,
    ) -> Result<()> {
        let v4 = addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses.iter().find_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        let namespace = Namespace {
            v4: key4(v4.unwrap_or(Ipv4Addr::UNSPECIFIED)),
            v6: key6(v6.unwrap_or(Ipv6Addr::UNSPECIFIED)),
            flags: if untranslated { namespace::UNTRANSLATED } else { 0 },
        };
        if untranslated {
            self.ask_for(used::LEFT_OUT)?;
        }
        self.namespaces.put(&[(cookie.0, namespace)])
    }

    /// Removes what is known of a network namespace; false if nothing was.
    pub fn remove_namespace(&self, cookie: netns::Cookie) -> Result<bool> {
        Ok(self.namespaces.remove(&[cookie.0])? > 0)
    }

    /// What is known of network namespaces: addresses, and whether their sockets see Services' addresses.
    pub fn namespaces(&self) -> Result<Vec<(netns::Cookie, Vec<IpAddr>, bool)>> {
        let known = self.namespaces.read()?.into_iter();
        let known = known.map(|(cookie, namespace)| {
            let addresses = [ip4(namespace.v4), ip6(namespace.v6)].into_iter();
            let addresses = addresses.filter(|address| !address.is_unspecified()).collect();
            let untranslated = namespace.flags & namespace::UNTRANSLATED != 0;
            (netns::Cookie(cookie), addresses, untranslated)
        });
        Ok(known.collect())
    }

    /// Forgets which endpoints clients stay with, by set and endpoint's id; says how many.
    pub fn forget_clients(&self, gone: impl Fn(u32, u32) -> bool) -> Result<usize> {
        weed(&self.affinity, |key, kept| gone(key.set, kept.backend)).map(|keys| keys.len())
    }

    /// Forgets which endpoints conversations of datagrams go to, by the Service's address as it was asked
    /// and the endpoint's id. Says which sockets have them, by the kernel's cookies: one that is connected
    /// doesn't notice, and must be ended.
    pub fn forget_datagrams(&self, gone: impl Fn(At, u32) -> bool) -> Result<HashSet<u64>> {
        let v4 = |key: &FrontendKey<V4>, id| gone(At::of(ip4(key.address), key.port, key.protocol), id);
        let v6 = |key: &FrontendKey<V6>, id| gone(At::of(ip6(key.address), key.port, key.protocol), id);
        let mut sockets = self.v4.forget(v4)?;
        sockets.extend(self.v6.forget(v6)?);
        Ok(sockets)
    }

    /// Forgets the connections that were counted for endpoints that are gone.
    pub fn forget_loads(&self, gone: impl Fn(u32) -> bool) -> Result<()> {
        weed(&self.counted, |_, id| gone(*id))?;
        weed(&self.translated, |id, _| gone(*id))?;
        weed(&self.loads, |id, _| gone(*id)).map(drop)
    }

    /// How many connections that netfilter translates are counted, by endpoint's id: of those that were ever
    /// picked by the fewest on a link.
    pub fn translated(&self) -> Result<Vec<(u32, u64)>> {
        self.translated.read()
    }

    /// Writes how many connections that netfilter translates there are, by endpoint's id.
    pub(crate) fn put_translated(&self, counts: &[(u32, u64)]) -> Result<()> {
        self.translated.put(counts)
    }

    /// How many connections of this node's sockets are counted, by endpoint's id.
    pub fn loads(&self) -> Result<Vec<(u32, u64)>> {
        self.loads.read()
    }
}

impl<A: Copy> OfFamily<A>
where
    PeerKey<A>: Plain,
    Peer<A>: Plain,
    TalkKey<A>: Plain,
    FlowKey<A>: Plain,
{
    fn forget(&self, gone: impl Fn(&FrontendKey<A>, u32) -> bool) -> Result<HashSet<u64>> {
        let called = |address, port, protocol| FrontendKey {
            address,
            port,
            protocol,
            zero: 0,
        };
        weed(&self.talks, |key, id| gone(&key.frontend, *id))?;
        weed(&self.picks, |key, id| {
            gone(&called(key.destination, key.destination_port, key.protocol), *id)
        })?;
        let peers = weed(&self.peers, |_, peer| {
            peer.protocol == UDP && gone(&called(peer.address, peer.port, UDP), peer.backend)
        })?;
        let cookie = |[low, high]: [u32; 2]| u64::from(low) | u64::from(high) << 32;
        Ok(peers.into_iter().map(|key| cookie(key.socket)).collect())
    }
}

impl ServiceMaps for Services {
    fn entries(&self) -> Result<Entries> {
        Ok(Entries {
            backends: self.backends()?,
            slots: self.slots()?,
            frontends: self.frontends()?,
            sources: self.ranges()?,
        })
    }

    fn put_backend(&self, id: u32, backend: &Backend) -> Result<()> {
        self.put_backends(&[(id, *backend)])
    }

    fn remove_backend(&self, id: u32, v4: bool) -> Result<()> {
        self.remove_backends(v4, &[id]).map(drop)
    }

    fn put_slot(&self, key: SlotKey, backend: u32) -> Result<()> {
        self.put_slots(&[(key, backend)])
    }

    fn remove_slot(&self, key: SlotKey) -> Result<()> {
        self.remove_slots(&[key]).map(drop)
    }

    fn put_frontend(&self, at: At, frontend: &Frontend) -> Result<()> {
        self.put_frontends(&[(at, *frontend)])
    }

    fn remove_frontend(&self, at: At) -> Result<()> {
        self.remove_frontends(&[at]).map(drop)
    }

    fn put_source(&self, set: u32, net: IpNet) -> Result<()> {
        self.put_range(set, net)
    }

    fn remove_source(&self, set: u32, net: IpNet) -> Result<()> {
        self.remove_range(set, net).map(drop)
    }
}

impl At {
    fn of(address: IpAddr, port: u16, protocol: u8) -> At {
        At {
            address,
            port: u16::from_be(port),
            protocol,
        }
    }

    fn key<A>(self, address: A) -> FrontendKey<A> {
        FrontendKey {
            address,
            port: self.port.to_be(),
            protocol: self.protocol,
            zero: 0,
        }
    }
}

/// Removes the entries that `gone` says; returns their keys.
fn weed<K: Plain, V: Plain>(table: &Table<K, V>, gone: impl Fn(&K, &V) -> bool) -> Result<Vec<K>> {
    let entries = table.read()?.into_iter();
    let gone = entries.filter(|(key, value)| gone(key, value));
    let keys: Vec<K> = gone.map(|(key, _)| key).collect();
    table.remove(&keys)?;
    Ok(keys)
}

fn source<A>(set: u32, range: IpNet, address: A) -> Prefix<Shared<SourceKey<A>>>
where
    Shared<SourceKey<A>>: Pod,
{
    let length = SET_BITS + u32::from(range.prefix_len());
    Prefix::new(length, Shared(SourceKey { set, address }))
}

fn lock<T>(table: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_no_padding() {
        assert_eq!(size_of::<FrontendKey<V4>>(), 4 + 2 + 1 + 1);
        assert_eq!(size_of::<FrontendKey<V6>>(), 16 + 2 + 1 + 1);
        assert_eq!(size_of::<Frontend>(), 2 * (4 + 4) + 4 + 1 + 1 + 2);
        assert_eq!(size_of::<SlotKey>(), 4 + 4);
        assert_eq!(size_of::<service::Backend<V4>>(), 4 + 2 + 2);
        assert_eq!(size_of::<service::Backend<V6>>(), 16 + 2 + 2);
        assert_eq!(size_of::<SourceKey<V4>>(), 4 + 4);
        assert_eq!(size_of::<SourceKey<V6>>(), 4 + 16);
        assert_eq!(size_of::<Namespace>(), 4 + 16 + 4);
        assert_eq!(size_of::<PeerKey<V4>>(), 8 + 4 + 2 + 2);
        assert_eq!(size_of::<PeerKey<V6>>(), 8 + 16 + 2 + 2);
        assert_eq!(size_of::<Peer<V4>>(), 4 + 2 + 1 + 1 + 4);
        assert_eq!(size_of::<Peer<V6>>(), 16 + 2 + 1 + 1 + 4);
        assert_eq!(size_of::<service::Named>(), 8 + 16 + 4 + 2 + 2 + 4 + 4);
        assert_eq!(size_of::<TalkKey<V4>>(), 8 + 8);
        assert_eq!(size_of::<TalkKey<V6>>(), 8 + 20);
        assert_eq!(size_of::<AffinityKey>(), 16 + 4);
        assert_eq!(size_of::<Affinity>(), 4 + 4);
    }
}
