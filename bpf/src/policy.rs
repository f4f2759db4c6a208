//! What policies allow.
//!
//! A conversation is judged by who began it: the sets of egress of the one, if it's a pod of this node,
//! and of ingress of the other. What isn't known to belong to one begins one:
//!
//! | packet | judged |
//! | --- | --- |
//! | a SYN, SCTP's INIT, an echo request | by its own direction, always |
//! | a datagram | by who began; one that isn't known it begins |
//! | TCP and SCTP otherwise, an ICMP error about a packet | by who began; if that isn't known, either may have |
//! | ICMP otherwise | by its own direction |
//! | a later piece | as the first |
//!
//! Who began is in [`flow`](crate::flow)'s tables for what takes the shortcut, and in [`talk`](crate::talk)'s
//! for what isolated pods say and hear by the network stack. Either is good for as long as nothing
//! changes; then the conversation is judged anew, by whoever began it.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::programs::TcContext;
use bpf_abi::policy::{Isolation, NONE, PieceKey, event, judged, setting};
use bpf_abi::{Counter, FlowKey};

use crate::ask::What;
use crate::flow;
use crate::maps::{Family, Ipv6, count};
use crate::neighbour::link;
use crate::packet::{Packet, UDP, conversation};
use crate::rules::{Policies, allowing, is_set, number};
use crate::slow::{Desk, desk, next};
use crate::subject::{Dig, Kind, Looks, Subject, study};
use crate::talk::{Known, has_cooled, keep, look};
use crate::tell::{self, is_followed, tally_allowed, tally_denied, tell};

/// Who began a conversation, as a packet of it sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Began {
    Unknown,
    Sender,
    Receiver,
}

/// A question.
pub struct Question<A> {
    /// What the packet is about.
    pub subject: Subject<A>,
    /// What holds for the sender and for the receiver, if they are pods of this node that are to be asked
    /// here.
    pub source: Isolation,
    pub destination: Isolation,
    /// What the rules say.
    pub verdict: Verdict,
    /// The backend that takes the place of the receiver, a Service; that of the one who began, once
    /// that's known.
    pub peer: A,
    pub peer_port: u16,
    pub has_peer: bool,
    pub by: By,
    looks: Looks,
    /// The packet takes the shortcut, whose tables keep what is known.
    pub direct: bool,
    /// The node itself sends it to its pod, or the pod to itself.
    pub exempt: bool,
    /// Who began, as far as the tables of the shortcut know; whoever doesn't ask them says that it's
    /// unknown. In the end, who did.
    pub began: Began,
    /// The generation of the tables, read before anything else was.
    pub generation: u32,
    /// The conversation's key, and whether it's of the other direction.
    pub key: FlowKey<A>,
    pub is_turned: bool,
    /// It begins with this packet.
    pub is_new: bool,
    /// It's new to an end that is asked here.
    is_new_here: bool,
    /// What is left to do.
    todo: u32,
    /// What is known of it by the stack.
    pub known: Known<A>,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum By {
    /// A pod's link, for what the pod sends.
    FromPod,
    /// A pod's link, for what the network stack sends it.
    ToPod,
    /// A link to other nodes.
    FromWire,
}

/// What was asked, and what the rules say: of egress first, then of ingress.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Verdict {
    pub sets: [u64; 2],
    pub rules: [u64; 2],
    pub classes: [u64; 2],
    /// The direction that isn't allowed; zero if both are.
    pub denied: u32,
}

impl Verdict {
    const NOTHING: Verdict = Verdict {
        sets: [0; 2],
        rules: [0; 2],
        classes: [0; 2],
        denied: 0,
    };
}

/// Whether policies are in force.
#[inline(always)]
pub fn are_enforced() -> bool {
    is_set(setting::ENFORCED)
}

/// Begins a question about the packet on the desk: nobody is asked yet. Who began, as far as that's
/// known, the generation and whether it's exempt is there already.
#[inline(always)]
pub fn begin<A: Copy>(desk: &mut Desk<A>, by: By) {
    let (packet, asked) = (&desk.packet, &mut desk.question);
    asked.subject.key = packet.key;
    asked.subject.flags = packet.flags;
    asked.source = Isolation::FREE;
    asked.destination = Isolation::FREE;
    asked.verdict = Verdict::NOTHING;
    asked.peer = desk.answer.address;
    asked.peer_port = desk.answer.port;
    asked.has_peer = desk.answer.what == What::To;
    asked.by = by;
    asked.looks = Looks {
        simple: packet.simple,
        talks: packet.talks,
        begins: packet.begins,
    };
    asked.direct = desk.seen.direct;
}

