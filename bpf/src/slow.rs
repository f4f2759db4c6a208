//! What becomes of packets whose conversation isn't known to be allowed, with its path: everything about them is
//! looked up.
//!
//! ```text
//! from_pod: look ─► lead, if it opens a connection ─► ask, if it may be a Service's ─┐
//! from_wire: look ───────────────────────────────────────────────────────────────────┼─► judge, if anybody is isolated ─► finish
//! to_pod: look ──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Each step is a function of its own with a stack of its own, and what they tell each other is on this
//! processor's desk: one stack hasn't room for it.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::programs::TcContext;
use bpf_abi::{Counter, Endpoint, MARK_UNTRANSLATED, end, endpoint, flow as ways};

use crate::ask::{self, Answer, Echo, From, What};
use crate::flow::{self, Path, Seen};
use crate::maps::{Family, count, generation};
use crate::named;
use crate::neighbour::{Neighbourly, Says, link};
use crate::packet::{Ethernet, ICMP, ICMPV6, Packet, at};
use crate::policy::{self, Began, By, Question};
use crate::rules::Policies;
use crate::service::Services;
use crate::subject::Dig;
use crate::{NEXT, drop, is_own, is_pod, may_hurry, opens, way};

/// What is known of the packet at hand, which whoever comes first has put here.
pub struct Desk<A> {
    pub packet: Packet<A>,
    /// The shortcut that it could take.
    pub path: Path<A>,
    pub seen: Seen,
    /// What it is to a Service.
    pub answer: Answer<A>,
    pub question: Question<A>,
}

/// A family of which all is known.
pub trait All: Dig + Services + Policies + Echo + Neighbourly {}

impl<F: Dig + Services + Policies + Echo + Neighbourly> All for F {}

/// This processor's desk.
#[inline(always)]
pub fn desk<F: Policies>() -> Option<&'static mut Desk<F::Address>> {
    // SAFETY: nothing else of ours runs on this processor before this program ends; what is read of it
    // was written since it began.
    F::desk().map(|desk| unsafe { &mut *desk })
}

/// Puts a packet on the desk.
#[inline(always)]
pub fn begin<F: Policies>(packet: Packet<F::Address>) -> i32 {
    let Some(desk) = desk::<F>() else {
        return TC_ACT_SHOT;
    };
    desk.packet = packet;
    next::FINISH
}

/// What a step says if it doesn't decide.
pub mod next {
    /// Nothing stands against it.
    pub const FINISH: i32 = i32::MIN;
    /// It may be for a Service.
    pub const ASK: i32 = i32::MIN + 1;
    /// Policies are to be asked.
    pub const JUDGE: i32 = i32::MIN + 2;
    /// It has nothing to say.
    pub const ON: i32 = i32::MIN + 3;
}

/// What a pod sends.
#[inline(always)]
pub fn from_pod<F: All>(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let mut then = look_from_pod::<F>(skb);
    if then == next::FINISH || then == next::ASK {
        let led = lead::<F>(skb);
        if led != next::ON {
            then = led;
        }
    }
    if then == next::ASK {
        then = ask_pods::<F>(skb);
    }
    if then == next::FINISH {
        then = prepare::<F>();
    }
    if then == next::JUDGE {
        then = policy::judge::<F>(skb);
    }
    match then {
        next::FINISH => finish::<F>(skb, ways::FROM_POD.into()),
        action => action,
    }
}

/// What comes by a link to other nodes.
#[inline(always)]
pub fn from_wire<F: All>(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let mut then = look_from_wire::<F>(skb);
    if then == next::ASK {
        return ask_others::<F>(skb);
    }
    if then == next::JUDGE {
        then = policy::judge::<F>(skb);
    }
    match then {
        next::FINISH => finish::<F>(skb, ways::FROM_WIRE.into()),
        action => action,
    }
}

