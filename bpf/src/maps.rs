//! The maps, and the tables of one address family as one type.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key as Prefix;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, PerCpuArray};
use bpf_abi::{Counter, Endpoint, Flow, FlowKey, Forward, V4, V6, size};

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
static FLOWS4: Array<Flow<V4>> = Array::with_max_entries(size::FLOWS, 0);
#[map(name = "flows6")]
static FLOWS6: Array<Flow<V6>> = Array::with_max_entries(size::FLOWS, 0);
#[map(name = "names4")]
static NAMES4: Array<u64> = Array::with_max_entries(size::SETS, 0);
#[map(name = "names6")]
static NAMES6: Array<u64> = Array::with_max_entries(size::SETS, 0);
#[map(name = "openings4")]
static OPENINGS4: Array<Flow<V4>> = Array::with_max_entries(size::OPENINGS, 0);
#[map(name = "openings6")]
static OPENINGS6: Array<Flow<V6>> = Array::with_max_entries(size::OPENINGS, 0);
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

/// What decides on places, so that nobody outside can tell which have the same: the agent writes it once, and
/// versions that come later keep it, as they keep what is in those places.
#[map(name = "seed")]
static SEED: Array<u64> = Array::with_max_entries(1, 0);

/// A number that words give, spread over all numbers.
#[inline(always)]
fn hash<const N: usize>(words: [u64; N]) -> u64 {
    let mut hash = SEED.get(0).copied().unwrap_or(0);
    for word in words {
        hash = (hash ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
        hash ^= hash >> 32;
    }
    hash
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
    /// A conversation's key, in words.
    type Words: Copy + PartialEq;
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
    /// A conversation's key, in words.
    fn words(key: &FlowKey<Self::Address>) -> Self::Words;
    /// A number that a key always gives, spread over all numbers.
    fn hash(key: Self::Words) -> u64;
    /// What a key and a next hop come to, times the first of these.
    fn sum(key: Self::Words, gateway: Self::Address, times: &[u64; 12]) -> u64;
    /// The names of those in a set.
    fn names(set: u32) -> Option<*mut u64>;
    /// A conversation's place.
    fn flow(at: u32) -> Option<*mut Flow<Self::Address>>;
    /// A beginning's place.
    fn opening(at: u32) -> Option<*mut Flow<Self::Address>>;
    /// Whose an entry is.
    fn key_of(slot: *const Flow<Self::Address>) -> Self::Words;
    /// Makes an entry as another is.
    fn copy(from: *const Flow<Self::Address>, to: *mut Flow<Self::Address>);
    /// Makes an entry a conversation's.
    fn set_key(slot: *mut Flow<Self::Address>, key: Self::Words);
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
    ($family:ident, $address:ty, $af:literal, $header:literal, $bits:literal, $words:literal, $hop:expr, $mix:expr, $before:expr,
     $exchange:expr, $key:expr, $endpoints:ident, $forwards:ident, $names:ident, $flows:ident, $openings:ident) => {
        impl Family for $family {
            type Address = $address;
            type Words = [u64; $words];
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
            fn words(key: &FlowKey<$address>) -> [u64; $words] {
                $key(key)
            }

            #[inline(always)]
            fn hash(key: [u64; $words]) -> u64 {
                hash(key)
            }

            #[inline(always)]
            fn sum(key: [u64; $words], gateway: $address, times: &[u64; 12]) -> u64 {
                let mut sum: u64 = 0;
                for at in 0..$words {
                    sum = sum.wrapping_add(key[at].wrapping_mul(times[at]));
                }
                let [a, b, c, d] = $hop(gateway).map(u64::from);
                sum = sum.wrapping_add((a | b << 32).wrapping_mul(times[5]));
                sum.wrapping_add((c | d << 32).wrapping_mul(times[6]))
            }

            #[inline(always)]
            fn names(set: u32) -> Option<*mut u64> {
                $names.get_ptr_mut(set)
            }

            #[inline(always)]
            fn flow(at: u32) -> Option<*mut Flow<$address>> {
                $flows.get_ptr_mut(at)
            }

            #[inline(always)]
            fn opening(at: u32) -> Option<*mut Flow<$address>> {
                $openings.get_ptr_mut(at)
            }

            #[inline(always)]
            fn key_of(slot: *const Flow<$address>) -> [u64; $words] {
                // SAFETY: the map's value, which begins with the key and is aligned to such words.
                core::array::from_fn(|at| unsafe { slot.cast::<u64>().add(at).read_volatile() })
            }

            #[inline(always)]
            fn copy(from: *const Flow<$address>, to: *mut Flow<$address>) {
                for at in 0..size_of::<Flow<$address>>() / 4 {
                    // SAFETY: the maps' values.
                    unsafe {
                        to.cast::<u32>()
                            .add(at)
                            .write_volatile(from.cast::<u32>().add(at).read_volatile())
                    };
                }
            }

            #[inline(always)]
            fn set_key(slot: *mut Flow<$address>, key: [u64; $words]) {
                for at in 0..$words {
                    // SAFETY: as above.
                    unsafe { slot.cast::<u64>().add(at).write_volatile(key[at]) };
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

/// Two words as one, as they are laid out in memory.
#[inline(always)]
fn pair([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// The last word of a key.
#[inline(always)]
fn last<A>(key: &FlowKey<A>) -> u64 {
    u64::from(key.source_port) | u64::from(key.destination_port) << 16 | u64::from(key.protocol) << 32
}

family!(
    Ipv4,
    V4,
    2,
    20,
    32,
    2,
    |v4| [v4, 0, 0, 0],
    Mix::word,
    |one, other| borrow(one, other, 0),
    exchange,
    |key: &FlowKey<V4>| [pair([key.source, key.destination]), last(key)],
    ENDPOINTS4,
    FORWARDS4,
    NAMES4,
    FLOWS4,
    OPENINGS4
);
family!(
    Ipv6,
    V6,
    10,
    40,
    128,
    5,
    |v6| v6,
    Mix::words,
    words_before,
    exchange_words,
    |key: &FlowKey<V6>| {
        let ([a, b, c, d], [e, f, g, h]) = (key.source, key.destination);
        [pair([a, b]), pair([c, d]), pair([e, f]), pair([g, h]), last(key)]
    },
    ENDPOINTS6,
    FORWARDS6,
    NAMES6,
    FLOWS6,
    OPENINGS6
);
