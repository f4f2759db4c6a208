//! Services: the maps, and those of one address family as one type.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key as Prefix;
use aya_ebpf::maps::{HashMap, LpmTrie, LruHashMap};
use bpf_abi::service::{
    Affinity, AffinityKey, Backend, Frontend, FrontendKey, Namespace, Peer, PeerKey, SlotKey, SourceKey,
    TalkKey, used,
};
use bpf_abi::{FlowKey, V4, V6, size};

use crate::maps::{Family, Ipv4, Ipv6};
use crate::named;

// None is set aside beforehand, but for those that forget: what is written to them goes with a socket,
// a conversation or a client.
#[map(name = "frontends4")]
static FRONTENDS4: HashMap<FrontendKey<V4>, Frontend> =
    HashMap::with_max_entries(size::FRONTENDS, BPF_F_NO_PREALLOC);
#[map(name = "frontends6")]
static FRONTENDS6: HashMap<FrontendKey<V6>, Frontend> =
    HashMap::with_max_entries(size::FRONTENDS, BPF_F_NO_PREALLOC);
#[map(name = "slots")]
static SLOTS: HashMap<SlotKey, u32> = HashMap::with_max_entries(size::SLOTS, BPF_F_NO_PREALLOC);
#[map(name = "backends4")]
static BACKENDS4: HashMap<u32, Backend<V4>> = HashMap::with_max_entries(size::BACKENDS, BPF_F_NO_PREALLOC);
#[map(name = "backends6")]
static BACKENDS6: HashMap<u32, Backend<V6>> = HashMap::with_max_entries(size::BACKENDS, BPF_F_NO_PREALLOC);
#[map(name = "ranges4")]
static RANGES4: LpmTrie<SourceKey<V4>, u32> = LpmTrie::with_max_entries(size::RANGES, 0);
#[map(name = "ranges6")]
static RANGES6: LpmTrie<SourceKey<V6>, u32> = LpmTrie::with_max_entries(size::RANGES, 0);
#[map(name = "namespaces")]
static NAMESPACES: HashMap<u64, Namespace> = HashMap::with_max_entries(size::NAMESPACES, BPF_F_NO_PREALLOC);
#[map(name = "turns")]
static TURNS: HashMap<u32, u64> = HashMap::with_max_entries(size::TURNS, BPF_F_NO_PREALLOC);
#[map(name = "loads")]
static LOADS: HashMap<u32, u64> = HashMap::with_max_entries(size::LOADS, BPF_F_NO_PREALLOC);
#[map(name = "translated")]
static TRANSLATED: HashMap<u32, u64> = HashMap::with_max_entries(size::LOADS, BPF_F_NO_PREALLOC);
#[map(name = "counted")]
static COUNTED: HashMap<u64, u32> = HashMap::with_max_entries(size::COUNTED, BPF_F_NO_PREALLOC);
#[map(name = "affinity")]
static AFFINITY: LruHashMap<AffinityKey, Affinity> = LruHashMap::with_max_entries(size::AFFINITY, 0);
#[map(name = "peers4")]
static PEERS4: LruHashMap<PeerKey<V4>, Peer<V4>> = LruHashMap::with_max_entries(size::PEERS, 0);
#[map(name = "peers6")]
static PEERS6: LruHashMap<PeerKey<V6>, Peer<V6>> = LruHashMap::with_max_entries(size::PEERS, 0);
#[map(name = "talks4")]
static TALKS4: LruHashMap<TalkKey<V4>, u32> = LruHashMap::with_max_entries(size::TALKS, 0);
#[map(name = "talks6")]
static TALKS6: LruHashMap<TalkKey<V6>, u32> = LruHashMap::with_max_entries(size::TALKS, 0);
#[map(name = "picks4")]
static PICKS4: LruHashMap<FlowKey<V4>, u32> = LruHashMap::with_max_entries(size::PICKS, 0);
#[map(name = "picks6")]
static PICKS6: LruHashMap<FlowKey<V6>, u32> = LruHashMap::with_max_entries(size::PICKS, 0);

/// A family's Services.
pub trait Services: Family {
    /// No address: a socket's that has none yet, and a node port's in the table of frontends.
    const NONE: Self::Address;

    /// Whether it's the loopback's, each node's own.
    fn is_loopback(address: Self::Address) -> bool;
    /// An address, of words whose first is IPv4's.
    fn of_words(words: [u32; 4]) -> Self::Address;