/// What the network stack sends to a pod.
#[inline(always)]
pub fn to_pod<F: All>(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let mut then = look_to_pod::<F>(skb);
    if then == next::JUDGE {
        then = policy::judge::<F>(skb);
    }
    match then {
        next::FINISH => learn_to_pod::<F>(skb),
        action => action,
    }
}

/// What the network stack sends by a link to other nodes.
#[inline(always)]
pub fn to_wire<F: All>(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    match look_to_wire::<F>(skb) {
        next::FINISH => learn_to_wire::<F>(skb),
        next::ASK => ask::answer_own::<F>(skb),
        action => action,
    }
}

#[inline(never)]
fn look_from_pod<F: All>(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let now = generation();
    let Some(desk) = desk::<F>() else {
        return TC_ACT_SHOT;
    };
    let (source, destination) = (desk.packet.key.source, desk.packet.key.destination);
    let says = F::says(ctx, desk.packet.key.protocol);
    let Some(own) = sender::<F>(ctx, source) else {
        // Neighbours talk by addresses of the link's, or by none before they have one.
        return match says == Says::AsHost && F::is_of_link(source) {
            true => NEXT,
            false => drop(Counter::Spoofed),
        };
    };
    let known = F::endpoint(destination);
    desk.answer = Answer::only(What::Nothing, desk.packet.key.source);
    desk.path.from = flow::here(own);
    desk.path.to.place = end::UNKNOWN;
    desk.question.generation = now;
    // Whatever policies say: to neighbours, and to the pod itself.
    desk.question.exempt = says == Says::AsHost && (F::is_neighbours(destination) || is_own(known));
    if let Some(to) = known.filter(|to| is_pod(to)) {
        desk.question.exempt |= to.link == own.link;
        if to.link != own.link && to.flags & endpoint::SHAPED == 0 {
            desk.path.to = flow::here(to);
            desk.path.gateway = destination;
        }
    } else if known.is_none()
        && let Some(to) = F::forward(destination)
    {
        desk.path.to = flow::elsewhere(to);
        desk.path.gateway = to.gateway;
    } else {
        return next::ASK;
    }
    if may_hurry(ctx, &desk.packet) && way::passes(ctx, &desk.packet, &desk.path) {
        return next::FINISH;
    }
    desk.path.to.place = end::UNKNOWN;
    next::FINISH
}

/// The pod that sends, if its addresses are the packet's.
#[inline(always)]
fn sender<F: Family>(ctx: &TcContext, source: F::Address) -> Option<&'static Endpoint> {
    let own = F::endpoint(source)?;
    // SAFETY: `at` has checked that the header is there.
    let ethernet = unsafe { &*at::<Ethernet>(ctx, 0)? };
    (own.link == link(ctx) && own.mac == ethernet.source).then_some(own)
}

/// Whether what a pod sends is for a Service.
#[inline(never)]
fn ask_pods<F: All>(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let Some(desk) = desk::<F>() else {
        return TC_ACT_SHOT;
    };
    let is_own = is_own(F::endpoint(desk.packet.key.destination));
    let answer = ask::answer::<F>(ctx, &desk.packet, is_own, || From::Pod);
    if answer.what == What::Done {
        return answer.action;
    }
    // A pod is never kept from itself.
    desk.question.exempt |= answer.what == What::To && answer.address == desk.packet.key.source;
    desk.answer = answer;
    next::FINISH
}

