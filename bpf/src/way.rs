//! The shortcuts: into a pod of this node, or out by the link that leads to another node.

use aya_ebpf::bindings::bpf_redir_neigh;
use aya_ebpf::helpers::generated::{bpf_redirect_neigh, bpf_redirect_peer};
use aya_ebpf::programs::TcContext;
use bpf_abi::{Endpoint, Forward, MARK_SHORTCUT, NODE_MAC, mac};

use crate::packet::{ETHERNET, Ethernet, Packet, Read, at};

/// Whether the packet, or each piece that a device makes of it, is small enough. What isn't goes by
/// the network stack, which cuts it or tells its sender.
#[inline(always)]
pub fn fits<A>(ctx: &TcContext, packet: &Packet<A>, mtu: u32) -> bool {
    // SAFETY: the context is valid as long as the program runs.
    let (length, piece) = unsafe { ((*ctx.skb.skb).len, (*ctx.skb.skb).gso_size) };
    length <= mtu + ETHERNET as u32
        // Only of TCP is it known what comes before each piece: UDP may be a tunnel.
        || (piece != 0 && packet.headers != 0 && packet.headers + piece <= mtu)
}

/// Into the pod, past the node's stack and the queue of its link.
#[inline(always)]
pub fn into_pod<F: Read>(ctx: &TcContext, endpoint: &Endpoint) -> Option<i32> {
    F::take_hop(ctx)?;
    let ethernet = at::<Ethernet>(ctx, 0)?;
    // SAFETY: `at` has checked that the header is there, and nobody else refers to it.
    unsafe {
        (*ethernet).destination = endpoint.mac;
        // Word by word: a constant array would be a map of its own.
        let source = &mut (*ethernet).source;
        source[0] = const { mac(NODE_MAC)[0] };
        source[1] = const { mac(NODE_MAC)[1] };
        source[2] = const { mac(NODE_MAC)[2] };
        Some(bpf_redirect_peer(endpoint.link, 0) as i32)
    }
}

/// Out by the link; the kernel resolves the next hop's Ethernet address.
#[inline(always)]
pub fn onto_wire<F: Read>(ctx: &TcContext, forward: &Forward<F::Address>) -> Option<i32> {
    F::take_hop(ctx)?;
    ctx.set_mark(MARK_SHORTCUT);
    let mut hop = bpf_redir_neigh {
        nh_family: F::AF,
        __bindgen_anon_1: aya_ebpf::bindings::bpf_redir_neigh__bindgen_ty_1 {
            ipv6_nh: F::next_hop(forward.gateway),
        },
    };
    // SAFETY: the kernel copies what `hop` says before it returns.
    let action =
        unsafe { bpf_redirect_neigh(forward.link, &mut hop, size_of::<bpf_redir_neigh>() as i32, 0) };
    Some(action as i32)
}
