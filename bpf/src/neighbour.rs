//! What a pod may say to its neighbours on the link, of which the node is the only one.

use aya_ebpf::programs::TcContext;

use crate::maps::{Family, Ipv4, Ipv6};
use crate::packet::{ETHERNET, Ethernet, HOP_BY_HOP, ICMPV6, at, pull};

/// ARP for IPv4 on Ethernet, from the kind of hardware on.
#[repr(C)]
struct Arp {
    hardware: u16,
    protocol: u16,
    lengths: [u8; 2],
    operation: u16,
    sender_mac: [u16; 3],
    /// In halves: it isn't aligned to words.
    sender: [u16; 2],
}

/// Whether ARP speaks for nobody but the pod.
#[inline(always)]
pub fn arp_is_own(ctx: &TcContext) -> bool {
    const ETHERNET_IPV4: [u16; 2] = [1u16.to_be(), 0x0800u16.to_be()];
    pull(ctx, ETHERNET + size_of::<Arp>());
    let (Some(ethernet), Some(arp)) = (at::<Ethernet>(ctx, 0), at::<Arp>(ctx, ETHERNET)) else {
        return false;
    };
    // SAFETY: `at` has checked that both are there.
    let (ethernet, arp) = unsafe { (&*ethernet, &*arp) };
    if [arp.hardware, arp.protocol] != ETHERNET_IPV4 || arp.lengths != [6, 4] {
        return false;
    }
    let sender = u32::from(arp.sender[0]) | u32::from(arp.sender[1]) << 16;
    let sender = if cfg!(target_endian = "little") {
        sender
    } else {
        sender.rotate_left(16)
    };
    let Some(endpoint) = Ipv4::endpoint(sender) else {
        return false;
    };
    endpoint.link == link(ctx) && endpoint.mac == arp.sender_mac && endpoint.mac == ethernet.source
}

/// What IPv6 says to neighbours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Nothing: it's for somebody beyond.
    Nothing,
    /// What a host may.
    AsHost,
    /// What only a router may, or in another one's name.
    AsAnother,
}

/// Looks at neighbour discovery (RFC 4861) and multicast listeners' reports (RFC 3810).
#[inline(always)]
pub fn ipv6_says(ctx: &TcContext, next: u8) -> Says {
    const OFFSET: usize = ETHERNET + Ipv6::HEADER as usize;
    if next == HOP_BY_HOP {
        // Reports carry a router alert of 8 bytes.
        return match at::<[u8; 9]>(ctx, OFFSET).map(|bytes| unsafe { &*bytes }) {
            Some([ICMPV6, 0, _, _, _, _, _, _, 131 | 132 | 143]) => Says::AsHost,
            _ => Says::Nothing,
        };
    }
    if next != ICMPV6 {
        return Says::Nothing;
    }
    let Some(kind) = at::<u8>(ctx, OFFSET).map(|kind| unsafe { *kind }) else {
        return Says::Nothing;
    };
    match kind {
        // Router solicitation, neighbour solicitation.
        133 | 135 => Says::AsHost,
        136 => match at::<[u32; 4]>(ctx, OFFSET + 8).map(|target| unsafe { *target }) {
            Some(target) if is_link_local(target) || is_own(ctx, target) => Says::AsHost,
            _ => Says::AsAnother,
        },
        // Router advertisement, redirect.
        134 | 137 => Says::AsAnother,
        _ => Says::Nothing,
    }
}

/// Whether an address is `fe80::/10`.
#[inline(always)]
pub fn is_link_local(address: [u32; 4]) -> bool {
    address[0] & 0xffc0_0000_u32.to_be() == 0xfe80_0000_u32.to_be()
}

#[inline(always)]
fn is_own(ctx: &TcContext, address: [u32; 4]) -> bool {
    Ipv6::endpoint(address).is_some_and(|endpoint| endpoint.link == link(ctx))
}

/// Index of the link that the packet is on.
#[inline(always)]
pub fn link(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid as long as the program runs.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// A family, as far as it talks to neighbours by its own packets.
pub trait Neighbourly: Family {
    /// What a packet of that protocol says to neighbours.
    fn says(ctx: &TcContext, protocol: u8) -> Says;
    /// Whether it's an address of the link's, or none.
    fn is_of_link(source: Self::Address) -> bool;
    /// Whether neighbours' talk goes there: to a group, or to an address of the link's.
    fn is_neighbours(destination: Self::Address) -> bool;
}

/// It has ARP.
impl Neighbourly for Ipv4 {
    #[inline(always)]
    fn says(_: &TcContext, _: u8) -> Says {
        Says::Nothing
    }

    #[inline(always)]
    fn is_of_link(_: u32) -> bool {
        false
    }

    #[inline(always)]
    fn is_neighbours(_: u32) -> bool {
        false
    }
}

impl Neighbourly for Ipv6 {
    #[inline(always)]
    fn says(ctx: &TcContext, protocol: u8) -> Says {
        ipv6_says(ctx, protocol)
    }

    #[inline(always)]
    fn is_of_link(source: [u32; 4]) -> bool {
        is_link_local(source) || source == [0; 4]
    }

    #[inline(always)]
    fn is_neighbours(destination: [u32; 4]) -> bool {
        const MULTICAST: u32 = 0xff00_0000_u32.to_be();
        destination[0] & MULTICAST == MULTICAST || is_link_local(destination)
    }
}