/// An attempt to connect to an endpoint that a Service gave the socket and that has left since: the endpoint's node
/// has fallen silent, or it's the kernel's next attempt, as nobody answered. Another endpoint of the Service is asked,
/// by translation on the way, as the socket has its address already.
#[inline(never)]
fn lead<F: All>(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let Some(desk) = desk::<F>() else {
        return TC_ACT_SHOT;
    };
    if !opens(&desk.packet) {
        return next::ON;
    }
    let (address, port) = (desk.packet.key.destination, desk.packet.key.destination_port);
    // SAFETY: the context is valid as long as the program runs.
    let socket = unsafe { bpf_get_socket_cookie(skb.cast()) };
    let Some(called) = named::called::<F>(socket, address, port) else {
        return next::ON;
    };
    let is_there = |id| F::backend(id).is_some_and(|one| one.address == address && one.port == port);
    if called.backend == 0 || is_there(called.backend) {
        return next::ON;
    }
    let service = F::of_words(called.address);
    (desk.packet.key.destination, desk.packet.key.destination_port) = (service, called.port);
    let is_own = is_own(F::endpoint(service));
    let answer = ask::answer::<F>(ctx, &desk.packet, is_own, || From::Pod);
    (desk.packet.key.destination, desk.packet.key.destination_port) = (address, port);
    match answer.what {
        What::Done => return answer.action,
        What::To => {}
        _ => return next::ON,
    }
    flow::ask_another::<F>(&desk.packet);
    desk.question.exempt = answer.address == desk.packet.key.source;
    desk.path.to.place = end::UNKNOWN;
    desk.answer = answer;
    next::FINISH
}

/// Sees whether what a pod sends may take the shortcut, and whether policies are to be asked.
#[inline(never)]
fn prepare<F: All>() -> i32 {
    let Some(desk) = desk::<F>() else {
        return TC_ACT_SHOT;
    };
    desk.seen = match desk.path.to.place {
        end::UNKNOWN => Seen::NOTHING,
        _ => flow::see::<F>(&desk.packet, ways::FROM_POD),
    };
    if desk.seen.late {
        return drop(Counter::ServiceDropped);
    }
    desk.question.began = desk.seen.began;
    if !policy::are_enforced() || desk.question.exempt {
        return next::FINISH;
    }
    policy::begin(desk, By::FromPod);
    desk.question.source = F::isolation(desk.packet.key.source);
    // Where it gets to the pod otherwise it's asked there.
    if desk.seen.direct && desk.path.to.place == end::HERE {
        desk.question.destination = F::isolation(desk.packet.key.destination);
    }
    policy::is_to_judge(&desk.question)
}

#[inline(never)]
fn look_from_wire<F: All>(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let now = generation();
    let Some(desk) = desk::<F>() else {
        return TC_ACT_SHOT;
    };
    let (source, destination) = (desk.packet.key.source, desk.packet.key.destination);
    let (to, from) = (F::endpoint(destination), F::endpoint(source));
    if from.is_some_and(is_pod) {
        return drop(Counter::SpoofedFromWire);
    }
    let Some(to) = to.filter(|to| is_pod(to)) else {
        return next::ASK;
    };
    if may_hurry(ctx, &desk.packet)
        && to.flags & endpoint::SHAPED == 0
        && let Some(from) = F::forward(source)
        && from.link == link(ctx)
    {
        desk.path.from = flow::elsewhere(from);
        desk.path.to = flow::here(to);
        desk.path.gateway = from.gateway;
        desk.answer = Answer::only(What::Nothing, desk.packet.key.source);
        desk.seen = flow::see::<F>(&desk.packet, ways::FROM_WIRE);
        if desk.seen.late {
            return drop(Counter::ServiceDropped);
        }
        desk.question.began = desk.seen.began;
        desk.question.generation = now;
        desk.question.exempt = false;
        if desk.seen.direct && way::passes(ctx, &desk.packet, &desk.path) {
            if !policy::are_enforced() {
                return next::FINISH;
            }
            policy::begin(desk, By::FromWire);
            desk.question.destination = F::isolation(destination);
            return policy::is_to_judge(&desk.question);
        }
    }
    count(Counter::StackFromWire);
    NEXT
}

/// What becomes of what comes by a link to other nodes and isn't for a pod.
#[inline(never)]
fn ask_others<F: All>(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let Some(desk) = desk::<F>() else {
        return TC_ACT_SHOT;
    };
    let source = desk.packet.key.source;
    let asker = || match F::endpoint(source).is_some() || F::forward(source).is_some() {
        true => From::Cluster,
        false => From::Outside,
    };
    let is_own = is_own(F::endpoint(desk.packet.key.destination));
    let answer = ask::answer::<F>(ctx, &desk.packet, is_own, asker);
    ask::give::<F>(ctx, &answer).unwrap_or(NEXT)
}

