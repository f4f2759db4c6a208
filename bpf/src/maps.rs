//! The maps, and the tables of one address family as one type.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key as Prefix;
use aya_ebpf::maps::{HashMap, LpmTrie, LruHashMap, PerCpuArray};
use bpf_abi::{Counter, Endpoint, Flow, FlowKey, Forward, V4, V6, size};

// Not set aside beforehand: an entry that is removed stays what it was for whoever reads it.
#[map(name = "endpoints4")]
static ENDPOINTS4: HashMap<V4, Endpoint> = HashMap::with_max_entries(size::ENDPOINTS, BPF_F_NO_PREALLOC);
#[map(name = "endpoints6")]
static ENDPOINTS6: HashMap<V6, Endpoint> = HashMap::with_max_entries(size::ENDPOINTS, BPF_F_NO_PREALLOC);
#[map(name = "forwards4")]
static FORWARDS4: LpmTrie<V4, Forward<V4>> = LpmTrie::with_max_entries(size::FORWARDS, 0);
#[map(name = "forwards6")]
static FORWARDS6: LpmTrie<V6, Forward<V6>> = LpmTrie::with_max_entries(size::FORWARDS, 0);
#[map(name = "flows4")]
static FLOWS4: LruHashMap<FlowKey<V4>, Flow> = LruHashMap::with_max_entries(size::FLOWS, 0);
#[map(name = "flows6")]
static FLOWS6: LruHashMap<FlowKey<V6>, Flow> = LruHashMap::with_max_entries(size::FLOWS, 0);
#[map(name = "openings4")]
static OPENINGS4: LruHashMap<FlowKey<V4>, u32> = LruHashMap::with_max_entries(size::OPENINGS, 0);
#[map(name = "openings6")]
static OPENINGS6: LruHashMap<FlowKey<V6>, u32> = LruHashMap::with_max_entries(size::OPENINGS, 0);
#[map(name = "counters")]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// Counts one packet.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(count) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot is this CPU's, and programs of this type don't interrupt each other on it
        // but for softirqs, where a lost count is no harm.
        unsafe { *count += 1 };
    }
}

/// An address family: its addresses, and what is known of them.
pub trait Family {
    /// An address.
    type Address: Copy + PartialEq + 'static;
    /// The kernel's number of it.
    const AF: u32;
    /// Length of the network header, without options.
    const HEADER: u32;

    /// The pod of this node that has the address.
    fn endpoint(address: Self::Address) -> Option<&'static Endpoint>;
    /// The way to the other node's pod that has the address.
    fn forward(address: Self::Address) -> Option<&'static Forward<Self::Address>>;
    /// What is known of a direction of a conversation.
    fn way(key: &FlowKey<Self::Address>) -> Option<u32>;
    /// Keeps the way of a direction of a conversation.
    fn set_way(key: &FlowKey<Self::Address>, way: u32);
    /// The way of the direction that began, if its answer is awaited.
    fn opening(answer: &FlowKey<Self::Address>) -> Option<u32>;
    /// Awaits an answer.
    fn open(answer: &FlowKey<Self::Address>, way: u32);
    /// Awaits no answer any more.
    fn close(answer: &FlowKey<Self::Address>);
    /// The next hop, as the kernel takes it.
    fn next_hop(gateway: Self::Address) -> [u32; 4];
}

/// IPv4.
pub struct Ipv4;
/// IPv6.
pub struct Ipv6;

macro_rules! family {
    ($family:ident, $address:ty, $af:literal, $header:literal, $bits:literal, $hop:expr,
     $endpoints:ident, $forwards:ident, $flows:ident, $openings:ident) => {
        impl Family for $family {
            type Address = $address;
            const AF: u32 = $af;
            const HEADER: u32 = $header;

            #[inline(always)]
            fn endpoint(address: $address) -> Option<&'static Endpoint> {
                // SAFETY: entries aren't reused while this runs, as the map isn't set aside.
                unsafe { $endpoints.get_ptr(address).map(|found| &*found) }
            }

            #[inline(always)]
            fn forward(address: $address) -> Option<&'static Forward<$address>> {
                $forwards.get(Prefix::new($bits, address))
            }

            #[inline(always)]
            fn way(key: &FlowKey<$address>) -> Option<u32> {
                // SAFETY: read once and whole; an entry that was just evicted is stale by one packet.
                unsafe { $flows.get_ptr(key).map(|flow| (*flow).way) }
            }

            #[inline(always)]
            fn set_way(key: &FlowKey<$address>, way: u32) {
                // A full table evicts; what isn't kept takes the stack.
                let _ = $flows.insert(key, Flow { way, epoch: 0 }, 0);
            }

            #[inline(always)]
            fn opening(answer: &FlowKey<$address>) -> Option<u32> {
                // SAFETY: as above.
                unsafe { $openings.get_ptr(answer).map(|way| *way) }
            }

            #[inline(always)]
            fn open(answer: &FlowKey<$address>, way: u32) {
                let _ = $openings.insert(answer, way, 0);
            }

            #[inline(always)]
            fn close(answer: &FlowKey<$address>) {
                let _ = $openings.remove(answer);
            }

            #[inline(always)]
            fn next_hop(gateway: $address) -> [u32; 4] {
                $hop(gateway)
            }
        }
    };
}

family!(
    Ipv4,
    V4,
    2,
    20,
    32,
    |v4| [v4, 0, 0, 0],
    ENDPOINTS4,
    FORWARDS4,
    FLOWS4,
    OPENINGS4
);
family!(
    Ipv6,
    V6,
    10,
    40,
    128,
    |v6| v6,
    ENDPOINTS6,
    FORWARDS6,
    FLOWS6,
    OPENINGS6
);
