//! Which conversations may take the shortcut.
//!
//! A packet may take it only if no node's netfilter translates its conversation: an answer that
//! bypasses the translation of what it answers never finds its asker. So the shortcut is taken
//!
//! - by what begins a conversation (a TCP SYN, an echo request) between two pods' own addresses: it
//!   can't be an answer. Its answer is awaited, and makes the conversation known;
//! - by what belongs to a known conversation;
//! - by what was seen to pass the network stack untranslated (UDP's first packet, a conversation that
//!   was evicted), which a mark says.
//!
//! Everything else, a miss first of all, goes by the stack. What the stack translates is kept as
//! such in both directions, so that an earlier conversation with the same ports doesn't mislead it.
//!
//! A known conversation is kept with all that its packets need, so that each costs one look; until
//! anything changes in the tables that this is from.

use bpf_abi::{End, Endpoint, Flow, FlowKey, Forward, end, endpoint, flow};

use crate::maps::{Family, generation};
use crate::packet::Packet;

/// Where a packet comes from and where it goes.
pub struct Path<A> {
    pub from: End<A>,
    pub to: End<A>,
    /// The next hop to whichever of them is elsewhere.
    pub gateway: A,
}

/// A pod of this node.
#[inline(always)]
pub fn here<A>(address: A, pod: &Endpoint) -> End<A> {
    End {
        address,
        link: pod.link,
        mtu: pod.mtu,
        mac: pod.mac,
        place: match pod.flags & endpoint::SHAPED {
            0 => end::HERE,
            _ => end::SHAPED,
        },
    }
}

/// A pod of another node.
#[inline(always)]
pub fn elsewhere<A>(address: A, forward: &Forward<A>) -> End<A> {
    End {
        address,
        link: forward.link,
        mtu: forward.mtu,
        mac: [0; 3],
        place: end::ELSEWHERE,
    }
}

/// The packet's path, if its conversation is known to take the shortcut in the direction `own`, and
/// nothing has changed since its path was found.
///
/// The entry may become another conversation's while it's read, as no lock is held. The kernel
/// writes entries from their beginning on, and an end begins with its address: read last, it says
/// whose all the rest is. Between the same two addresses all the rest is the same.
#[inline(always)]
pub fn known<F: Family>(packet: &Packet<F::Address>, own: u16) -> Option<Path<F::Address>> {
    let (key, turned) = packet.conversation::<F>();
    let flow = F::flow(&key)?;
    let (way, [from, to]) = match turned {
        false => (flow.ways[0], [&flow.ends[0], &flow.ends[1]]),
        true => (flow.ways[1], [&flow.ends[1], &flow.ends[0]]),
    };
    if way != own || flow.generation != generation() {
        return None;
    }
    let path = Path {
        from: *from,
        to: *to,
        gateway: flow.gateway,
    };
    // SAFETY: references are valid; it's for the order of the reads.
    let (from, to) = unsafe {
        (
            core::ptr::read_volatile(&raw const from.address),
            core::ptr::read_volatile(&raw const to.address),
        )
    };
    let is_its = from == packet.key.source && to == packet.key.destination;
    (is_its && matches!(path.to.place, end::HERE | end::ELSEWHERE)).then_some(path)
}

/// Whether the packet, of a sender in the direction `own`, may take the shortcut, which is that path.
#[inline(always)]
pub fn allows<F: Family>(packet: &Packet<F::Address>, own: u16, path: &Path<F::Address>) -> bool {
    let (key, turned) = packet.conversation::<F>();
    if let Some(flow) = F::flow(&key) {
        let ways = flow.ways;
        let way = if turned { ways[1] } else { ways[0] };
        if way == own {
            F::keep(&key, &flow_of(path, ways, turned));
        }
        return way == own;
    }
    if packet.begins {
        F::open(&packet.answer(), own);
        return true;
    }
    let Some(opener) = F::opening(&packet.key) else {
        return false;
    };
    // What stayed would make the conversation known for longer than the table of those that are.
    F::close(&packet.key);
    F::keep(&key, &flow_of(path, in_order(own, opener, turned), turned));
    true
}

/// Learns from a packet that has passed the network stack: `there` is its own direction's way, `back`
/// the other's, if it isn't translated.
#[inline(always)]
pub fn learn<F: Family>(packet: &Packet<F::Address>, untranslated: bool, there: u16, back: u16) {
    let (key, turned) = packet.conversation::<F>();
    let ways = match untranslated {
        true => in_order(there, back, turned),
        false => [flow::STACK; 2],
    };
    if F::flow(&key).is_some_and(|flow| flow.ways == ways) {
        return;
    }
    if !untranslated {
        // Nor may an earlier beginning with the same ports mislead what is translated.
        F::close(&packet.key);
        F::close(&packet.answer());
    }
    F::keep(&key, &unplaced(&key, ways));
}

#[inline(always)]
fn in_order(there: u16, back: u16, turned: bool) -> [u16; 2] {
    if turned { [back, there] } else { [there, back] }
}

#[inline(always)]
fn flow_of<A: Copy>(path: &Path<A>, ways: [u16; 2], turned: bool) -> Flow<A> {
    Flow {
        ways,
        generation: generation(),
        ends: match turned {
            false => [path.from, path.to],
            true => [path.to, path.from],
        },
        gateway: path.gateway,
    }
}

/// A conversation whose path isn't known yet, or needn't be. No generation is zero.
#[inline(always)]
fn unplaced<A: Copy>(key: &FlowKey<A>, ways: [u16; 2]) -> Flow<A> {
    let end = |address| End {
        address,
        link: 0,
        mtu: 0,
        mac: [0; 3],
        place: end::UNKNOWN,
    };
    Flow {
        ways,
        generation: 0,
        ends: [end(key.source), end(key.destination)],
        gateway: key.source,
    }
}
