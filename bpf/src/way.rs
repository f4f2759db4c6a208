//! The shortcuts: into a pod of this node, or out by the link that leads to another node.

use aya_ebpf::bindings::bpf_redir_neigh;
use aya_ebpf::helpers::generated::{bpf_redirect_neigh, bpf_redirect_peer};
use aya_ebpf::programs::TcContext;
use bpf_abi::{Counter, End, MARK_SHORTCUT, NODE_MAC, end, mac};

use crate::flow::Path;
use crate::maps::count;
use crate::packet::{ETHERNET, Ethernet, Packet, Read, at};

/// Whether the packet, or each piece that a device makes of it, is small enough for the path: what isn't
/// goes by the network stack, which cuts it or tells its sender. So does what says how large segments may
/// be, if the way between nodes carries less than the pod's link: the network stack lowers it.
#[inline(always)]
pub fn passes<A>(ctx: &TcContext, packet: &Packet<A>, path: &Path<A>) -> bool {
    let (here, way) = match path.from.place {
        end::ELSEWHERE => (path.to.mtu, path.from.mtu),
        _ => (path.from.mtu, path.to.mtu),
    };
    if packet.sizes && way < here {
        return false;
    }
    let mtu = path.to.mtu;
    // SAFETY: the context is valid as long as the program runs.
    let (length, piece) = unsafe { ((*ctx.skb.skb).len, (*ctx.skb.skb).gso_size) };
    length <= mtu + ETHERNET as u32
        // Only of TCP is it known what comes before each piece: UDP may be a tunnel.
        || (piece != 0 && packet.headers != 0 && packet.headers + piece <= mtu)
}

/// By the path, past the node's stack.
#[inline(always)]
pub fn take<F: Read>(ctx: &TcContext, path: &Path<F::Address>) -> Option<i32> {
    F::take_hop(ctx)?;
    if path.to.place == end::ELSEWHERE {
        count(Counter::Forwarded);
        return Some(onto_wire::<F>(ctx, path.to.link, path.gateway));
    }
    count(match path.from.place {
        end::ELSEWHERE => Counter::PeerFromWire,
        _ => Counter::PeerFromPod,
    });
    into_pod(ctx, &path.to)
}

/// Into the pod, past the queue of its link, too.
#[inline(always)]
fn into_pod(ctx: &TcContext, to: &End) -> Option<i32> {
    let ethernet = at::<Ethernet>(ctx, 0)?;
    // SAFETY: `at` has checked that the header is there, and nobody else refers to it.
    unsafe {
        (*ethernet).destination = to.mac;
        // Word by word: a constant array would be a map of its own.
        let source = &mut (*ethernet).source;
        source[0] = const { mac(NODE_MAC)[0] };
        source[1] = const { mac(NODE_MAC)[1] };
        source[2] = const { mac(NODE_MAC)[2] };
        Some(bpf_redirect_peer(to.link, 0) as i32)
    }
}

/// Out by the link; the kernel resolves the next hop's Ethernet address.
#[inline(always)]
fn onto_wire<F: Read>(ctx: &TcContext, link: u32, gateway: F::Address) -> i32 {
    ctx.set_mark(MARK_SHORTCUT);
    let mut hop = bpf_redir_neigh {
        nh_family: F::AF,
        __bindgen_anon_1: aya_ebpf::bindings::bpf_redir_neigh__bindgen_ty_1 {
            ipv6_nh: F::next_hop(gateway),
        },
    };
    // SAFETY: the kernel copies what `hop` says before it returns.
    unsafe { bpf_redirect_neigh(link, &mut hop, size_of::<bpf_redir_neigh>() as i32, 0) as i32 }
}