    /// What is reached at an address and port.
    fn frontend(key: &FrontendKey<Self::Address>) -> Option<&'static Frontend>;
    /// An endpoint.
    fn backend(id: u32) -> Option<&'static Backend<Self::Address>>;
    /// Whether a frontend of the set takes traffic from a source.
    fn in_ranges(set: u32, source: Self::Address) -> bool;
    /// A client's name, by its address.
    fn client(address: Self::Address) -> [u32; 4];
    /// The address of a namespace.
    fn address_of(namespace: &Namespace) -> Self::Address;
    /// Whom a socket believes to talk to.
    fn peer(key: &PeerKey<Self::Address>) -> Option<Peer<Self::Address>>;
    /// Keeps whom a socket believes to talk to.
    fn set_peer(key: &PeerKey<Self::Address>, peer: &Peer<Self::Address>);
    /// Forgets whom a socket believed to talk to.
    fn forget_peer(key: &PeerKey<Self::Address>);
    /// The backend that a socket sends a Service's datagrams to.
    fn talk(key: &TalkKey<Self::Address>) -> Option<u32>;
    /// Keeps the backend that a socket sends a Service's datagrams to.
    fn set_talk(key: &TalkKey<Self::Address>, backend: u32);
    /// The backend that a conversation of datagrams goes to.
    fn picked(key: &FlowKey<Self::Address>) -> Option<u32>;
    /// Keeps the backend that a conversation of datagrams goes to.
    fn set_picked(key: &FlowKey<Self::Address>, backend: u32);
}

macro_rules! services {
    ($family:ident, $address:ty, $none:expr, $loopback:expr, $of_words:expr, $bits:literal, $client:expr, $field:ident,
     $frontends:ident, $backends:ident, $ranges:ident, $peers:ident, $talks:ident, $picks:ident) => {
        impl Services for $family {
            const NONE: $address = $none;

            #[inline(always)]
            fn is_loopback(address: $address) -> bool {
                $loopback(address)
            }

            #[inline(always)]
            fn of_words(words: [u32; 4]) -> $address {
                $of_words(words)
            }

            #[inline(always)]
            fn frontend(key: &FrontendKey<$address>) -> Option<&'static Frontend> {
                // SAFETY: entries aren't reused while this runs, as the map isn't set aside.
                unsafe { $frontends.get_ptr(key).map(|found| &*found) }
            }

            #[inline(always)]
            fn backend(id: u32) -> Option<&'static Backend<$address>> {
                // SAFETY: as above.
                unsafe { $backends.get_ptr(id).map(|found| &*found) }
            }

            #[inline(always)]
            fn in_ranges(set: u32, address: $address) -> bool {
                let key = SourceKey { set, address };
                $ranges.get(Prefix::new($bits, key)).is_some()
            }

            #[inline(always)]
            fn client(address: $address) -> [u32; 4] {
                $client(address)
            }

            #[inline(always)]
            fn address_of(namespace: &Namespace) -> $address {
                namespace.$field
            }

            #[inline(always)]
            fn peer(key: &PeerKey<$address>) -> Option<Peer<$address>> {
                // SAFETY: what is evicted while it's read is a socket's that no longer uses it.
                unsafe { $peers.get_ptr(key).map(|found| *found) }
            }

            #[inline(always)]
            fn set_peer(key: &PeerKey<$address>, peer: &Peer<$address>) {
                named::set_used(used::PEERS);
                // A full table evicts.
                let _ = $peers.insert(key, peer, 0);
            }

            #[inline(always)]
            fn forget_peer(key: &PeerKey<$address>) {
                let _ = $peers.remove(key);
            }

            #[inline(always)]
            fn talk(key: &TalkKey<$address>) -> Option<u32> {
                // SAFETY: read once and whole.
                unsafe { $talks.get_ptr(key).map(|found| *found) }
            }

            #[inline(always)]
            fn set_talk(key: &TalkKey<$address>, backend: u32) {
                let _ = $talks.insert(key, backend, 0);
            }

            #[inline(always)]
            fn picked(key: &FlowKey<$address>) -> Option<u32> {
                // SAFETY: as above.
                unsafe { $picks.get_ptr(key).map(|found| *found) }
            }

            #[inline(always)]
            fn set_picked(key: &FlowKey<$address>, backend: u32) {
                let _ = $picks.insert(key, backend, 0);
            }
        }
    };
}