/// Whether anybody wants to know anything of the packet: an end is isolated, or somebody follows.
#[inline(always)]
pub fn is_to_judge<A>(asked: &Question<A>) -> i32 {
    let isolated = asked.source != Isolation::FREE || asked.destination != Isolation::FREE;
    if isolated || is_followed() {
        next::JUDGE
    } else {
        next::FINISH
    }
}

/// Judges the packet that the question on the desk is about: it's dropped, or nothing stands against it.
///
/// Each step is a function of its own and answers on the desk, of which the kernel knows nothing: it
/// follows all ways through each, and they are a sum instead of a product.
#[inline(never)]
pub fn judge<F: Dig + Policies>(skb: *mut __sk_buff) -> i32 {
    let kind = understand::<F>(skb);
    if kind == Kind::Later as u32 {
        return said::<F>(skb, judge_piece::<F>());
    }
    let known = match kind == Kind::Alone as u32 {
        true => BEGINS,
        false => recall::<F>(),
    };
    if known == KNOWN {
        return end::<F>(skb);
    }
    let mut denied = ask::<F>();
    if denied != 0 && known == ANSWERS && kind == Kind::Datagram as u32 && cool::<F>() != 0 {
        denied = AGAIN;
    }
    if denied == AGAIN {
        denied = ask::<F>();
    }
    if denied == AGAIN {
        denied = ask::<F>();
    }
    if denied != 0 || kind == Kind::Error as u32 || kind == Kind::Alone as u32 {
        return said::<F>(skb, denied);
    }
    if retain::<F>() != 0 && is_followed() {
        return report::<F>(skb, event::NEW.into());
    }
    end::<F>(skb)
}

/// What is to be asked: nothing; by whom the packet answers; by its sender; by either, the sender first.
const KNOWN: u32 = 0;
const ANSWERS: u32 = 1;
const BEGINS: u32 = 2;
const EITHER: u32 = 3;
/// What is left of either: the receiver; the sender once more, as what is told is about the packet's own direction.
const OTHER: u32 = 4;
const TOLD: u32 = 5;
/// There's more to ask.
const AGAIN: u32 = u32::MAX;

/// Reads what was written, as if it could have changed: a step's answer is to be no more to the kernel
/// than a number, nor to be left out by the compiler.
#[inline(always)]
fn from_desk<T: Copy>(what: &T) -> T {
    // SAFETY: references are valid.
    unsafe { core::ptr::from_ref(what).read_volatile() }
}

/// This processor's question.
#[inline(always)]
fn question<F: Policies>() -> Option<&'static mut Question<F::Address>> {
    desk::<F>().map(|desk| &mut desk.question)
}

/// What a verdict means.
#[inline(always)]
fn said<F: Dig + Policies>(skb: *mut __sk_buff, denied: u32) -> i32 {
    match denied {
        0 => next::FINISH,
        _ => report::<F>(skb, event::DROPPED.into()),
    }
}

/// Tells that a side ends a connection, if it does.
#[inline(always)]
fn end<F: Dig + Policies>(skb: *mut __sk_buff) -> i32 {
    match question::<F>() {
        Some(asked) if asked.subject.flags & tell::ENDS != 0 && is_followed() => {
            report::<F>(skb, event::CLOSED.into())
        }
        _ => next::FINISH,
    }
}

/// Tells what happens, and says what is to.
#[inline(never)]
fn report<F: Dig + Policies>(skb: *mut __sk_buff, kind: u32) -> i32 {
    let Some(asked) = question::<F>() else {
        return TC_ACT_SHOT;
    };
    tell::<F>(&TcContext::new(skb), kind as u8, asked);
    if kind != event::DROPPED.into() {
        return next::FINISH;
    }
    if asked.verdict.denied == event::EGRESS.into() {
        count(Counter::PolicyEgress);
        tally_denied(asked.verdict.sets[0]);
    } else {
        count(Counter::PolicyIngress);
        tally_denied(asked.verdict.sets[1]);
    }
    TC_ACT_SHOT
}

