//! Which conversations may take the shortcut.
//!
//! A packet may take it only if no node's netfilter translates its conversation: an answer that
//! bypasses the translation of what it answers never finds its asker. So the shortcut is taken
//!
//! - by what begins a conversation (a TCP SYN, an echo request) between two pods' own addresses: it
//!   can't be an answer. Its answer is awaited, and makes the conversation known;
//! - by what belongs to a known conversation;
//! - by what was seen to pass the network stack untranslated (UDP's first packet, a conversation that
//!   was evicted), which a mark says.
//!
//! Everything else, a miss first of all, goes by the stack. What the stack translates is kept as
//! such in both directions, so that an earlier conversation with the same ports doesn't mislead it.

use bpf_abi::{FlowKey, flow};

use crate::maps::Family;
use crate::packet::Packet;

/// Whether the packet, of a sender in the direction `own`, may take the shortcut.
#[inline(always)]
pub fn allows<F: Family>(packet: &Packet<F::Address>, own: u32) -> bool {
    let answer = packet.answer();
    match F::way(&packet.key) {
        Some(way) if way != own => return false,
        Some(_) if !packet.begins => return true,
        _ => {}
    }
    if packet.begins {
        return match F::way(&answer) {
            Some(flow::STACK) => false,
            Some(_) => true,
            None => {
                F::open(&answer, own);
                true
            }
        };
    }
    let Some(opener) = F::opening(&packet.key) else {
        return false;
    };
    // What stayed would make the conversation known for longer than the table of those that are.
    F::close(&packet.key);
    F::set_way(&packet.key, own);
    F::set_way(&answer, opener);
    true
}

/// Learns from a packet that has passed the network stack: `there` is its own direction's way, `back`
/// the other's, if it isn't translated.
#[inline(always)]
pub fn learn<F: Family>(packet: &Packet<F::Address>, untranslated: bool, there: u32, back: u32) {
    let [there, back] = if untranslated {
        [there, back]
    } else {
        [flow::STACK; 2]
    };
    keep::<F>(&packet.key, there);
    keep::<F>(&packet.answer(), back);
}

#[inline(always)]
fn keep<F: Family>(key: &FlowKey<F::Address>, way: u32) {
    if F::way(key) == Some(way) {
        return;
    }
    if way == flow::STACK {
        // Nor may an earlier beginning with the same ports mislead what is translated.
        F::close(key);
    }
    F::set_way(key, way);
}
