//! The maps, and the tables of one address family as one type.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key as Prefix;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use bpf_abi::{Counter, Endpoint, Flow, FlowKey, Forward, Opening, V4, V6, size};

use crate::mix::Mix;

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
static FLOWS4: LruHashMap<FlowKey<V4>, Flow<V4>> = LruHashMap::with_max_entries(size::FLOWS, 0);
#[map(name = "flows6")]
static FLOWS6: LruHashMap<FlowKey<V6>, Flow<V6>> = LruHashMap::with_max_entries(size::FLOWS, 0);
#[map(name = "openings4")]
static OPENINGS4: Array<Opening<V4>> = Array::with_max_entries(size::OPENINGS, 0);
#[map(name = "openings6")]
static OPENINGS6: Array<Opening<V6>> = Array::with_max_entries(size::OPENINGS, 0);
#[map(name = "counters")]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// Changes with every change of endpoints, forwards and policies; never zero.
#[map(name = "generation")]
static GENERATION: Array<u32> = Array::with_max_entries(1, 0);

/// The generation of the endpoints, forwards and policies. What is kept as true of it must have been read
/// after it.
#[inline(always)]
pub fn generation() -> u32 {
    GENERATION.get(0).copied().unwrap_or(0)
}

/// What decides on slots, so that nobody outside can tell which have the same; the agent writes it when it
/// loads this.
#[unsafe(no_mangle)]
static SEED: u32 = 1;

/// A direction's hash.
#[inline(always)]
fn hash<F: Family>(key: &FlowKey<F::Address>) -> u32 {
    // SAFETY: the loader has written it, and nobody writes it any more.
    let mix = Mix::new(unsafe { (&raw const SEED).read_volatile() });
    let mix = F::mix(F::mix(mix, key.source), key.destination);
    let ports = u32::from(key.source_port) | u32::from(key.destination_port) << 16;
    mix.word(ports).word(key.protocol.into()).end()
}

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
    /// One if the one address comes before the other, in an order that both ends of a conversation agree on,
    /// else zero: by arithmetic, as all that comes after a branch the kernel follows twice.
    fn before(one: Self::Address, other: Self::Address) -> u64;
    /// The two addresses, exchanged where the mask has bits.
    fn exchange(mask: u32, one: Self::Address, other: Self::Address) -> [Self::Address; 2];
    /// What is known of a conversation. It may be another one's by the time it's read: a table that is
    /// full gives its entries away.
    fn flow(key: &FlowKey<Self::Address>) -> Option<&'static Flow<Self::Address>>;
    /// Keeps what is known of a conversation.
    fn keep(key: &FlowKey<Self::Address>, flow: &Flow<Self::Address>);
    /// The way of the direction that began, if its answer is awaited.
    fn opening(answer: &FlowKey<Self::Address>) -> Option<u16>;
    /// Awaits an answer.
    fn open(answer: &FlowKey<Self::Address>, way: u16);
    /// Awaits no answer any more.
    fn close(answer: &FlowKey<Self::Address>);
    /// An address, IPv4's in the first word: a next hop, as the kernel takes it.
    fn next_hop(gateway: Self::Address) -> [u32; 4];
    /// Mixes an address in.
    fn mix(mix: Mix, address: Self::Address) -> Mix;
}

/// IPv4.
pub struct Ipv4;
/// IPv6.
pub struct Ipv6;

