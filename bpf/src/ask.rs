//! Services on the links: what a socket's program couldn't translate, or came from outside, is for a
//! Service still. Its backend is picked here, by the same strategies, and netfilter, which is told by the
//! packet's mark, translates.
//!
//! Only what begins a conversation needs a backend, as netfilter knows the rest; of datagrams nobody
//! can say, so each of them has the backend that its conversation was given, as long as that is there.

use aya_ebpf::bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::{bpf_l3_csum_replace, bpf_redirect};
use aya_ebpf::programs::TcContext;
use bpf_abi::Counter;
use bpf_abi::service::{Choice, Frontend, FrontendKey, backend, frontend, mark, strategy};

use crate::maps::{Family, Ipv4, Ipv6, count};
use crate::neighbour::link;
use crate::packet::{ETHERNET, Ethernet, ICMP, ICMPV6, Ipv4Header, Ipv6Header, Packet, Read, UDP, at};
use crate::pick::{Picked, pick};
use crate::service::{self, Services};

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// A pod of this node.
    Pod,
    /// A pod or a node elsewhere in the cluster.
    Cluster,
    /// Somebody else.
    Outside,
}

/// What is to become of a packet that may be for a Service. All of it is always written, as the kernel wants it.
#[derive(Clone, Copy)]
pub struct Answer<A> {
    pub what: What,
    /// What is decided.
    pub action: i32,
    /// The backend.
    pub address: A,
    pub port: u16,
    /// What netfilter is told.
    mark: u32,
}

/// Which answer it is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum What {
    /// It isn't for a Service.
    Nothing,
    /// It's decided.
    Done,
    /// It's an echo request that is answered here.
    Echo,
    /// It's for a backend.
    To,
}

impl<A> Answer<A> {
    /// An answer without more. `some`: any address.
    #[inline(always)]
    pub fn only(what: What, some: A) -> Answer<A> {
        Answer {
            what,
            action: crate::NEXT,
            address: some,
            port: 0,
            mark: 0,
        }
    }

    #[inline(always)]
    fn done(action: i32, some: A) -> Answer<A> {
        Answer {
            action,
            ..Answer::only(What::Done, some)
        }
    }
}

/// What is to become of a packet that may be for a Service. `own`: it's for the node
/// itself; `from` is asked only if it is for a Service.
#[inline(always)]
pub fn answer<F: Services + Echo>(
    ctx: &TcContext,
    packet: &Packet<F::Address>,
    own: bool,
    from: impl Fn() -> From,
) -> Answer<F::Address> {
    let datagram = packet.key.protocol == UDP && packet.talks;
    if !packet.begins && !datagram {
        return Answer::only(What::Nothing, packet.key.source);
    }
    let echo = matches!(packet.key.protocol, ICMP | ICMPV6);
    if (echo && own) || packet.key.destination == F::NONE {
        return Answer::only(What::Nothing, packet.key.source);
    }
    let address = if own { F::NONE } else { packet.key.destination };
    let port = if echo { 0 } else { packet.key.destination_port };
    let found = match reach::<F>(packet, address, port) {
        Reached::Nothing => return Answer::only(What::Nothing, packet.key.source),
        Reached::Forbidden => return Answer::done(drop(), packet.key.source),
        Reached::Service(found) => found,
    };
    let from = from();
    let (choice, silent) = match from {
        From::Outside => (&found.outside, frontend::OUTSIDE_SILENT),
        // A port of this node is the same to all who come from elsewhere: it's this node that they have chosen.
        From::Cluster if own => (&found.outside, frontend::OUTSIDE_SILENT),
        From::Pod | From::Cluster => (&found.inside, frontend::INSIDE_SILENT),
    };
    if choice.slots == 0 {
        let action = match found.flags & silent {
            0 => refuse(ctx),
            _ => drop(),
        };
        return Answer::done(action, packet.key.source);
    }
    if echo {
        let what = if packet.plain { What::Echo } else { What::Nothing };
        return Answer::only(what, packet.key.source);
    }
    let picked = if datagram {
        same::<F>(packet, found, choice)
    } else {
        begin::<F>(packet, found, choice)
    };
    let Some((id, to)) = picked else {
        return Answer::done(refuse(ctx), packet.key.source);
    };
    let masquerade = match from {
        // What a pod says to itself it would take for an answer to nothing.
        From::Pod => to.address == packet.key.source,
        // Or the answer wouldn't come by here.
        From::Cluster => to.flags & backend::LOCAL == 0,
        From::Outside => to.flags & backend::LOCAL == 0 && found.flags & frontend::KEEP_SOURCE == 0,
    };
    let mark = (id & mark::ID) | if masquerade { mark::MASQUERADE } else { 0 };
    Answer {
        port: to.port,
        mark,
        ..Answer::only(What::To, to.address)
    }
}

