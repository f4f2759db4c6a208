//! A packet's headers, read with every length checked.

use aya_ebpf::programs::TcContext;
use bpf_abi::FlowKey;

use crate::maps::{Family, Ipv4, Ipv6, exchange};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;
/// IPv6's hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// IPv6's routing header.
pub const ROUTING: u8 = 43;
/// IPv6's header of pieces.
pub const FRAGMENT: u8 = 44;
/// IPv6's options for the receiver.
pub const OPTIONS: u8 = 60;

/// The Ethernet header in words, as it's aligned to them.
#[repr(C)]
pub struct Ethernet {
    pub destination: [u16; 3],
    pub source: [u16; 3],
}

/// IPv4's header without options.
#[repr(C)]
pub struct Ipv4Header {
    pub version_length: u8,
    pub service: u8,
    pub length: u16,
    pub id: u16,
    pub fragment: u16,
    pub hops: u8,
    pub protocol: u8,
    pub checksum: u16,
    pub source: u32,
    pub destination: u32,
}

/// IPv6's header.
#[repr(C)]
pub struct Ipv6Header {
    pub version: u8,
    pub rest: [u8; 3],
    pub length: u16,
    pub next: u8,
    pub hops: u8,
    pub source: [u32; 4],
    pub destination: [u32; 4],
}

#[repr(C)]
struct TcpHeader {
    ports: [u16; 2],
    numbers: [u32; 2],
    length: u8,
    flags: u8,
    window: u16,
    rest: u32,
}

#[repr(C)]
struct UdpHeader {
    ports: [u16; 2],
    length: u16,
    checksum: u16,
}

/// SCTP's header and the first chunk's.
#[repr(C)]
struct SctpHeader {
    ports: [u16; 2],
    numbers: [u32; 2],
    chunk: u8,
}

#[repr(C)]
struct IcmpHeader {
    kind: u8,
    code: u8,
    checksum: u16,
    id: u16,
    sequence: u16,
}

/// What decisions depend on.
#[derive(Clone, Copy)]
pub struct Packet<A> {
    /// Addresses always, ports if it's part of a conversation, or SCTP.
    pub key: FlowKey<A>,
    /// It has ports: it's TCP, UDP or an echo, and not the later part of something cut.
    pub talks: bool,
    /// Nothing about it needs the network stack: no options, not cut, hops left.
    pub plain: bool,
    /// It begins a conversation, and can't be an answer in one.
    pub begins: bool,
    /// It's a TCP SYN, which says how large segments may be.
    pub sizes: bool,
    /// Length of the network and transport headers, if TCP.
    pub headers: u32,
    /// The transport header is behind the network header and the packet isn't cut, whatever it is.
    pub simple: bool,
    /// TCP's flags.
    pub flags: u8,
}

/// Whether a direction is the other than its conversation's key: one, or else zero.
#[derive(Clone, Copy)]
pub struct Turned(u64);

impl Turned {
    #[inline(always)]
    pub fn is(self) -> bool {
        self.0 != 0
    }

    /// Two numbers of a conversation's directions as the direction's own and the other's, and back.
    #[inline(always)]
    pub fn order(self, [one, other]: [u16; 2]) -> [u16; 2] {
        exchange(self.mask(), one.into(), other.into()).map(|number| number as u16)
    }

    /// The same of two ends, in words.
    #[inline(always)]
    pub fn order_ends(self, [[a, b], [c, d]]: [[u64; 2]; 2]) -> [[u64; 2]; 2] {
        let mask = 0_u64.wrapping_sub(self.0);
        let (first, second) = ((a ^ c) & mask, (b ^ d) & mask);
        [[a ^ first, b ^ second], [c ^ first, d ^ second]]
    }

    #[inline(always)]
    fn mask(self) -> u32 {
        0_u32.wrapping_sub(self.0 as u32)
    }
}