/// Sees what the packet is about.
#[inline(never)]
fn understand<F: Dig + Policies>(skb: *mut __sk_buff) -> u32 {
    let ctx = &TcContext::new(skb);
    let Some(asked) = question::<F>() else {
        return Kind::Later as u32;
    };
    study::<F>(ctx, &mut asked.subject, asked.looks, asked.by == By::FromPod);
    if asked.by == By::ToPod {
        asked.exempt = is_nodes_own::<F>(ctx, &asked.subject);
    }
    if asked.subject.kind == Kind::Begins {
        asked.began = Began::Sender;
    }
    asked.todo = BEGINS;
    from_desk(&asked.subject.kind) as u32
}

/// Sees what is known of the conversation: who began, and whether that is all there is to ask.
#[inline(never)]
fn recall<F: Dig + Policies>() -> u32 {
    let Some(asked) = question::<F>() else {
        return BEGINS;
    };
    let kind = asked.subject.kind;
    let (key, turned) = conversation::<F>(&asked.subject.key);
    (asked.key, asked.is_turned) = (key, turned.is());
    asked.known = Known::nothing(asked.key.source);
    if !asked.direct || asked.began == Began::Unknown {
        asked.known = look::<F>(&asked.key);
    }
    let fits = asked.known.fits(asked, kind == Kind::Begins);
    asked.known.is = fits;
    if fits {
        asked.began = asked.known.began(asked.is_turned);
        asked.known.holds = asked.known.is_enough(asked);
        if asked.known.talk.bits & judged::PEER != 0 {
            asked.peer = asked.known.talk.peer;
            asked.peer_port = asked.known.talk.peer_port;
            asked.has_peer = true;
        }
        if asked.known.holds && kind != Kind::Error {
            asked.known.note::<F>(&asked.key, asked.is_turned);
        }
    }
    if asked.began == Began::Unknown && !asked.direct {
        asked.began = flow::who_began::<F>(&asked.key, turned);
    }
    asked.is_new = asked.began == Began::Unknown || (kind == Kind::Begins && !fits);
    asked.is_new_here = asked.is_new || (!asked.direct && fits && asked.known.is_new_here(asked));
    asked.todo = match asked.began {
        _ if asked.known.holds => KNOWN,
        Began::Receiver => ANSWERS,
        Began::Unknown if kind != Kind::Datagram => EITHER,
        _ => BEGINS,
    };
    from_desk(&asked.todo)
}

/// A datagram of the side that didn't begin what isn't allowed: a late answer, or after a while a
/// beginning. Not zero if it's that.
#[inline(never)]
fn cool<F: Policies>() -> u32 {
    let Some(asked) = question::<F>() else {
        return 0;
    };
    let cooled = has_cooled::<F>(&asked.key, asked.is_turned);
    asked.is_new |= cooled;
    asked.is_new_here |= cooled;
    if !cooled {
        return 0;
    }
    asked.todo = BEGINS;
    from_desk(&asked.todo)
}

/// Keeps that the packet is allowed, and counts it; not zero if it begins a conversation, or is the first of
/// one that is asked about here.
#[inline(never)]
fn retain<F: Policies>() -> u32 {
    let Some(asked) = question::<F>() else {
        return 0;
    };
    if !asked.direct {
        keep::<F>(asked);
    } else if asked.subject.kind == Kind::Datagram && !asked.is_new {
        // That it wasn't allowed for a while.
        F::forget_judged(&asked.key);
    }
    keep_piece::<F>(asked);
    if asked.is_new_here {
        tally_allowed(asked.verdict.rules[0]);
        tally_allowed(asked.verdict.rules[1]);
    }
    from_desk(&asked.is_new_here).into()
}

