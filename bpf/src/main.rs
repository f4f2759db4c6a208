//! The programs that run in the kernel: on every pod's link, and on those that lead to other nodes.
//!
//! ```text
//!          pod a                       node                          pod b
//!          eth0 ── rip-a ─ from_pod ──┬─► redirect_peer ───────────► eth0
//!                                     ├─► redirect_neigh ─► to_wire ─► uplink, tunnel
//!                                     └─► network stack ─► netfilter ─┬─ to_pod ─► rip-b ── eth0
//!                                                                     └─ to_wire ─► uplink
//!          uplink, tunnel ─ from_wire ┬─► redirect_peer ───────────► eth0
//!                                     └─► network stack
//! ```
//!
//! `from_pod` lets nothing pass but what is the pod's own to say, then decides between shortcut and
//! network stack; `from_wire` does the same for what comes from other nodes. `to_pod` and `to_wire`
//! see what came by the stack, and learn from it. Which conversation takes which way, and why, is in
//! [`flow`].
//!
//! What isn't decided here goes on: to other programs on the link, to the network stack.
//!
//! What policies don't allow is dropped: by `from_pod` what a pod may not send, by whoever lets a packet into a
//! pod what may not come to it ([`policy`]).
//!
//! Services are translated before there is a packet, by [`socket`]'s programs on the node's control group;
//! what isn't is for [`ask`], on the links.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod ask;
mod flow;
mod kept;
mod loopback;
mod maps;
mod mix;
mod named;
mod neighbour;
mod packet;
mod pick;
mod policy;
mod rules;
mod service;
mod slow;
mod socket;
mod subject;
mod talk;
mod tell;
mod way;

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use bpf_abi::service::mark;
use bpf_abi::{Counter, Endpoint, MARK_SHORTCUT, MARK_UNTRANSLATED, endpoint};
use maps::{Ipv4, Ipv6, count};
use neighbour::{Says, link};
use packet::{Ethernet, Packet, Read, at};
use slow::{All, next};

/// On to whoever comes next: tcx's next program, clsact's next filter, the network stack.
const NEXT: i32 = -1;

const IPV4: u32 = 0x0800u16.to_be() as u32;
const IPV6: u32 = 0x86ddu16.to_be() as u32;
const ARP: u32 = 0x0806u16.to_be() as u32;

/// On the node's end of a pod's link, for what the pod sends.
#[classifier]
pub fn rip_from_pod(ctx: TcContext) -> i32 {
    match protocol(&ctx) {
        IPV4 => from_pod::<Ipv4>(&ctx),
        IPV6 => from_pod::<Ipv6>(&ctx),
        ARP if neighbour::arp_is_own(&ctx) => NEXT,
        ARP => drop(Counter::SpoofedNeighbour),
        _ => drop(Counter::Malformed),
    }
}

/// On the node's end of a pod's link, for what the network stack sends to the pod.
#[classifier]
pub fn rip_to_pod(ctx: TcContext) -> i32 {
    match protocol(&ctx) {
        IPV4 => slow::to_pod::<Ipv4>(&ctx),
        IPV6 => slow::to_pod::<Ipv6>(&ctx),
        _ => NEXT,
    }
}

/// On links to other nodes, for what comes.
#[classifier]
pub fn rip_from_wire(ctx: TcContext) -> i32 {
    match protocol(&ctx) {
        IPV4 => from_wire::<Ipv4>(&ctx),
        IPV6 => from_wire::<Ipv6>(&ctx),
        _ => NEXT,
    }
}

/// On links to other nodes, for what goes.
#[classifier]
pub fn rip_to_wire(ctx: TcContext) -> i32 {
    // SAFETY: the context is valid as long as the program runs.
    let mark = unsafe { (*ctx.skb.skb).mark };
    if mark & MARK_SHORTCUT == 0 {
        let action = match protocol(&ctx) {
            IPV4 => slow::to_wire::<Ipv4>(&ctx),
            IPV6 => slow::to_wire::<Ipv6>(&ctx),
            _ => NEXT,
        };
        if action != NEXT {
            return action;
        }
    }
    // Others' rules are to see none of ours.
    let mut ours = mark & (MARK_SHORTCUT | MARK_UNTRANSLATED);
    if mark & mark::SERVICE != 0 {
        ours |= mark & mark::MASK;
    }
    if ours != 0 {
        ctx.set_mark(mark & !ours);
    }
    NEXT
}

