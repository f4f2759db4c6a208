//! Ports of the node's loopback that lead to pods (`hostPort`): for sockets of the node's own alone, which are
//! translated as a Service's callers are.
//!
//! No packet for a loopback address ever is: the links' programs don't know these ports, so nobody else reaches what
//! is meant for the node, and the kernel needn't be told to route such addresses.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use bpf_abi::service::{FrontendKey, Loopback};
use bpf_abi::{V6, size};

#[map(name = "loopbacks")]
static LOOPBACKS: HashMap<FrontendKey<V6>, Loopback> =
    HashMap::with_max_entries(size::LOOPBACKS, BPF_F_NO_PREALLOC);

/// What a port of the loopback leads to.
#[inline(always)]
pub fn loopback(key: &FrontendKey<V6>) -> Option<&'static Loopback> {
    // SAFETY: entries aren't reused while this runs, as the map isn't set aside.
    unsafe { LOOPBACKS.get_ptr(key).map(|found| &*found) }
}
