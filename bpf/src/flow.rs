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

use bpf_abi::{End, Endpoint, FlowKey, Forward, end, endpoint, flow};

use crate::kept::{self, Kept, Place, Sought};
use crate::maps::{Family, generation};
use crate::packet::{Packet, Turned, conversation};
use crate::policy::Began;
use crate::tell;

/// Where a packet comes from and where it goes.
pub struct Path<A> {
    pub from: End,
    pub to: End,
    /// The next hop to whichever of them is elsewhere.
    pub gateway: A,
}

/// A pod of this node.
#[inline(always)]
pub fn here(pod: &Endpoint) -> End {
    End {
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
pub fn elsewhere<A>(forward: &Forward<A>) -> End {
    End {
        link: forward.link,
        mtu: forward.mtu,
        mac: [0; 3],
        place: end::ELSEWHERE,
    }
}

/// A conversation that takes the shortcut.
pub struct Known<A> {
    pub path: Path<A>,
    place: Place,
    turned: Turned,
    /// The packet is its first answer.
    answers: bool,
}

/// The packet's conversation with its path, if it is known to take the shortcut in the direction `own`, or
/// has begun so and the packet answers; and nothing has changed since its path was found.
#[inline(always)]
pub fn known<F: Family>(packet: &Packet<F::Address>, own: u16) -> Option<Known<F::Address>> {
    let (key, turned) = conversation::<F>(&packet.key);
    let sought = Sought::<F>::new(&key);
    let mut answers = false;
    let found = match kept::find(&sought) {
        Some(found) => found,
        None if packet.begins => return None,
        // Its beginning was judged by the same tables.
        None => {
            answers = true;
            let opening = kept::opening(&sought)?;
            if began(opening.ways, turned) != Began::Receiver {
                return None;
            }
            opening
        }
    };
    Some(Known {
        path: open_path(&found, packet, turned, own)?,
        place: sought.place,
        turned,
        answers,
    })
}

/// The path that is kept, if it still holds and the packet may take it.
#[inline(always)]
fn open_path<F: Family>(
    found: &Kept<F>,
    packet: &Packet<F::Address>,
    turned: Turned,
    own: u16,
) -> Option<Path<F::Address>> {
    let [way, _] = turned.order(found.ways);
    if way & !flow::BEGAN != own || found.generation != generation() {
        return None;
    }
    // Who may answer may not begin.
    if packet.begins && way & flow::BEGAN == 0 {
        return None;
    }
    let [from, to] = turned.order_ends(found.ends).map(kept::end_of);
    matches!(to.place, end::HERE | end::ELSEWHERE).then_some(Path {
        from,
        to,
        gateway: found.gateway,
    })
}

impl<A> Known<A> {
    /// Takes note of a packet that takes the path.
    #[inline(always)]
    pub fn note<F: Family<Address = A>>(&self, packet: &Packet<A>) {
        if self.answers {
            kept::answer::<F>(self.place);
        }
        if packet.flags & tell::ENDS != 0 {
            kept::end::<F>(self.place, self.turned, packet.flags & tell::RESETS != 0);
        }
    }
}

/// What is known of a conversation that isn't known to be allowed.
pub struct Seen {
    /// What becomes of it in both directions, with who began; zero if nothing is known.
    ways: [u16; 2],
    /// The packet is the answer that was awaited.
    answers: bool,
    /// The packet may take the shortcut.
    pub direct: bool,
    /// Whoever sends it isn't waited for any more.
    pub late: bool,
    /// Who began.
    pub began: Began,
}

impl Seen {
    /// Nothing, and the packet doesn't take the shortcut.
    pub const NOTHING: Seen = Seen {
        ways: [0; 2],
        answers: false,
        direct: false,
        late: false,
        began: Began::Unknown,
    };
}

/// Whether the packet, of a sender in the direction `own`, may take the shortcut.
#[inline(always)]
pub fn see<F: Family>(packet: &Packet<F::Address>, own: u16) -> Seen {
    let (key, turned) = conversation::<F>(&packet.key);
    let sought = Sought::<F>::new(&key);
    if let Some(found) = kept::find(&sought) {
        let [way, _] = turned.order(found.ways);
        return Seen {
            ways: found.ways,
            answers: false,
            direct: way & !flow::BEGAN == own,
            late: way == flow::LATE,
            began: match packet.begins {
                true => Began::Sender,
                false => began(found.ways, turned),
            },
        };
    }
    if packet.begins {
        return Seen {
            direct: true,
            began: Began::Sender,
            ..Seen::NOTHING
        };
    }
    match kept::opening(&sought) {
        Some(opening) if began(opening.ways, turned) == Began::Receiver => {
            let [_, opener] = turned.order(opening.ways);
            Seen {
                ways: turned.order([own, opener]),
                answers: true,
                direct: true,
                late: false,
                began: Began::Receiver,
            }
        }
        _ => Seen::NOTHING,
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
    let (key, turned) = conversation::<F>(&packet.key);
    let sought = Sought::<F>::new(&key);
    let is_new = seen.ways == [0; 2];
    let ways = match is_new {
        true => turned.order([own, back(path)]),
        false => seen.ways,
    };
    let kept = Kept {
        ways: begun(ways, began, turned),
        generation: now,
        ends: turned.order_ends([kept::words(&path.from), kept::words(&path.to)]),
        gateway: path.gateway,
    };
    if is_new {
        kept::open(&sought, &kept);
        return;
    }
    if seen.answers {
        // What stayed would make the conversation known for longer than the table of those that are.
        kept::close(&sought);
    }
    kept::keep(&sought, &kept, packet.begins);
    if packet.flags & tell::ENDS != 0 {
        kept::end::<F>(sought.place, turned, packet.flags & tell::RESETS != 0);
    }
}

/// The way of what comes back.
#[inline(always)]
fn back<A>(path: &Path<A>) -> u16 {
    match path.to.place {
        end::ELSEWHERE => flow::FROM_WIRE,
        _ => flow::FROM_POD,
    }
}

/// Who was asked has left, and another is asked in its place: an answer would come too late, until the other's is
/// there and is learned from. `packet` is the question.
#[inline(always)]
pub fn ask_another<F: Family>(packet: &Packet<F::Address>) {
    let (key, turned) = conversation::<F>(&packet.key);
    let sought = Sought::<F>::new(&key);
    let kept = Kept {
        ways: begun(turned.order([flow::STACK, flow::LATE]), Began::Sender, turned),
        generation: 0,
        ends: [[0; 2]; 2],
        gateway: packet.key.source,
    };
    kept::close(&sought);
    kept::keep(&sought, &kept, true);
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
    let (key, turned) = conversation::<F>(&packet.key);
    let sought = Sought::<F>::new(&key);
    let ways = match untranslated {
        true => turned.order([there, back]),
        false => [flow::STACK; 2],
    };
    let mut known = Began::Unknown;
    if let Some(found) = kept::find(&sought) {
        if found.ways.map(|way| way & !flow::BEGAN) == ways {
            return;
        }
        known = began(found.ways, turned);
    }
    if !untranslated {
        // Nor may an earlier beginning with the same ports mislead what is translated.
        kept::close(&sought);
    }
    if known == Began::Unknown {
        known = who_began();
    }
    // Its path isn't known yet, or needn't be. No generation is zero.
    let kept = Kept {
        ways: begun(ways, known, turned),
        generation: 0,
        ends: [[0; 2]; 2],
        gateway: packet.key.source,
    };
    kept::keep(&sought, &kept, packet.begins);
}

/// Who began a conversation, as these tables know. `key` is the conversation's.
#[inline(always)]
pub fn who_began<F: Family>(key: &FlowKey<F::Address>, turned: Turned) -> Began {
    let sought = Sought::<F>::new(key);
    if let Some(found) = kept::find(&sought) {
        return began(found.ways, turned);
    }
    match kept::opening(&sought) {
        Some(opening) if began(opening.ways, turned) == Began::Receiver => Began::Receiver,
        _ => Began::Unknown,
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
