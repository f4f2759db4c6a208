//! Network policies: the maps, and those of one address family as one type.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key as Prefix;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use bpf_abi::policy::{Id, Isolation, Judged, PieceKey, RANGE_BITS, RuleKey, hint, setting};
use bpf_abi::{FlowKey, V4, V6, size};

use crate::maps::{Family, Ipv4, Ipv6};
use crate::slow::Desk;

// None that the agent writes is set aside beforehand.
#[map(name = "isolation4")]
static ISOLATION4: HashMap<V4, Isolation> = HashMap::with_max_entries(size::ENDPOINTS, BPF_F_NO_PREALLOC);
#[map(name = "isolation6")]
static ISOLATION6: HashMap<V6, Isolation> = HashMap::with_max_entries(size::ENDPOINTS, BPF_F_NO_PREALLOC);
#[map(name = "classes4")]
static CLASSES4: HashMap<V4, Id> = HashMap::with_max_entries(size::CLASSES, BPF_F_NO_PREALLOC);
#[map(name = "classes6")]
static CLASSES6: HashMap<V6, Id> = HashMap::with_max_entries(size::CLASSES, BPF_F_NO_PREALLOC);
#[map(name = "blocks4")]
static BLOCKS4: LpmTrie<V4, Id> = LpmTrie::with_max_entries(size::BLOCKS, 0);
#[map(name = "blocks6")]
static BLOCKS6: LpmTrie<V6, Id> = LpmTrie::with_max_entries(size::BLOCKS, 0);
#[map(name = "rules")]
static RULES: HashMap<RuleKey, Id> = HashMap::with_max_entries(size::RULES, BPF_F_NO_PREALLOC);
#[map(name = "rule_ranges")]
static RULE_RANGES: LpmTrie<RuleKey, Id> = LpmTrie::with_max_entries(size::RULES, 0);
#[map(name = "judged4")]
static JUDGED4: LruHashMap<FlowKey<V4>, Judged<V4>> = LruHashMap::with_max_entries(size::JUDGED, 0);
#[map(name = "judged6")]
static JUDGED6: LruHashMap<FlowKey<V6>, Judged<V6>> = LruHashMap::with_max_entries(size::JUDGED, 0);
#[map(name = "asked4")]
static ASKED4: LruHashMap<FlowKey<V4>, Judged<V4>> = LruHashMap::with_max_entries(size::JUDGED, 0);
#[map(name = "asked6")]
static ASKED6: LruHashMap<FlowKey<V6>, Judged<V6>> = LruHashMap::with_max_entries(size::JUDGED, 0);
#[map(name = "pieces4")]
static PIECES4: LruHashMap<PieceKey<V4>, u32> = LruHashMap::with_max_entries(size::PIECES, 0);
#[map(name = "pieces6")]
static PIECES6: LruHashMap<PieceKey<V6>, u32> = LruHashMap::with_max_entries(size::PIECES, 0);
#[map(name = "desk4")]
static DESKS4: PerCpuArray<Desk<V4>> = PerCpuArray::with_max_entries(1, 0);
#[map(name = "desk6")]
static DESKS6: PerCpuArray<Desk<V6>> = PerCpuArray::with_max_entries(1, 0);
#[map(name = "settings")]
static SETTINGS: Array<u32> = Array::with_max_entries(setting::COUNT, 0);

/// What the agent wishes.
#[inline(always)]
pub fn is_set(setting: u32) -> bool {
    SETTINGS.get(setting).is_some_and(|value| *value != 0)
}

/// A digest as one number, as it's laid out in memory.
#[inline(always)]
pub fn number([low, high]: Id) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// A digest by its number.
#[inline(always)]
pub fn id(number: u64) -> Id {
    [number as u32, (number >> 32) as u32]
}

/// A family's policies.
pub trait Policies: Family {
    /// What holds for a pod of this node; that nothing is known of another.
    fn isolation(address: Self::Address) -> Isolation;
    /// What an address is to policies; zero if nothing.
    fn class(address: Self::Address) -> u64;
    /// What is known of a conversation by the stack, of which both sides were seen. It may be another
    /// one's by the time it's read.
    fn judged(key: &FlowKey<Self::Address>) -> Option<Judged<Self::Address>>;
    /// The same of one that wasn't answered yet.
    fn asked(key: &FlowKey<Self::Address>) -> Option<Judged<Self::Address>>;
    /// Keeps what is known of a conversation.
    fn set_judged(key: &FlowKey<Self::Address>, judged: &Judged<Self::Address>);
    /// The same of one that wasn't answered yet.
    fn set_asked(key: &FlowKey<Self::Address>, judged: &Judged<Self::Address>);
    /// Forgets it.
    fn forget_judged(key: &FlowKey<Self::Address>);
    /// Forgets that it wasn't answered yet.
    fn forget_asked(key: &FlowKey<Self::Address>);
    /// Whether a packet's first piece was allowed.
    fn has_piece(key: &PieceKey<Self::Address>) -> bool;
    /// A packet's first piece is allowed.
    fn set_piece(key: &PieceKey<Self::Address>);
    /// Where this processor's desk is.
    fn desk() -> Option<*mut Desk<Self::Address>>;
}