services!(
    Ipv4,
    V4,
    0,
    |v4: V4| v4.to_ne_bytes()[0] == 127,
    |[v4, ..]: [u32; 4]| v4,
    64,
    |v4| [0, 0, 0, v4],
    v4,
    FRONTENDS4,
    BACKENDS4,
    RANGES4,
    PEERS4,
    TALKS4,
    PICKS4
);
services!(
    Ipv6,
    V6,
    [0; 4],
    |v6: V6| v6 == [0, 0, 0, 1_u32.to_be()],
    |v6| v6,
    160,
    |v6| v6,
    v6,
    FRONTENDS6,
    BACKENDS6,
    RANGES6,
    PEERS6,
    TALKS6,
    PICKS6
);

/// The backend's id that is in a slot.
#[inline(always)]
pub fn slot(set: u32, slot: u32) -> Option<u32> {
    // SAFETY: entries aren't reused while this runs; so below.
    unsafe { SLOTS.get_ptr(SlotKey { set, slot }).map(|id| *id) }
}

/// A network namespace, if anything is known of it.
#[inline(always)]
pub fn namespace(cookie: u64) -> Option<&'static Namespace> {
    unsafe { NAMESPACES.get_ptr(cookie).map(|found| &*found) }
}

/// How often was chosen from a set before, around the end of the numbers.
#[inline(always)]
pub fn turn(set: u32) -> u32 {
    let Some(turns) = TURNS.get_ptr_mut(set) else {
        let _ = TURNS.insert(set, 1, aya_ebpf::bindings::BPF_NOEXIST.into());
        return 0;
    };
    // Two at the same moment may get the same turn: kernels before 5.12 can't read and add in one step.
    let turn = unsafe { *turns };
    add(turns, 1);
    turn as u32
}

/// How many connections a backend has: of this node's sockets, and of those that netfilter translates here.
#[inline(always)]
pub fn load(backend: u32) -> u64 {
    let sockets = unsafe { LOADS.get_ptr(backend).map_or(0, |load| *load) };
    sockets.wrapping_add(unsafe { TRANSLATED.get_ptr(backend).map_or(0, |load| *load) })
}

/// Counts a connection that netfilter is to translate. When it's over conntrack knows, and the agent, which
/// counts anew.
#[inline(always)]
pub fn count_translated(backend: u32) {
    match TRANSLATED.get_ptr_mut(backend) {
        Some(load) => add(load, 1),
        None => drop(TRANSLATED.insert(backend, 1, aya_ebpf::bindings::BPF_NOEXIST.into())),
    }
}

/// Counts a connection of a socket's, until it's closed.
#[inline(always)]
pub fn count_up(socket: u64, backend: u32) {
    count_down(socket);
    named::set_used(used::COUNTED);
    if LOADS.get_ptr(backend).is_none() {
        let _ = LOADS.insert(backend, 0, aya_ebpf::bindings::BPF_NOEXIST.into());
    }
    if let Some(load) = LOADS.get_ptr_mut(backend)
        && COUNTED.insert(socket, backend, 0).is_ok()
    {
        add(load, 1);
    }
}

/// A socket is closed, or connects again.
#[inline(always)]
pub fn count_down(socket: u64) {
    let Some(backend) = COUNTED.get_ptr(socket) else {
        return;
    };
    let backend = unsafe { *backend };
    if COUNTED.remove(socket).is_ok()
        && let Some(load) = LOADS.get_ptr_mut(backend)
    {
        add(load, u64::MAX);
    }
}

/// Where a client stays, for whoever wants to know and for marking that it came.
#[inline(always)]
pub fn affinity(key: &AffinityKey) -> Option<*mut Affinity> {
    AFFINITY.get_ptr_mut(key)
}

/// A client stays with a backend from now on.
#[inline(always)]
pub fn set_affinity(key: &AffinityKey, affinity: &Affinity) {
    let _ = AFFINITY.insert(key, affinity, 0);
}

/// Adds in one step, around the end of the numbers.
#[inline(always)]
fn add(to: *mut u64, more: u64) {
    // SAFETY: a map's value, aligned as it is. The one way that all kernels know; the compiler only has
    // others for this machine.
    unsafe { core::arch::asm!("lock *(u64 *)({to} + 0) += {more}", to = in(reg) to, more = in(reg) more) };
}