/// The key of a direction's conversation, and whether that is the other direction.
#[inline(always)]
pub fn conversation<F: Family>(key: &FlowKey<F::Address>) -> (FlowKey<F::Address>, Turned) {
    let turned = Turned(F::before(key.destination, key.source));
    let [source, destination] = F::exchange(turned.mask(), key.source, key.destination);
    let [source_port, destination_port] = turned.order([key.source_port, key.destination_port]);
    let key = FlowKey {
        source,
        destination,
        source_port,
        destination_port,
        ..*key
    };
    (key, turned)
}

/// A family whose packets can be read.
pub trait Read: Family {
    /// The headers that decisions are made of: Ethernet's, the family's, TCP's without options.
    const HEADERS: usize = ETHERNET + Self::HEADER as usize + size_of::<TcpHeader>();

    /// The packet, if it has the headers that it must have.
    fn read(ctx: &TcContext) -> Option<Packet<Self::Address>>;
    /// Takes one hop off; the packet has more than one.
    fn take_hop(ctx: &TcContext) -> Option<()>;
}

/// Makes the first `wanted` bytes readable, as far as there are so many.
///
/// Ask for no more than is read: TCP keeps its headers apart from what they carry, and to join them
/// the kernel copies the packet.
#[inline(always)]
pub fn pull(ctx: &TcContext, wanted: usize) {
    let wanted = ctx.len().min(wanted as u32);
    if ctx.data() + wanted as usize > ctx.data_end() {
        // If it fails, reading does.
        let _ = ctx.pull_data(wanted);
    }
}

/// What is at an offset of the packet, if all of it is there.
///
/// The kernel aligns packets so that IP headers are aligned to words, and where it doesn't the
/// machine doesn't mind: the loads are made as if they were aligned.
#[inline(always)]
pub fn at<T>(ctx: &TcContext, offset: usize) -> Option<*mut T> {
    let start = ctx.data() + offset;
    (start + size_of::<T>() <= ctx.data_end()).then_some(start as *mut T)
}

impl Read for Ipv4 {
    #[inline(always)]
    fn read(ctx: &TcContext) -> Option<Packet<u32>> {
        const WITHOUT_OPTIONS: u8 = 0x45;
        const LATER: u16 = 0x1fffu16.to_be();
        const CUT: u16 = 0x3fffu16.to_be();
        pull(ctx, Self::HEADERS);
        // SAFETY: `at` has checked that the header is there.
        let ip = unsafe { &*at::<Ipv4Header>(ctx, ETHERNET)? };
        if ip.version_length & 0xf0 != 0x40 {
            return None;
        }
        let short = ip.version_length == WITHOUT_OPTIONS;
        let whole = ip.fragment & CUT == 0;
        let mut packet = Packet {
            key: key(ip.source, ip.destination, ip.protocol),
            talks: false,
            plain: short && whole && ip.hops > 1,
            begins: false,
            sizes: false,
            headers: 0,
            simple: short && whole,
            flags: 0,
        };
        if short && ip.fragment & LATER == 0 {
            let length = u32::from(u16::from_be(ip.length));
            transport::<Ipv4>(ctx, &mut packet, length, ICMP, [8, 0]);
        }
        Some(packet)
    }

    #[inline(always)]
    fn take_hop(ctx: &TcContext) -> Option<()> {
        const ONE_HOP: u32 = 0x0100u16.to_be() as u32;
        let ip = at::<Ipv4Header>(ctx, ETHERNET)?;
        // SAFETY: `at` has checked that the header is there, and nobody else refers to it.
        unsafe {
            (*ip).hops -= 1;
            // The header's checksum follows by RFC 1141, as in the kernel.
            let sum = u32::from((*ip).checksum) + ONE_HOP;
            (*ip).checksum = (sum + u32::from(sum >= 0xffff)) as u16;
        }
        Some(())
    }
}