/// Does what nothing stands against.
#[inline(never)]
fn finish<F: All>(skb: *mut __sk_buff, own: u32) -> i32 {
    let ctx = &TcContext::new(skb);
    let Some(desk) = desk::<F>() else {
        return TC_ACT_SHOT;
    };
    if let Some(action) = ask::give::<F>(ctx, &desk.answer) {
        return action;
    }
    if desk.seen.direct {
        let began = policy::or_likely(&desk.packet, desk.question.began);
        flow::take::<F>(
            &desk.packet,
            own as u16,
            &desk.path,
            &desk.seen,
            began,
            desk.question.generation,
        );
        if let Some(action) = way::take::<F>(ctx, &desk.path) {
            return action;
        }
    }
    count(match own as u16 {
        ways::FROM_WIRE => Counter::StackFromWire,
        _ => Counter::StackFromPod,
    });
    NEXT
}

#[inline(never)]
fn look_to_pod<F: All>(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let now = generation();
    let Some(desk) = desk::<F>() else {
        return TC_ACT_SHOT;
    };
    match F::read(ctx) {
        Some(packet) => desk.packet = packet,
        None => return NEXT,
    }
    desk.seen = Seen::NOTHING;
    desk.answer = Answer::only(What::Nothing, desk.packet.key.source);
    desk.question.began = Began::Unknown;
    desk.question.generation = now;
    desk.question.exempt = false;
    if !policy::are_enforced() {
        return next::FINISH;
    }
    policy::begin(desk, By::ToPod);
    desk.question.destination = F::isolation(desk.packet.key.destination);
    policy::is_to_judge(&desk.question)
}

#[inline(never)]
fn learn_to_pod<F: All>(skb: *mut __sk_buff) -> i32 {
    let Some(desk) = desk::<F>() else {
        return TC_ACT_SHOT;
    };
    let packet = &desk.packet;
    if !packet.talks {
        return NEXT;
    }
    // Only pods' conversations may take the shortcut; nothing need be known of others.
    let there = if F::endpoint(packet.key.source).is_some_and(is_pod) {
        ways::FROM_POD
    } else if F::forward(packet.key.source).is_some() {
        ways::FROM_WIRE
    } else {
        return NEXT;
    };
    // SAFETY: the context is valid as long as the program runs.
    let untranslated = unsafe { (*skb).mark } & MARK_UNTRANSLATED != 0;
    let who = || policy::or_likely(packet, desk.question.began);
    flow::learn::<F>(packet, untranslated, there, ways::FROM_POD, who);
    NEXT
}

#[inline(never)]
fn look_to_wire<F: All>(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let Some(packet) = F::read(ctx).filter(|packet| packet.talks) else {
        return NEXT;
    };
    let from = F::endpoint(packet.key.source);
    if is_own(from) && packet.begins && matches!(packet.key.protocol, ICMP | ICMPV6) {
        return next::ASK;
    }
    if from.is_some_and(is_pod) && F::forward(packet.key.destination).is_some() {
        return begin::<F>(packet);
    }
    NEXT
}

#[inline(never)]
fn learn_to_wire<F: All>(skb: *mut __sk_buff) -> i32 {
    let Some(desk) = desk::<F>() else {
        return TC_ACT_SHOT;
    };
    // SAFETY: the context is valid as long as the program runs.
    let untranslated = unsafe { (*skb).mark } & MARK_UNTRANSLATED != 0;
    let who = || policy::who_began::<F>(&desk.packet);
    flow::learn::<F>(&desk.packet, untranslated, ways::FROM_POD, ways::FROM_WIRE, who);
    NEXT
}
