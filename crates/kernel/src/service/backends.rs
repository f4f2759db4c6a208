//! Backends and their ids.
//!
//! A backend is an address and a port, whichever Services it serves. Its id is found by a hash of
//! them, so that it has the same one whenever it's there; one that is given up waits before another
//! backend may have it, as sockets and packets may still mean the old one.

use std::collections::{HashMap, VecDeque};
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bpf_abi::service::mark;
use model::Backend;

use crate::bpf::service::ServiceMaps;
use crate::{Error, Result};

/// How long an id waits. Packets that bear it are gone in milliseconds; clients that stay with a
/// backend by their choice of long ago look whether it's still there.
const QUARANTINE: Duration = Duration::from_secs(600);

/// All backends that are in the maps.
#[derive(Debug, Default)]
pub(super) struct Backends {
    by_socket: HashMap<SocketAddr, Held>,
    taken: Bits,
    /// Ids that wait, in the order in which they may be had again, with whose they were.
    waiting: VecDeque<(Instant, u32, SocketAddr)>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    id: u32,
    local: bool,
    /// How many sets have it.
    sets: u32,
}

/// A backend by id.
pub(super) type Known = (u32, SocketAddr);

impl Backends {
    /// Takes over what the maps hold, which no set has yet; what can't be kept is returned.
    pub(super) fn found(entries: Vec<(u32, Backend)>) -> (Backends, Vec<Known>) {
        let mut backends = Backends::default();
        let mut odd = Vec::new();
        for (id, backend) in entries {
            let fits = (1..=mark::ID).contains(&id) && !backends.by_socket.contains_key(&backend.socket);
            if fits && backends.taken.set(id) {
                let held = Held {
                    id,
                    local: backend.local,
                    sets: 0,
                };
                backends.by_socket.insert(backend.socket, held);
            } else {
                odd.push((id, backend.socket));
            }
        }
        (backends, odd)
    }

    /// The id of a backend that is in the maps.
    pub(super) fn id(&self, socket: &SocketAddr) -> Option<u32> {
        self.by_socket.get(socket).map(|held| held.id)
    }

    /// Every backend.
    pub(super) fn all(&self) -> impl Iterator<Item = Known> {
        self.by_socket.iter().map(|(socket, held)| (held.id, *socket))
    }

    /// Makes sure that a backend is in the maps as it should be; says its id, and how many writes that
    /// took. A new one is no set's yet.
    pub(super) fn ensure(
        &mut self,
        maps: &impl ServiceMaps,
        backend: &Backend,
        now: Instant,
    ) -> Result<(u32, usize)> {
        if let Some(held) = self.by_socket.get_mut(&backend.socket) {
            let differs = held.local != backend.local;
            if differs {
                maps.put_backend(held.id, backend)?;
                held.local = backend.local;
            }
            return Ok((held.id, usize::from(differs)));
        }
        let id = self.allot(backend.socket, now)?;
        if let Err(error) = maps.put_backend(id, backend) {
            self.taken.clear(id);
            return Err(error);
        }
        let held = Held {
            id,
            local: backend.local,
            sets: 0,
        };
        self.by_socket.insert(backend.socket, held);
        Ok((id, 1))
    }

    /// One more set has it.
    pub(super) fn hold(&mut self, socket: &SocketAddr) {
        if let Some(held) = self.by_socket.get_mut(socket) {
            held.sets += 1;
        }
    }

    /// One set fewer has it; true if none has.
    pub(super) fn release(&mut self, socket: &SocketAddr) -> bool {
        let held = self.by_socket.get_mut(socket);
        held.is_some_and(|held| {
            held.sets = held.sets.saturating_sub(1);
            held.sets == 0
        })
    }

    /// Whether no set has it.
    pub(super) fn is_idle(&self, socket: &SocketAddr) -> bool {
        self.by_socket.get(socket).is_none_or(|held| held.sets == 0)
    }

    /// Removes a backend that no set has from the maps.
    pub(super) fn remove(
        &mut self,
        maps: &impl ServiceMaps,
        socket: &SocketAddr,
        now: Instant,
    ) -> Result<()> {
        let Some(held) = self.by_socket.get(socket) else {
            return Ok(());
        };
        maps.remove_backend(held.id, socket.is_ipv4())?;
        self.waiting.push_back((now + QUARANTINE, held.id, *socket));
        self.by_socket.remove(socket);
        Ok(())
    }

    fn allot(&mut self, socket: SocketAddr, now: Instant) -> Result<u32> {
        while let Some((_, id, _)) = self.waiting.pop_front_if(|(until, ..)| *until <= now) {
            self.taken.clear(id);
        }
        // Its own again, if it hasn't waited long.
        let own = self.waiting.iter().position(|(_, _, whose)| *whose == socket);
        if let Some((_, id, _)) = own.and_then(|at| self.waiting.remove(at)) {
            return Ok(id);
        }
        let first = u32::try_from(hash(socket) % u64::from(mark::ID)).expect("ids have 20 bits");
        let mut ids = (0..mark::ID).map(|next| 1 + (first + next) % mark::ID);
        ids.find(|id| self.taken.set(*id)).ok_or(Error::TooManyBackends)
    }
}

/// The same in every process and version.
fn hash(socket: SocketAddr) -> u64 {
    let mut hasher = Fnv::default();
    match socket.ip() {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    hasher.write(&socket.port().to_be_bytes());
    hasher.finish()
}

/// FNV-1a.
#[derive(Debug)]
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        self.0 = bytes
            .iter()
            .fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Which ids are taken.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// False if it was.
    fn set(&mut self, id: u32) -> bool {
        let (word, bit) = Bits::place(id);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    fn clear(&mut self, id: u32) {
        let (word, bit) = Bits::place(id);
        if let Some(word) = self.0.get_mut(word) {
            *word &= !bit;
        }
    }

    fn place(id: u32) -> (usize, u64) {
        let word = usize::try_from(id / u64::BITS).expect("ids have 20 bits");
        (word, 1 << (id % u64::BITS))
    }
}