/// What is at an address and port, to whoever asks.
enum Reached {
    Nothing,
    /// A Service that the source may not ask.
    Forbidden,
    Service(&'static Frontend),
}

#[inline(always)]
fn reach<F: Services>(packet: &Packet<F::Address>, address: F::Address, port: u16) -> Reached {
    let key = FrontendKey {
        address,
        port,
        protocol: packet.key.protocol,
        zero: 0,
    };
    match F::frontend(&key) {
        None => Reached::Nothing,
        Some(found)
            if found.flags & frontend::RANGES != 0 && !F::in_ranges(found.outside.set, packet.key.source) =>
        {
            Reached::Forbidden
        }
        Some(found) => Reached::Service(found),
    }
}

/// The node's own echo request, about to leave by a link to others. If it's for a Service it's answered as those of
/// pods are, and the answer comes in by the link.
#[inline(never)]
pub fn answer_own<F: Read + Services + Echo>(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let Some(packet) = F::read(ctx).filter(|packet| packet.plain && packet.begins) else {
        return crate::NEXT;
    };
    let found = match reach::<F>(&packet, packet.key.destination, 0) {
        Reached::Nothing => return crate::NEXT,
        Reached::Forbidden => return drop(),
        Reached::Service(found) => found,
    };
    if found.inside.slots == 0 {
        return crate::NEXT;
    }
    match F::echo(ctx) {
        // SAFETY: the link is there, as the packet is about to leave by it.
        Some(_) => unsafe { bpf_redirect(link(ctx), BPF_F_INGRESS.into()) as i32 },
        None => crate::NEXT,
    }
}

/// Does what an answer says; none if that's nothing.
#[inline(always)]
pub fn give<F: Echo>(ctx: &TcContext, answer: &Answer<F::Address>) -> Option<i32> {
    match answer.what {
        What::Nothing => None,
        What::Done => Some(answer.action),
        What::Echo => F::echo(ctx),
        What::To => {
            set_mark(ctx, answer.mark);
            count(Counter::Service);
            Some(crate::NEXT)
        }
    }
}

/// The backend of a datagram's conversation.
#[inline(always)]
fn same<F: Services>(packet: &Packet<F::Address>, found: &Frontend, choice: &Choice) -> Option<Picked<F>> {
    if let Some(id) = F::picked(&packet.key)
        && let Some(to) = F::backend(id)
    {
        return Some((id, to));
    }
    let (id, to) = begin::<F>(packet, found, choice)?;
    F::set_picked(&packet.key, id);
    Some((id, to))
}

/// A backend for a conversation that begins, which is counted if the strategy wants to know.
#[inline(always)]
fn begin<F: Services>(packet: &Packet<F::Address>, found: &Frontend, choice: &Choice) -> Option<Picked<F>> {
    let picked = pick::<F>(found, choice, F::client(packet.key.source))?;
    if found.strategy == strategy::LEAST_CONNECTIONS {
        service::count_translated(picked.0);
    }
    Some(picked)
}

#[inline(always)]
fn drop() -> i32 {
    count(Counter::ServiceDropped);
    TC_ACT_SHOT
}

/// Netfilter refuses it, as it knows how.
#[inline(always)]
fn refuse(ctx: &TcContext) -> i32 {
    set_mark(ctx, 0);
    count(Counter::ServiceRefused);
    crate::NEXT
}

#[inline(always)]
fn set_mark(ctx: &TcContext, wish: u32) {
    // SAFETY: the context is valid as long as the program runs.
    let before = unsafe { (*ctx.skb.skb).mark };
    ctx.set_mark(before & !mark::MASK | mark::SERVICE | wish);
}

/// A family whose echo requests can be answered.
pub trait Echo: Family {
    /// Makes the packet, an echo request that is whole, its own answer and sends it back.
    fn echo(ctx: &TcContext) -> Option<i32>;
}

/// The kind of message is the first byte of a word that has the code in its second.
#[inline(always)]
fn message(kind: u8) -> u16 {
    u16::from_ne_bytes([kind, 0])
}

/// As many hops as an answer begins with.
const HOPS: u8 = 64;

impl Echo for Ipv4 {
    #[inline(always)]
    fn echo(ctx: &TcContext) -> Option<i32> {
        const IP: usize = ETHERNET;
        const MESSAGE: usize = IP + 20;
        let ip = at::<Ipv4Header>(ctx, IP)?;
        // SAFETY: `at` has checked that they are there, and nobody else refers to them.
        let (before, after) = unsafe {
            let (source, destination) = ((*ip).source, (*ip).destination);
            (*ip).source = destination;
            (*ip).destination = source;
            let before = u16::from_ne_bytes([(*ip).hops, (*ip).protocol]);
            (*ip).hops = HOPS;
            (before, u16::from_ne_bytes([HOPS, (*ip).protocol]))
        };
        send_back(ctx, MESSAGE, [8, 0])?;
        resum(ctx, IP + 10, before, after)?;
        resum(ctx, MESSAGE + 2, message(8), message(0))?;
        Some(by_the_same_link(ctx))
    }
}

impl Echo for Ipv6 {
    #[inline(always)]
    fn echo(ctx: &TcContext) -> Option<i32> {
        const MESSAGE: usize = ETHERNET + 40;
        let ip = at::<Ipv6Header>(ctx, ETHERNET)?;
        // SAFETY: as above. The addresses count in the message's sum, in whichever order.
        unsafe {
            let (source, destination) = ((*ip).source, (*ip).destination);
            (*ip).source = destination;
            (*ip).destination = source;
            (*ip).hops = HOPS;
        }
        send_back(ctx, MESSAGE, [128, 129])?;
        resum(ctx, MESSAGE + 2, message(128), message(129))?;
        Some(by_the_same_link(ctx))
    }
}

/// Turns the Ethernet header around, and the message's kind from a request's to an answer's.
#[inline(always)]
fn send_back(ctx: &TcContext, kind_at: usize, [_, reply]: [u8; 2]) -> Option<()> {
    let (ethernet, kind) = (at::<Ethernet>(ctx, 0)?, at::<u8>(ctx, kind_at)?);
    // SAFETY: `at` has checked that both are there, and nobody else refers to them.
    unsafe {
        let (destination, source) = ((*ethernet).destination, (*ethernet).source);
        (*ethernet).destination = source;
        (*ethernet).source = destination;
        *kind = reply;
    }
    Some(())
}

/// Makes a checksum follow a change.
#[inline(always)]
fn resum(ctx: &TcContext, sum_at: usize, before: u16, after: u16) -> Option<()> {
    // SAFETY: the kernel checks where it is.
    let done = unsafe { bpf_l3_csum_replace(ctx.skb.skb, sum_at as u32, before.into(), after.into(), 2) };
    (done == 0).then_some(())
}

#[inline(always)]
fn by_the_same_link(ctx: &TcContext) -> i32 {
    count(Counter::Service);
    // SAFETY: the link is there, as the packet came by it.
    unsafe { bpf_redirect(link(ctx), 0) as i32 }
}
