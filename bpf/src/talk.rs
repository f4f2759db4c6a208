//! What is known of conversations that isolated pods have by the network stack: who began, whether both
//! sides were seen, and whose policies allow it as of a generation of the tables. Two pods of this node are
//! asked one by one, each where its own link is.
//!
//! Those that nobody has answered are kept apart, so that a flood of beginnings makes nothing else be
//! forgotten.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use bpf_abi::FlowKey;
use bpf_abi::policy::{COOLING, Isolation, Judged, judged};

use crate::policy::{Began, Question};
use crate::rules::Policies;

/// What is known of a conversation. All of it is always written, as the kernel wants it.
pub struct Known<A> {
    pub talk: Judged<A>,
    /// It's about the packet's conversation.
    pub is: bool,
    /// It says that the packet is allowed, without more ado.
    pub holds: bool,
    /// There's an entry, whatever it's about: among those that are answered, or among the others.
    answered: bool,
    unanswered: bool,
}

/// What is known of a conversation, by its key.
#[inline(always)]
pub fn look<F: Policies>(key: &FlowKey<F::Address>) -> Known<F::Address> {
    let mut known = Known::nothing(key.source);
    if let Some(talk) = F::judged(key) {
        known.talk = talk;
        known.answered = true;
    } else if let Some(talk) = F::asked(key) {
        known.talk = talk;
        known.unanswered = true;
    }
    known.is = known.answered || known.unanswered;
    known
}

impl<A: Copy + PartialEq> Known<A> {
    /// Nothing. `some`: any address.
    #[inline(always)]
    pub fn nothing(some: A) -> Known<A> {
        Known {
            talk: Judged {
                generation: 0,
                denied: 0,
                peer: some,
                peer_port: 0,
                bits: 0,
            },
            is: false,
            holds: false,
            answered: false,
            unanswered: false,
        }
    }

    /// Who began, as the packet sees it.
    #[inline(always)]
    pub fn began(&self, is_turned: bool) -> Began {
        if (self.talk.bits & judged::BEGAN_TURNED != 0) == is_turned {
            Began::Sender
        } else {
            Began::Receiver
        }
    }

    /// Whether it's about the packet's conversation, and not about another of the same ends: one that the
    /// other side or the node itself began, or that went to another backend.
    #[inline(always)]
    pub fn fits(&self, asked: &Question<A>, strict: bool) -> bool {
        if !self.is {
            return false;
        }
        let (bits, is_senders) = (self.talk.bits, self.began(asked.is_turned) == Began::Sender);
        let has_peer = bits & judged::PEER != 0;
        if strict && (!is_senders || has_peer != asked.has_peer) {
            return false;
        }
        if is_senders && (bits & judged::EXEMPT != 0) != asked.exempt {
            return false;
        }
        !asked.has_peer
            || (has_peer && self.talk.peer == asked.peer && self.talk.peer_port == asked.peer_port)
    }

    /// Whether the packet is allowed without more ado.
    #[inline(always)]
    pub fn is_enough(&self, asked: &Question<A>) -> bool {
        let ends = Ends::to_ask(asked);
        let holds = self.talk.generation == asked.generation && self.talk.bits & judged::DENIED == 0;
        (holds && ends.are_in(self.talk.bits, Ends::ASKED))
            || self.talk.bits & judged::EXEMPT != 0
            || asked.exempt
    }

    /// Whether an end that is asked here has never been.
    #[inline(always)]
    pub fn is_new_here(&self, asked: &Question<A>) -> bool {
        !Ends::to_ask(asked).are_in(self.talk.bits, Ends::KNOWN)
    }

    /// Whether the packet is of the side that wasn't heard yet.
    #[inline(always)]
    fn is_answered(&self, is_turned: bool) -> bool {
        (self.talk.bits & judged::SEEN_TURNED != 0) != is_turned
    }

    /// Takes note of an answer.
    #[inline(always)]
    pub fn note<F: Policies<Address = A>>(&self, key: &FlowKey<A>, is_turned: bool) {
        if self.unanswered && self.is_answered(is_turned) {
            F::set_judged(key, &self.talk);
            F::forget_asked(key);
        }
    }
}

