//! What a packet is to policies: the conversation that it belongs to, and whether it may begin one.

use aya_ebpf::programs::TcContext;
use bpf_abi::FlowKey;

use crate::maps::{Family, Ipv4, Ipv6};
use crate::packet::{
    ETHERNET, FRAGMENT, HOP_BY_HOP, ICMP, ICMPV6, Ipv4Header, Ipv6Header, OPTIONS, ROUTING, Read, SCTP, TCP,
    UDP,
};

/// How a packet is judged.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// It begins a conversation: by its own direction, whatever is known.
    Begins,
    /// By who began the conversation; it begins one that isn't known.
    Datagram,
    /// By who began the conversation; one that isn't known may have been begun by either side.
    UnderWay,
    /// The same, of an error about a packet of that conversation, and nothing is learned from it.
    Error,
    /// By itself, each packet anew.
    Alone,
    /// It's a later piece: as the first was.
    Later,
}

/// What a packet is about.
pub struct Subject<A> {
    /// The conversation, in the packet's direction.
    pub key: FlowKey<A>,
    /// What all pieces of the packet have in common, if it's one.
    pub id: u32,
    pub kind: Kind,
    /// It's the first piece.
    pub first: bool,
    /// TCP's flags.
    pub flags: u8,
    /// IP's protocol number, as all pieces have it.
    pub protocol: u8,
}

/// What of a packet's looks is needed to see what it's about.
#[derive(Clone, Copy)]
pub struct Looks {
    pub simple: bool,
    pub talks: bool,
    pub begins: bool,
}

/// What is behind a network header that isn't simple.
pub struct Behind {
    offset: usize,
    protocol: u8,
    /// It's a piece, and not the first.
    later: bool,
    piece: bool,
    id: u32,
    /// As all pieces have it.
    piece_protocol: u8,
}

/// A family whose headers can be followed further.
pub trait Dig: Read {
    /// The number of its ICMP, of an echo's request and answer.
    const ECHO: [u8; 3];

    /// What is behind options and extension headers; none if they don't end.
    fn behind(ctx: &TcContext) -> Option<Behind>;
    /// Whether a kind of ICMP message is an error.
    fn is_error(kind: u8) -> bool;
    /// The packet that an error quotes, as far as its addresses: with its protocol and where its
    /// transport header is.
    fn quoted(ctx: &TcContext, offset: usize) -> Option<(Self::Address, Self::Address, u8, usize)>;
}

/// What the packet is about. An `own` error is one of the packet's sender about what came to it. The key is
/// written already.
#[inline(always)]
pub fn study<F: Dig>(ctx: &TcContext, subject: &mut Subject<F::Address>, looks: Looks, own: bool) {
    subject.id = 0;
    subject.first = false;
    subject.protocol = subject.key.protocol;
    subject.kind = if !looks.simple || !looks.talks {
        return dig::<F>(ctx, subject, looks.simple, own);
    } else if looks.begins {
        Kind::Begins
    } else if subject.key.protocol == TCP {
        Kind::UnderWay
    } else {
        Kind::Datagram
    };
}

/// What isn't simply read.
#[inline(always)]
fn dig<F: Dig>(ctx: &TcContext, subject: &mut Subject<F::Address>, simple: bool, own: bool) {
    let mut offset = ETHERNET + F::HEADER as usize;
    subject.kind = Kind::Alone;
    subject.key.source_port = 0;
    subject.key.destination_port = 0;
    if !simple {
        let Some(behind) = F::behind(ctx) else {
            return;
        };
        offset = behind.offset;
        subject.key.protocol = behind.protocol;
        subject.protocol = behind.piece_protocol;
        subject.id = behind.id;
        if behind.later {
            subject.kind = Kind::Later;
            return;
        }
        subject.first = behind.piece;
    }
    let [icmp, request, reply] = F::ECHO;
    let protocol = subject.key.protocol;
    if protocol == icmp {
        let Ok([kind, _, _, _, high, low]) = ctx.load::<[u8; 6]>(offset) else {
            return;
        };
        if kind == request || kind == reply {
            let id = u16::from_ne_bytes([high, low]);
            (subject.key.source_port, subject.key.destination_port) = (id, id);
            subject.kind = if kind == request {
                Kind::Begins
            } else {
                Kind::Datagram
            };
        } else if F::is_error(kind) && !subject.first {
            about::<F>(ctx, subject, offset + 8, own);
        }
        return;
    }
    if protocol == TCP || protocol == UDP || protocol == SCTP {
        let Ok([source, destination]) = ctx.load::<[u16; 2]>(offset) else {
            return;
        };
        (subject.key.source_port, subject.key.destination_port) = (source, destination);
    }
    subject.kind = match protocol {
        TCP => {
            const SYN: u8 = 2;
            /// SYN, ACK, RST and FIN.
            const WHICH: u8 = 0x17;
            // What isn't there is held to be strict.
            subject.flags = ctx.load::<u8>(offset + 13).unwrap_or(SYN);
            if subject.flags & WHICH == SYN {
                Kind::Begins
            } else {
                Kind::UnderWay
            }
        }
        SCTP => match ctx.load::<u8>(offset + 12) {
            // Anything but INIT.
            Ok(chunk) if chunk != 1 => Kind::UnderWay,
            _ => Kind::Begins,
        },
        _ => Kind::Datagram,
    };
}