impl Read for Ipv6 {
    #[inline(always)]
    fn read(ctx: &TcContext) -> Option<Packet<[u32; 4]>> {
        pull(ctx, Self::HEADERS);
        // SAFETY: `at` has checked that the header is there.
        let ip = unsafe { &*at::<Ipv6Header>(ctx, ETHERNET)? };
        if ip.version & 0xf0 != 0x60 {
            return None;
        }
        let mut packet = Packet {
            key: key(ip.source, ip.destination, ip.next),
            talks: false,
            plain: ip.hops > 1,
            begins: false,
            sizes: false,
            headers: 0,
            simple: !matches!(ip.next, HOP_BY_HOP | ROUTING | FRAGMENT | OPTIONS),
            flags: 0,
        };
        let length = Ipv6::HEADER + u32::from(u16::from_be(ip.length));
        transport::<Ipv6>(ctx, &mut packet, length, ICMPV6, [128, 129]);
        Some(packet)
    }

    #[inline(always)]
    fn take_hop(ctx: &TcContext) -> Option<()> {
        let word = at::<u16>(ctx, ETHERNET + 6)?;
        // SAFETY: `at` has checked that it's there. The second byte of the word is the hops.
        unsafe {
            let before = *word;
            let after = before - 1u16.to_be();
            *word = after;
            // If the device has summed the packet up, the sum follows. IPv4's needs nothing: its
            // header's own checksum makes up for it.
            aya_ebpf::helpers::generated::bpf_csum_update(ctx.skb.skb, u32::from(!before) + u32::from(after));
        }
        Some(())
    }
}

#[inline(always)]
fn key<A>(source: A, destination: A, protocol: u8) -> FlowKey<A> {
    FlowKey {
        source,
        destination,
        source_port: 0,
        destination_port: 0,
        protocol,
        zero: [0; 3],
    }
}

/// Reads the transport header of a packet that says to be `length` long. What has none of those below
/// goes by the network stack, as does what is cut short: the network stack drops it.
#[inline(always)]
fn transport<F: Family>(
    ctx: &TcContext,
    packet: &mut Packet<F::Address>,
    length: u32,
    icmp: u8,
    [request, reply]: [u8; 2],
) {
    const SYN: u8 = 2;
    /// SYN, ACK, RST and FIN.
    const WHICH: u8 = 0x17;
    let offset = ETHERNET + F::HEADER as usize;
    let protocol = packet.key.protocol;
    let mut least = F::HEADER;
    if protocol == TCP {
        if let Some(tcp) = at::<TcpHeader>(ctx, offset) {
            // SAFETY: `at` has checked that the header is there; so below.
            let tcp = unsafe { &*tcp };
            [packet.key.source_port, packet.key.destination_port] = tcp.ports;
            packet.talks = true;
            packet.begins = tcp.flags & WHICH == SYN;
            packet.sizes = tcp.flags & SYN != 0;
            packet.flags = tcp.flags;
            packet.headers = F::HEADER + u32::from(tcp.length >> 4) * 4;
            packet.plain &= tcp.length >= 5 << 4;
            least = packet.headers;
        }
    } else if protocol == UDP {
        if let Some(udp) = at::<UdpHeader>(ctx, offset) {
            let udp = unsafe { &*udp };
            [packet.key.source_port, packet.key.destination_port] = udp.ports;
            packet.talks = true;
            let own = u32::from(u16::from_be(udp.length));
            packet.plain &= own >= size_of::<UdpHeader>() as u32;
            least += own;
        }
    } else if protocol == icmp
        && let Some(icmp) = at::<IcmpHeader>(ctx, offset)
    {
        let icmp = unsafe { &*icmp };
        if icmp.kind == request || icmp.kind == reply {
            packet.key.source_port = icmp.id;
            packet.key.destination_port = icmp.id;
            packet.talks = true;
            packet.begins = icmp.kind == request;
            least += size_of::<IcmpHeader>() as u32;
        }
    } else if protocol == SCTP
        && let Some(sctp) = at::<SctpHeader>(ctx, offset)
    {
        // It talks, too, but takes no shortcut.
        const INIT: u8 = 1;
        let sctp = unsafe { &*sctp };
        [packet.key.source_port, packet.key.destination_port] = sctp.ports;
        packet.begins = sctp.chunk == INIT;
    }
    packet.plain &= least <= length && ETHERNET as u32 + length <= ctx.len();
}