/// The Ethernet header's protocol; none that is known inside a VLAN.
#[inline(always)]
fn protocol(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid as long as the program runs.
    unsafe {
        if (*ctx.skb.skb).vlan_present != 0 {
            return 0;
        }
        (*ctx.skb.skb).protocol
    }
}

#[inline(always)]
fn drop(why: Counter) -> i32 {
    count(why);
    TC_ACT_SHOT
}

#[inline(always)]
fn from_pod<F: All>(ctx: &TcContext) -> i32 {
    match fast_from_pod::<F>(ctx.skb.skb) {
        next::FINISH => slow::from_pod::<F>(ctx),
        action => action,
    }
}

/// A function of its own: what it has on its stack the slow path hasn't room for, which finds the packet on the
/// desk.
#[inline(never)]
fn fast_from_pod<F: All>(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let Some(packet) = F::read(ctx) else {
        return drop(Counter::Malformed);
    };
    if F::says(ctx, packet.key.protocol) == Says::AsAnother {
        return drop(Counter::SpoofedNeighbour);
    }
    known_from_pod::<F>(ctx, &packet).unwrap_or_else(|| slow::begin::<F>(packet))
}

/// By the shortcut, if the conversation is known with its path.
#[inline(always)]
fn known_from_pod<F: Read>(ctx: &TcContext, packet: &Packet<F::Address>) -> Option<i32> {
    if !may_hurry(ctx, packet) || opens(packet) {
        return None;
    }
    let known = flow::known::<F>(packet, bpf_abi::flow::FROM_POD)?;
    // SAFETY: `at` has checked that the header is there.
    let ethernet = unsafe { &*at::<Ethernet>(ctx, 0)? };
    let path = &known.path;
    let is_own = path.from.link == link(ctx) && path.from.mac == ethernet.source;
    if !is_own || !way::passes(ctx, packet, path) || is_told(packet) {
        return None;
    }
    known.note::<F>(packet);
    way::take::<F>(ctx, path)
}

#[inline(always)]
fn from_wire<F: All>(ctx: &TcContext) -> i32 {
    match fast_from_wire::<F>(ctx.skb.skb) {
        next::FINISH => slow::from_wire::<F>(ctx),
        action => action,
    }
}

#[inline(never)]
fn fast_from_wire<F: All>(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    // What is no packet at all is the network stack's to refuse.
    let Some(packet) = F::read(ctx) else {
        return NEXT;
    };
    known_from_wire::<F>(ctx, &packet).unwrap_or_else(|| slow::begin::<F>(packet))
}

/// The same, of a conversation that's known with its path.
#[inline(always)]
fn known_from_wire<F: Read>(ctx: &TcContext, packet: &Packet<F::Address>) -> Option<i32> {
    if !may_hurry(ctx, packet) || opens(packet) {
        return None;
    }
    let known = flow::known::<F>(packet, bpf_abi::flow::FROM_WIRE)?;
    let path = &known.path;
    if path.from.link != link(ctx) || !way::passes(ctx, packet, path) || is_told(packet) {
        return None;
    }
    known.note::<F>(packet);
    way::take::<F>(ctx, path)
}

/// Whether the packet opens a TCP connection, which isn't known then.
#[inline(always)]
fn opens<A>(packet: &Packet<A>) -> bool {
    packet.begins && packet.sizes
}

/// Whether the packet ends a connection, and somebody wants to know.
#[inline(always)]
fn is_told<A>(packet: &Packet<A>) -> bool {
    packet.flags & tell::ENDS != 0 && tell::is_followed()
}

/// Whether the packet itself needs nothing of the network stack.
#[inline(always)]
fn may_hurry<A>(ctx: &TcContext, packet: &Packet<A>) -> bool {
    // SAFETY: the context is valid as long as the program runs.
    let to_node = unsafe { (*ctx.skb.skb).pkt_type } == 0;
    packet.plain && packet.talks && to_node
}

/// Whether an address is a pod's, not a node's.
#[inline(always)]
fn is_pod(known: &Endpoint) -> bool {
    known.flags & (endpoint::OWN | endpoint::NODE) == 0
}

/// Whether an address is this node's own.
#[inline(always)]
fn is_own(known: Option<&Endpoint>) -> bool {
    known.is_some_and(|known| known.flags & endpoint::OWN != 0)
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the verifier accepts no program that could get here.
    unsafe { core::hint::unreachable_unchecked() }
}