/// Makes an error's subject the conversation of the packet that it quotes, if that was its receiver's.
#[inline(always)]
fn about<F: Dig>(ctx: &TcContext, subject: &mut Subject<F::Address>, offset: usize, own: bool) {
    let Some((source, destination, protocol, transport)) = F::quoted(ctx, offset) else {
        return;
    };
    if source != subject.key.destination || (own && destination != subject.key.source) {
        return;
    }
    let [icmp, request, reply] = F::ECHO;
    let ports = if protocol == icmp {
        match ctx.load::<[u8; 6]>(transport) {
            Ok([kind, _, _, _, high, low]) if kind == request || kind == reply => {
                [u16::from_ne_bytes([high, low]); 2]
            }
            _ => return,
        }
    } else if protocol == TCP || protocol == UDP || protocol == SCTP {
        match ctx.load::<[u16; 2]>(transport) {
            Ok(ports) => ports,
            Err(_) => return,
        }
    } else {
        [0; 2]
    };
    subject.key.source = destination;
    subject.key.source_port = ports[1];
    subject.key.destination_port = ports[0];
    subject.key.protocol = protocol;
    subject.kind = Kind::Error;
}

impl Dig for Ipv4 {
    const ECHO: [u8; 3] = [ICMP, 8, 0];

    #[inline(always)]
    fn behind(ctx: &TcContext) -> Option<Behind> {
        const LATER: u16 = 0x1fff;
        const MORE: u16 = 0x2000;
        let ip = ctx.load::<Ipv4Header>(ETHERNET).ok()?;
        let length = usize::from(ip.version_length & 0xf) * 4;
        let fragment = u16::from_be(ip.fragment);
        (length >= 20).then_some(Behind {
            offset: ETHERNET + length,
            protocol: ip.protocol,
            later: fragment & LATER != 0,
            piece: fragment & (LATER | MORE) != 0,
            id: ip.id.into(),
            piece_protocol: ip.protocol,
        })
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Unreachable, time exceeded, parameter problem; neither source quench nor redirect.
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn quoted(ctx: &TcContext, offset: usize) -> Option<(u32, u32, u8, usize)> {
        let ip = ctx.load::<Ipv4Header>(offset).ok()?;
        let length = usize::from(ip.version_length & 0xf) * 4;
        let whole = length >= 20 && ip.fragment & 0x1fffu16.to_be() == 0;
        whole.then_some((ip.source, ip.destination, ip.protocol, offset + length))
    }
}

impl Dig for Ipv6 {
    const ECHO: [u8; 3] = [ICMPV6, 128, 129];

    #[inline(always)]
    fn behind(ctx: &TcContext) -> Option<Behind> {
        let next = ctx.load::<u8>(ETHERNET + 6).ok()?;
        let mut behind = Behind {
            offset: ETHERNET + Ipv6::HEADER as usize,
            protocol: next,
            later: false,
            piece: false,
            id: 0,
            piece_protocol: next,
        };
        // As many as anybody has use for.
        for _ in 0..4 {
            match behind.protocol {
                HOP_BY_HOP | ROUTING | OPTIONS => {
                    let [next, length] = ctx.load::<[u8; 2]>(behind.offset).ok()?;
                    behind.protocol = next;
                    behind.offset += 8 + usize::from(length) * 8;
                }
                FRAGMENT => {
                    let [first, place, high, low] = ctx.load::<[u16; 4]>(behind.offset).ok()?;
                    behind.protocol = first.to_ne_bytes()[0];
                    behind.offset += 8;
                    behind.id = u32::from(high) | u32::from(low) << 16;
                    behind.piece_protocol = behind.protocol;
                    behind.later = u16::from_be(place) & 0xfff8 != 0;
                    behind.piece = place & 0xfff9u16.to_be() != 0;
                    if behind.later {
                        return Some(behind);
                    }
                }
                _ => return Some(behind),
            }
        }
        None
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Unreachable, too big, time exceeded, parameter problem.
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn quoted(ctx: &TcContext, offset: usize) -> Option<([u32; 4], [u32; 4], u8, usize)> {
        let ip = ctx.load::<Ipv6Header>(offset).ok()?;
        let whole = ip.version & 0xf0 == 0x60;
        whole.then_some((ip.source, ip.destination, ip.next, offset + 40))
    }
}