/// The ends of a conversation that are asked: [`judged`]'s `ASKED` and `KNOWN` bits, less where each begins.
#[derive(Clone, Copy)]
struct Ends(u16);

impl Ends {
    /// Where those bits begin.
    const ASKED: u32 = judged::ASKED_SOURCE.trailing_zeros();
    const KNOWN: u32 = judged::KNOWN_SOURCE.trailing_zeros();
    const SOURCE: u16 = judged::ASKED_SOURCE >> Ends::ASKED;
    const DESTINATION: u16 = judged::ASKED_DESTINATION >> Ends::ASKED;
    const BOTH: u16 = Ends::SOURCE | Ends::DESTINATION;

    /// Those that are to be asked about a packet here.
    #[inline(always)]
    fn to_ask<A>(asked: &Question<A>) -> Ends {
        let (source, destination) = match asked.is_turned {
            false => (Ends::SOURCE, Ends::DESTINATION),
            true => (Ends::DESTINATION, Ends::SOURCE),
        };
        let mut ends = 0;
        if asked.source != Isolation::FREE {
            ends |= source;
        }
        if asked.destination != Isolation::FREE {
            ends |= destination;
        }
        Ends(ends)
    }

    /// Whether these are all among those in `bits`.
    #[inline(always)]
    fn are_in(self, bits: u16, place: u32) -> bool {
        (bits >> place) & self.0 == self.0
    }

    /// These as bits.
    #[inline(always)]
    fn bits(self, place: u32) -> u16 {
        self.0 << place
    }
}

/// Whether a conversation hasn't been allowed for so long that a datagram of the side that didn't begin
/// it is no late answer any more, but a beginning.
#[inline(always)]
pub fn has_cooled<F: Policies>(key: &FlowKey<F::Address>, is_turned: bool) -> bool {
    // SAFETY: it has no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() / 1_000_000_000 } as u32;
    let known = look::<F>(key);
    let mut talk = known.talk;
    if !known.is && !is_turned {
        talk.bits = judged::BEGAN_TURNED;
    }
    if talk.bits & judged::DENIED != 0 {
        return now.wrapping_sub(talk.denied) > COOLING;
    }
    talk.bits |= judged::DENIED;
    talk.denied = now;
    F::set_judged(key, &talk);
    if known.unanswered {
        F::forget_asked(key);
    }
    false
}

/// Keeps that a conversation is allowed. What is new begins with the packet; what is neither new nor
/// known here the shortcut's tables know, so that it has been answered.
#[inline(always)]
pub fn keep<F: Policies>(asked: &Question<F::Address>) {
    let (key, is_turned, is_new) = (&asked.key, asked.is_turned, asked.is_new);
    let known = &asked.known;
    let mut bits = 0;
    if (asked.began == Began::Sender) == is_turned {
        bits |= judged::BEGAN_TURNED;
    }
    let seen_turned = match known.is && !is_new {
        true => known.talk.bits & judged::SEEN_TURNED != 0,
        false => is_turned == is_new,
    };
    if seen_turned {
        bits |= judged::SEEN_TURNED;
    }
    if asked.exempt {
        bits |= judged::EXEMPT;
    }
    if asked.has_peer {
        bits |= judged::PEER;
    }
    let ends = Ends::to_ask(asked);
    bits |= ends.bits(Ends::ASKED) | ends.bits(Ends::KNOWN);
    if known.is && !is_new {
        bits |= known.talk.bits & (Ends::BOTH << Ends::KNOWN);
        if known.talk.generation == asked.generation {
            bits |= known.talk.bits & (Ends::BOTH << Ends::ASKED);
        }
    }
    let talk = Judged {
        generation: asked.generation,
        denied: 0,
        peer: asked.peer,
        peer_port: asked.peer_port,
        bits,
    };
    let was_answered = known.is && known.answered && !is_new;
    if was_answered || seen_turned != is_turned {
        F::set_judged(key, &talk);
        if known.unanswered {
            F::forget_asked(key);
        }
    } else {
        F::set_asked(key, &talk);
        if known.answered {
            F::forget_judged(key);
        }
    }
}
