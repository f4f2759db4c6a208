//! Which Service a TCP socket connected to: a slot for each socket, by its cookie, so that a connection costs
//! no look into a hash, and no entry that has to be made and removed.
//!
//! Cookies are given one after the other: the next in a slot comes when as many sockets were made as there
//! are slots. If the one before is still open then, the later one is kept in the hash, with the datagrams'
//! sockets.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use bpf_abi::service::{Named, named, used};
use bpf_abi::size;

use crate::mix::Mix;
use crate::service::Services;

#[map(name = "named")]
static NAMED: Array<Named> = Array::with_max_entries(size::NAMED, 0);
/// What was ever used: what never was needn't be asked.
#[map(name = "used")]
static USED: Array<u32> = Array::with_max_entries(used::COUNT, 0);

/// Whether it was ever used.
#[inline(always)]
pub fn is_used(which: u32) -> bool {
    USED.get(which).is_some_and(|used| *used != 0)
}

/// It is used.
#[inline(always)]
pub fn set_used(which: u32) {
    if let Some(used) = USED.get_ptr_mut(which) {
        // SAFETY: the map's value; whoever else writes it writes the same.
        unsafe { used.write_volatile(1) };
    }
}

#[inline(always)]
fn slot(socket: u64) -> Option<*mut Named> {
    NAMED.get_ptr_mut(socket as u32 & (size::NAMED - 1))
}

/// What a socket connected to.
pub struct Called {
    /// The Service's address, IPv4's in its first word.
    pub address: [u32; 4],
    pub port: u16,
    /// The backend that it got; zero if it's none of a Service.
    pub backend: u32,
}

/// What a slot's words give together. No lock is held: words of two sockets don't give what is kept.
#[inline(always)]
fn sum<F: Services>(socket: u64, called: &Called, peer: F::Address, peer_port: u16) -> u32 {
    let mix = Mix::new(socket as u32).word((socket >> 32) as u32);
    let mix = F::mix(mix.words(called.address).word(called.backend), peer);
    mix.word(u32::from(called.port) | u32::from(peer_port) << 16)
        .end()
}

/// Keeps what a socket connects to, and whom it gets; false if its slot is another's.
#[inline(always)]
pub fn keep<F: Services>(socket: u64, called: &Called, peer: (F::Address, u16)) -> bool {
    let Some(slot) = slot(socket) else {
        return false;
    };
    // SAFETY: the map's value, of which all words are written as wholes; so below.
    unsafe {
        let holder = (&raw const (*slot).socket).read_volatile();
        if holder != 0 && holder != socket {
            return false;
        }
        if holder == 0 {
            (*slot).bits = 0;
        }
        (*slot).address = called.address;
        (*slot).port = called.port;
        (*slot).backend = called.backend;
        (*slot).sum = sum::<F>(socket, called, peer.0, peer.1);
        (&raw mut (*slot).socket).write_volatile(socket);
    }
    true
}

/// What a socket connected to, if that is where it got this peer.
#[inline(always)]
pub fn called<F: Services>(socket: u64, peer: F::Address, peer_port: u16) -> Option<Called> {
    let slot = slot(socket)?;
    let (holder, called, kept) = unsafe {
        let holder = (&raw const (*slot).socket).read_volatile();
        let called = Called {
            address: (*slot).address,
            port: (*slot).port,
            backend: (*slot).backend,
        };
        (holder, called, (*slot).sum)
    };
    (holder == socket && kept == sum::<F>(socket, &called, peer, peer_port)).then_some(called)
}

/// The socket is counted for its backend.
#[inline(always)]
pub fn mark_counted(socket: u64) {
    if let Some(slot) = slot(socket) {
        unsafe {
            if (*slot).socket == socket {
                (*slot).bits |= named::COUNTED;
            }
        }
    }
}

/// Gives a closed socket's slot back; says whether it had one, and was counted.
#[inline(always)]
pub fn forget(socket: u64) -> Option<bool> {
    let slot = slot(socket)?;
    unsafe {
        if (&raw const (*slot).socket).read_volatile() != socket {
            return None;
        }
        let counted = (*slot).bits & named::COUNTED != 0;
        (&raw mut (*slot).socket).write_volatile(0);
        Some(counted)
    }
}