macro_rules! policies {
    ($family:ident, $address:ty, $bits:literal, $isolation:ident, $classes:ident, $blocks:ident,
     $judged:ident, $asked:ident, $pieces:ident, $desks:ident) => {
        impl Policies for $family {
            #[inline(always)]
            fn isolation(address: $address) -> Isolation {
                // SAFETY: entries aren't reused while this runs, as the map isn't set aside.
                let known = unsafe { $isolation.get_ptr(address).map(|found| *found) };
                known.unwrap_or(Isolation::UNKNOWN)
            }

            #[inline(always)]
            fn class(address: $address) -> u64 {
                // SAFETY: as above.
                if let Some(class) = unsafe { $classes.get_ptr(address).map(|found| *found) } {
                    return number(class);
                }
                $blocks
                    .get(Prefix::new($bits, address))
                    .map_or(0, |class| number(*class))
            }

            #[inline(always)]
            fn judged(key: &FlowKey<$address>) -> Option<Judged<$address>> {
                // SAFETY: the memory stays the table's.
                unsafe { $judged.get_ptr(key).map(|found| *found) }
            }

            #[inline(always)]
            fn asked(key: &FlowKey<$address>) -> Option<Judged<$address>> {
                // SAFETY: as above.
                unsafe { $asked.get_ptr(key).map(|found| *found) }
            }

            #[inline(always)]
            fn set_judged(key: &FlowKey<$address>, judged: &Judged<$address>) {
                // A full table evicts.
                let _ = $judged.insert(key, judged, 0);
            }

            #[inline(always)]
            fn set_asked(key: &FlowKey<$address>, judged: &Judged<$address>) {
                let _ = $asked.insert(key, judged, 0);
            }

            #[inline(always)]
            fn forget_judged(key: &FlowKey<$address>) {
                let _ = $judged.remove(key);
            }

            #[inline(always)]
            fn forget_asked(key: &FlowKey<$address>) {
                let _ = $asked.remove(key);
            }

            #[inline(always)]
            fn has_piece(key: &PieceKey<$address>) -> bool {
                $pieces.get_ptr(key).is_some()
            }

            #[inline(always)]
            fn set_piece(key: &PieceKey<$address>) {
                let _ = $pieces.insert(key, 1, 0);
            }

            #[inline(always)]
            fn desk() -> Option<*mut Desk<$address>> {
                $desks.get_ptr_mut(0)
            }
        }
    };
}

policies!(
    Ipv4, V4, 32, ISOLATION4, CLASSES4, BLOCKS4, JUDGED4, ASKED4, PIECES4, DESKS4
);
policies!(
    Ipv6, V6, 128, ISOLATION6, CLASSES6, BLOCKS6, JUDGED6, ASKED6, PIECES6, DESKS6
);

/// The rule by which a set allows a class; zero if there's none. `protocol` may be any; without ports,
/// `port` is zero.
///
/// A function of its own, with a stack of its own. The kernel wants its arguments to be numbers.
#[inline(never)]
pub fn allowing(set: u64, class: u64, protocol: u32, port: u32) -> u64 {
    let hints = set as u32;
    if set == u64::MAX {
        return 0;
    }
    if hints & hint::PEERS != 0 && class != 0 {
        let rule = of_class(set, class, protocol as u16, port as u16);
        if rule != 0 {
            return rule;
        }
    }
    if hints & hint::ANY_PEER != 0 {
        return of_class(set, 0, protocol as u16, port as u16);
    }
    0
}

#[inline(always)]
fn of_class(set: u64, class: u64, protocol: u16, port: u16) -> u64 {
    let hints = set as u32;
    let mut key = RuleKey {
        set: id(set),
        class: id(class),
        protocol,
        port,
    };
    // SAFETY: entries aren't reused while this runs, as the map isn't set aside.
    let rule = |key: &RuleKey| unsafe { RULES.get_ptr(key).map(|found| number(*found)) };
    // Zero stands for all of them.
    if port != 0
        && hints & hint::PORTS != 0
        && let Some(rule) = rule(&key)
    {
        return rule;
    }
    if hints & hint::RANGES != 0
        && let Some(rule) = RULE_RANGES.get(Prefix::new(RANGE_BITS + 16, key))
    {
        return number(*rule);
    }
    key.port = 0;
    if hints & hint::PROTOCOLS != 0
        && let Some(rule) = rule(&key)
    {
        return rule;
    }
    key.protocol = 0;
    if hints & hint::EVERYTHING != 0
        && let Some(rule) = rule(&key)
    {
        return rule;
    }
    0
}
