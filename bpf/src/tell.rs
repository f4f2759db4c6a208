//! What is told of conversations, and counted.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{LruPerCpuHashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::TcContext;
use bpf_abi::policy::{Event, PACE, Pace, event, setting};
use bpf_abi::size;

use crate::maps::{Family, Ipv6};
use crate::neighbour::link;
use crate::policy::{Began, Question};
use crate::rules::{id, is_set};

#[map(name = "events")]
static EVENTS: RingBuf = RingBuf::with_byte_size(size::EVENTS, 0);
#[map(name = "pace")]
static PACES: PerCpuArray<Pace> = PerCpuArray::with_max_entries(1, 0);
/// How many conversations each rule has allowed.
#[map(name = "allowed")]
static ALLOWED: LruPerCpuHashMap<u64, u64> = LruPerCpuHashMap::with_max_entries(size::TALLIES, 0);
/// How many packets each set has denied.
#[map(name = "denied")]
static DENIED: LruPerCpuHashMap<u64, u64> = LruPerCpuHashMap::with_max_entries(size::TALLIES, 0);

/// Of TCP's flags, those that end a connection: FIN and RST.
pub const ENDS: u8 = 5;
/// Of those, the one that ends it for both sides.
pub const RESETS: u8 = 4;

/// Whether beginnings and ends are told, too.
#[inline(always)]
pub fn is_followed() -> bool {
    is_set(setting::FOLLOWED)
}

/// Counts a conversation for the rule that allowed it.
#[inline(always)]
pub fn tally_allowed(rule: u64) {
    if rule != 0 {
        tally(&ALLOWED, rule);
    }
}

/// Counts a packet for the set that denied it.
#[inline(always)]
pub fn tally_denied(set: u64) {
    tally(&DENIED, set);
}

#[inline(always)]
fn tally(tallies: &LruPerCpuHashMap<u64, u64>, of: u64) {
    match tallies.get_ptr_mut(of) {
        // SAFETY: it's this processor's own.
        Some(count) => unsafe { *count += 1 },
        None => drop(tallies.insert(of, 1, 0)),
    }
}

/// Tells of a packet, unless this processor tells too much already, or nobody reads.
#[inline(always)]
pub fn tell<F: Family>(ctx: &TcContext, kind: u8, asked: &Question<F::Address>) {
    let Some(pace) = PACES.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: it's this processor's own; a lost count is no harm.
    let pace = unsafe { &mut *pace };
    let time = unsafe { bpf_ktime_get_boot_ns() };
    let tenth = time / 100_000_000;
    if pace.tenth != tenth {
        pace.tenth = tenth;
        pace.told = 0;
    }
    if pace.told >= PACE {
        pace.lost += 1;
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        pace.lost += 1;
        return;
    };
    pace.told += 1;
    let (key, verdict) = (&asked.subject.key, &asked.verdict);
    let mut bits = if F::AF == Ipv6::AF { event::V6 } else { 0 };
    if asked.began == Began::Receiver {
        bits |= event::ANSWER;
    }
    if asked.has_peer {
        bits |= event::PEER;
    }
    let told = entry.as_mut_ptr();
    // SAFETY: there's room for one, and each of its fields is written.
    unsafe {
        (*told).time = time;
        (*told).sets = [id(verdict.sets[0]), id(verdict.sets[1])];
        (*told).rules = [id(verdict.rules[0]), id(verdict.rules[1])];
        (*told).classes = [id(verdict.classes[0]), id(verdict.classes[1])];
        (*told).source = F::next_hop(key.source);
        (*told).destination = F::next_hop(key.destination);
        (*told).peer = F::next_hop(asked.peer);
        (*told).source_port = key.source_port;
        (*told).destination_port = key.destination_port;
        (*told).peer_port = asked.peer_port;
        (*told).protocol = key.protocol;
        (*told).kind = kind;
        (*told).link = link(ctx);
        (*told).direction = verdict.denied as u8;
        (*told).bits = bits;
        (*told).flags = asked.subject.flags;
        (*told).zero = 0;
    }
    entry.submit(0);
}
