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
//! anything changes in the tables that this is from, or in what policies allow. It's kept with who began,
//! by whom it's judged then ([`policy`](crate::policy)).

use bpf_abi::{End, Endpoint, Flow, FlowKey, Forward, end, endpoint, flow};

use crate::maps::{Family, generation};
use crate::packet::{Packet, Turned};
use crate::policy::Began;

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
    let [&way, _] = turned.of(&flow.ways);
    let [from, to] = turned.of(&flow.ends);
    if way & !flow::BEGAN != own || flow.generation != generation() {
        return None;
    }
    // Who may answer may not begin.
    if packet.begins && way & flow::BEGAN == 0 {
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

/// What is known of a conversation that isn't known to be allowed.
pub struct Seen {
    /// What becomes of it in both directions, with who began; zero if nothing is known.
    ways: [u16; 2],
    /// The packet is the answer that was awaited.
    answers: bool,
    /// The packet may take the shortcut.
    pub direct: bool,
    /// Who began.
    pub began: Began,
}

impl Seen {
    /// Nothing, and the packet doesn't take the shortcut.
    pub const NOTHING: Seen = Seen {
        ways: [0; 2],
        answers: false,
        direct: false,
        began: Began::Unknown,
    };
}

/// Whether the packet, of a sender in the direction `own`, may take the shortcut.
#[inline(always)]
pub fn see<F: Family>(packet: &Packet<F::Address>, own: u16) -> Seen {
    let (key, turned) = packet.conversation::<F>();
    if let Some(flow) = F::flow(&key) {
        let ways = flow.ways;
        let [way, _] = turned.order(ways);
        return Seen {
            ways,
            answers: false,
            direct: way & !flow::BEGAN == own,
            began: began(ways, turned),
        };
    }
    if packet.begins {
        return Seen {
            direct: true,
            began: Began::Sender,
            ..Seen::NOTHING
        };
    }
    match F::opening(&packet.key) {
        Some(opener) => Seen {
            ways: in_order(own, opener, turned),
            answers: true,
            direct: true,
            began: Began::Receiver,
        },
        None => Seen::NOTHING,
    }
}

/// Keeps what makes the next packet of a conversation take the shortcut by a look. `began`: who did, as
/// far as it's known by now; `now`: the generation that the path was found in.
#[inline(always)]
pub fn take<F: Family>(
    packet: &Packet<F::Address>,
    own: u16,
    path: &Path<F::Address>,
    seen: &Seen,
    began: Began,
    now: u32,
) {
    if seen.ways == [0; 2] {
        F::open(&packet.answer(), own);
        return;
    }
    let (key, turned) = packet.conversation::<F>();
    if seen.answers {
        // What stayed would make the conversation known for longer than the table of those that are.
        F::close(&packet.key);
    }
    F::keep(&key, &flow_of(path, begun(seen.ways, began, turned), now, turned));
}

/// Learns from a packet that has passed the network stack: `there` is its own direction's way, `back`
/// the other's, if it isn't translated. Who began is asked for only if it isn't known.
#[inline(always)]
pub fn learn<F: Family>(
    packet: &Packet<F::Address>,
    untranslated: bool,
    there: u16,
    back: u16,
    who_began: impl FnOnce() -> Began,
) {
    let (key, turned) = packet.conversation::<F>();
    let ways = match untranslated {
        true => in_order(there, back, turned),
        false => [flow::STACK; 2],
    };
    let mut known = Began::Unknown;
    if let Some(flow) = F::flow(&key) {
        let held = flow.ways;
        if held.map(|way| way & !flow::BEGAN) == ways {
            return;
        }
        known = began(held, turned);
    }
    if !untranslated {
        // Nor may an earlier beginning with the same ports mislead what is translated.
        F::close(&packet.key);
        F::close(&packet.answer());
    }
    if known == Began::Unknown {
        known = who_began();
    }
    F::keep(&key, &unplaced(&key, begun(ways, known, turned)));
}

/// Who began a conversation, as these tables know. `key` is the conversation's, `direction` the
/// packet's.
#[inline(always)]
pub fn who_began<F: Family>(
    key: &FlowKey<F::Address>,
    turned: Turned,
    direction: &FlowKey<F::Address>,
) -> Began {
    if let Some(flow) = F::flow(key) {
        return began(flow.ways, turned);
    }
    match F::opening(direction) {
        Some(_) => Began::Receiver,
        None => Began::Unknown,
    }
}

/// Who began, by the marks of both directions.
#[inline(always)]
fn began(ways: [u16; 2], turned: Turned) -> Began {
    let [own, other] = turned.order(ways);
    if own & flow::BEGAN != 0 {
        Began::Sender
    } else if other & flow::BEGAN != 0 {
        Began::Receiver
    } else {
        Began::Unknown
    }
}

/// The ways with marks of who began; if that isn't known they stay as they are.
#[inline(always)]
fn begun(ways: [u16; 2], began: Began, turned: Turned) -> [u16; 2] {
    let [first, second] = [ways[0] & !flow::BEGAN, ways[1] & !flow::BEGAN];
    match (began, turned.is()) {
        (Began::Unknown, _) => ways,
        (Began::Sender, false) | (Began::Receiver, true) => [first | flow::BEGAN, second],
        (Began::Sender, true) | (Began::Receiver, false) => [first, second | flow::BEGAN],
    }
}

#[inline(always)]
fn in_order(there: u16, back: u16, turned: Turned) -> [u16; 2] {
    turned.order([there, back])
}

#[inline(always)]
fn flow_of<A: Copy>(path: &Path<A>, ways: [u16; 2], now: u32, turned: Turned) -> Flow<A> {
    Flow {
        ways,
        generation: now,
        ends: match turned.is() {
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