macro_rules! family {
    ($family:ident, $address:ty, $af:literal, $header:literal, $bits:literal, $hop:expr, $mix:expr, $before:expr, $exchange:expr,
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
            fn before(one: $address, other: $address) -> u64 {
                $before(one, other)
            }

            #[inline(always)]
            fn exchange(mask: u32, one: $address, other: $address) -> [$address; 2] {
                $exchange(mask, one, other)
            }

            #[inline(always)]
            fn flow(key: &FlowKey<$address>) -> Option<&'static Flow<$address>> {
                // SAFETY: the memory stays the table's.
                unsafe { $flows.get_ptr(key).map(|flow| &*flow) }
            }

            #[inline(always)]
            fn keep(key: &FlowKey<$address>, flow: &Flow<$address>) {
                // A full table evicts; what isn't kept takes the stack.
                let _ = $flows.insert(key, flow, 0);
            }

            #[inline(always)]
            fn opening(answer: &FlowKey<$address>) -> Option<u16> {
                let hash = hash::<$family>(answer);
                let slot = $openings.get(hash & (size::OPENINGS - 1))?;
                (slot.way != 0 && slot.hash == hash && slot.answer == *answer).then_some(slot.way as u16)
            }

            #[inline(always)]
            fn open(answer: &FlowKey<$address>, way: u16) {
                let hash = hash::<$family>(answer);
                if let Some(slot) = $openings.get_ptr_mut(hash & (size::OPENINGS - 1)) {
                    // SAFETY: the map's value. No lock is held: what two write at the same moment is
                    // nobody's, as its hash isn't its own.
                    unsafe {
                        (*slot).answer = *answer;
                        (*slot).hash = hash;
                        (*slot).way = way.into();
                    }
                }
            }

            #[inline(always)]
            fn close(answer: &FlowKey<$address>) {
                let hash = hash::<$family>(answer);
                if let Some(slot) = $openings.get_ptr_mut(hash & (size::OPENINGS - 1)) {
                    // SAFETY: as above.
                    unsafe {
                        if (*slot).hash == hash && (*slot).answer == *answer {
                            (*slot).way = 0;
                        }
                    }
                }
            }

            #[inline(always)]
            fn next_hop(gateway: $address) -> [u32; 4] {
                $hop(gateway)
            }

            #[inline(always)]
            fn mix(mix: Mix, address: $address) -> Mix {
                $mix(mix, address)
            }
        }
    };
}

/// What a subtraction borrows: one if `one` is less than `other` and what was borrowed before, else zero. In
/// the kernel's own words, as the compiler would make a branch of it.
#[inline(always)]
fn borrow(one: u32, other: u32, before: u64) -> u64 {
    let mut rest = u64::from(one);
    // SAFETY: it's arithmetic.
    unsafe {
        core::arch::asm!(
            "{rest} -= {other}",
            "{rest} -= {before}",
            "{rest} >>= 63",
            rest = inout(reg) rest,
            other = in(reg) u64::from(other),
            before = in(reg) before,
            options(pure, nomem, nostack)
        );
    }
    rest
}

#[inline(always)]
fn words_before(one: V6, other: V6) -> u64 {
    let mut borrowed = borrow(one[3], other[3], 0);
    borrowed = borrow(one[2], other[2], borrowed);
    borrowed = borrow(one[1], other[1], borrowed);
    borrow(one[0], other[0], borrowed)
}

/// Two numbers, exchanged where the mask has bits.
#[inline(always)]
pub fn exchange(mask: u32, one: u32, other: u32) -> [u32; 2] {
    let differs = (one ^ other) & mask;
    [one ^ differs, other ^ differs]
}

#[inline(always)]
fn exchange_words(mask: u32, [a, b, c, d]: V6, [e, f, g, h]: V6) -> [V6; 2] {
    let [a, e] = exchange(mask, a, e);
    let [b, f] = exchange(mask, b, f);
    let [c, g] = exchange(mask, c, g);
    let [d, h] = exchange(mask, d, h);
    [[a, b, c, d], [e, f, g, h]]
}

family!(
    Ipv4,
    V4,
    2,
    20,
    32,
    |v4| [v4, 0, 0, 0],
    Mix::word,
    |one, other| borrow(one, other, 0),
    exchange,
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
    Mix::words,
    words_before,
    exchange_words,
    ENDPOINTS6,
    FORWARDS6,
    FLOWS6,
    OPENINGS6
);