/// Asks the rules about a conversation that the one or the other began, as is to be done; zero if they allow it.
#[inline(never)]
fn ask<F: Policies>() -> u32 {
    let Some(asked) = question::<F>() else {
        return event::INGRESS.into();
    };
    asked.began = match asked.todo {
        ANSWERS | OTHER => Began::Receiver,
        _ => Began::Sender,
    };
    let key = &asked.subject.key;
    let (from, mut to, mut to_port, egress, ingress) = match asked.began {
        Began::Receiver => (
            key.destination,
            key.source,
            key.source_port,
            asked.destination.egress,
            asked.source.ingress,
        ),
        _ => (
            key.source,
            key.destination,
            key.destination_port,
            asked.source.egress,
            asked.destination.ingress,
        ),
    };
    let (protocol, port) = (u32::from(key.protocol), to_port);
    let said = &mut asked.verdict;
    *said = Verdict::NOTHING;
    said.sets = [number(egress), number(ingress)];
    if egress != NONE && !asked.exempt {
        if asked.has_peer {
            (to, to_port) = (asked.peer, asked.peer_port);
        }
        said.classes[0] = F::class(to);
        said.rules[0] = allowing(said.sets[0], said.classes[0], protocol, to_port.into());
        if said.rules[0] == 0 {
            said.denied = event::EGRESS.into();
        }
    }
    if ingress != NONE && !asked.exempt && said.denied == 0 {
        said.classes[1] = F::class(from);
        said.rules[1] = allowing(said.sets[1], said.classes[1], protocol, port.into());
        if said.rules[1] == 0 {
            said.denied = event::INGRESS.into();
        }
    }
    asked.todo = match asked.todo {
        EITHER => OTHER,
        OTHER => TOLD,
        _ => return from_desk(&asked.verdict.denied),
    };
    match asked.verdict.denied {
        0 => 0,
        _ => AGAIN,
    }
}

/// Whether the node itself sends it, or the pod that it's for, by a Service of its own: neither has come by
/// another link. Of IPv6 the kernel makes new pieces when it sends on what it has put together: those
/// have come by none, either, but no socket sends them.
#[inline(always)]
fn is_nodes_own<F: Family>(ctx: &TcContext, subject: &Subject<F::Address>) -> bool {
    // SAFETY: the context is valid as long as the program runs; so below.
    let from = unsafe { (*ctx.skb.skb).ingress_ifindex };
    if from == 0 && F::AF == Ipv6::AF && (subject.first || subject.kind == Kind::Later) {
        return unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) } != 0;
    }
    from == 0 || from == link(ctx)
}

/// The later pieces of an allowed packet are allowed, too.
#[inline(always)]
fn keep_piece<F: Policies>(asked: &Question<F::Address>) {
    if !asked.subject.first {
        return;
    }
    let mut key = piece_key::<F>(asked);
    if asked.source != Isolation::FREE {
        F::set_piece(&key);
    }
    if asked.destination != Isolation::FREE {
        key.direction = event::INGRESS.into();
        F::set_piece(&key);
    }
}

#[inline(always)]
fn piece_key<F: Policies>(asked: &Question<F::Address>) -> PieceKey<F::Address> {
    PieceKey {
        source: asked.subject.key.source,
        destination: asked.subject.key.destination,
        id: asked.subject.id,
        protocol: asked.subject.protocol.into(),
        direction: event::EGRESS.into(),
    }
}

/// Zero if the first piece of a later one was allowed.
#[inline(never)]
fn judge_piece<F: Policies>() -> u32 {
    let Some(asked) = question::<F>() else {
        return event::INGRESS.into();
    };
    let mut key = piece_key::<F>(asked);
    asked.verdict.sets = [number(asked.source.egress), number(asked.destination.ingress)];
    if asked.source != Isolation::FREE && !asked.exempt && !F::has_piece(&key) {
        asked.verdict.denied = event::EGRESS.into();
    }
    key.direction = event::INGRESS.into();
    if asked.destination != Isolation::FREE && !asked.exempt && !F::has_piece(&key) {
        asked.verdict.denied = event::INGRESS.into();
    }
    from_desk(&asked.verdict.denied)
}

/// Who began the conversation of the packet on the desk, which passes the network stack and which the
/// shortcut's tables don't know.
#[inline(always)]
pub fn who_began<F: Policies>(packet: &Packet<F::Address>) -> Began {
    let known = known_to_stack::<F>();
    if known == Began::Sender as u32 {
        Began::Sender
    } else if known == Began::Receiver as u32 {
        Began::Receiver
    } else {
        or_likely(packet, Began::Unknown)
    }
}

#[inline(never)]
fn known_to_stack<F: Policies>() -> u32 {
    let Some(desk) = desk::<F>() else {
        return 0;
    };
    let (key, turned) = conversation::<F>(&desk.packet.key);
    let known = look::<F>(&key);
    desk.question.began = match known.is {
        true => known.began(turned.is()),
        false => Began::Unknown,
    };
    from_desk(&desk.question.began) as u32
}

/// Who began, or may be held to have if that isn't known.
#[inline(always)]
pub fn or_likely<A>(packet: &Packet<A>, began: Began) -> Began {
    match began {
        Began::Unknown if packet.begins || packet.key.protocol == UDP => Began::Sender,
        began => began,
    }
}
