//! Network policies, as the programs know them.
//!
//! ```text
//! a local pod's address ─► Isolation (set of egress, set of ingress)
//! the other's address ─► class          exact, else the block around it, else 0
//! RuleKey (set, class, protocol, port) ─► rule           found: allowed
//! ```
//!
//! Sets, classes and rules are digests of what they stand for, in two words. Set 0 is that of a pod
//! that no policy isolates in that direction; class 0 in a rule's key is any peer's. The lowest bits of
//! a set are its [`hint`]s: which looks at the rules can find anything.
//!
//! Order of writes: rules, classes, isolation; then the generation; then removals, the other way.

/// A digest, its lower half first.
pub type Id = [u32; 2];

/// What stands for nothing: no set, no rule, the class of what nothing matches.
pub const NONE: Id = [0; 2];

/// The set of a pod of which nothing is known: it allows nothing.
pub const UNKNOWN: Id = [u32::MAX; 2];

/// What holds for a pod of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Isolation {
    /// Of what it sends.
    pub egress: Id,
    /// Of what comes to it.
    pub ingress: Id,
}

impl Isolation {
    /// No policy isolates it.
    pub const FREE: Isolation = Isolation {
        egress: NONE,
        ingress: NONE,
    };
    /// Nothing is known of it, so nothing is allowed.
    pub const UNKNOWN: Isolation = Isolation {
        egress: UNKNOWN,
        ingress: UNKNOWN,
    };
}

/// Bits of a set's lower half.
pub mod hint {
    /// Some rule is for any peer.
    pub const ANY_PEER: u32 = 1 << 0;
    /// Some rule is for peers of a class.
    pub const PEERS: u32 = 1 << 1;
    /// Some rule is for everything, whatever its protocol.
    pub const EVERYTHING: u32 = 1 << 2;
    /// Some rule is for every port of a protocol.
    pub const PROTOCOLS: u32 = 1 << 3;
    /// Some rule is for a port.
    pub const PORTS: u32 = 1 << 4;
    /// Some rule is for a range of ports.
    pub const RANGES: u32 = 1 << 5;
}

/// What a rule is found by. For ranges of ports it's a longest-prefix key, whose last bits are the
/// port's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct RuleKey {
    /// The pod's set in that direction.
    pub set: Id,
    /// The peer's class; zero for any peer.
    pub class: Id,
    /// IP's protocol number; zero with port zero is everything.
    pub protocol: u16,
    /// The receiver's port, as it stands in packets; zero is all of them.
    pub port: u16,
}

/// How many bits of a range's key come before the port.
pub const RANGE_BITS: u32 = 64 + 64 + 16;

/// What is known of a conversation that one of this node's isolated pods has by the network stack. Its
/// key is of the direction whose sender has the lower address, like [`Flow`](crate::Flow)'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Judged<A> {
    /// The tables' generation that it was allowed by; zero is none.
    pub generation: u32,
    /// When it was denied, in seconds since the machine started.
    pub denied: u32,
    /// Whom the one who began really talks to: the backend that is given to a Service's address.
    pub peer: A,
    /// Its port.
    pub peer_port: u16,
    /// [`judged`]'s bits.
    pub bits: u16,
}

/// Bits of [`Judged::bits`].
pub mod judged {
    /// It was begun by the key's destination.
    pub const BEGAN_TURNED: u16 = 1;
    /// The first packet was the key's destination's.
    pub const SEEN_TURNED: u16 = 2;
    /// The node itself, or the pod to itself: always allowed.
    pub const EXEMPT: u16 = 4;
    /// It isn't allowed any more.
    pub const DENIED: u16 = 8;
    /// There's a peer behind the address.
    pub const PEER: u16 = 16;
    /// Whoever has the key's source address was asked, by the same generation. Each end's own link asks it:
    /// what the one allows says nothing of the other.
    pub const ASKED_SOURCE: u16 = 32;
    /// The same, of the key's destination.
    pub const ASKED_DESTINATION: u16 = 64;
    /// The same, by this generation or one before.
    pub const KNOWN_SOURCE: u16 = 128;
    /// The same, of the key's destination.
    pub const KNOWN_DESTINATION: u16 = 256;
}

/// For how many seconds what was begun and isn't allowed any more keeps its answers from being taken
/// for beginnings.
pub const COOLING: u32 = 60;

/// A packet in pieces, of which only the first has ports: that one was allowed. The value is the
/// tables' generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct PieceKey<A> {
    /// Who sends.
    pub source: A,
    /// Whom to.
    pub destination: A,
    /// The number that the pieces have in common.
    pub id: u32,
    /// IP's protocol number.
    pub protocol: u16,
    /// Where it was allowed: [`event::EGRESS`] or [`event::INGRESS`].
    pub direction: u16,
}

/// What is told of conversations, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// When, in nanoseconds since the machine started, as `CLOCK_BOOTTIME` counts.
    pub time: u64,
    /// The sets that were asked: of what the one who began sends, and of what comes to the other. Zero if
    /// it isn't a pod of this node, or if no policy isolates it.
    pub sets: [Id; 2],
    /// The rules that allowed it, alike.
    pub rules: [Id; 2],
    /// The peers' classes that the sets were asked for, alike.
    pub classes: [Id; 2],
    /// Who sends, IPv4's in the first word.
    pub source: [u32; 4],
    /// Whom to.
    pub destination: [u32; 4],
    /// The backend that takes the destination's place, if [`event::PEER`] is set.
    pub peer: [u32; 4],
    /// As they stand in packets.
    pub source_port: u16,
    /// As they stand in packets.
    pub destination_port: u16,
    /// As it stands in packets.
    pub peer_port: u16,
    /// IP's protocol number.
    pub protocol: u8,
    /// One of [`event`]'s kinds.
    pub kind: u8,
    /// The link that the packet is on.
    pub link: u32,
    /// Of a packet that was dropped, [`event::EGRESS`] or [`event::INGRESS`]: which of the sets doesn't
    /// allow it.
    pub direction: u8,
    /// [`event`]'s bits.
    pub bits: u8,
    /// TCP's flags, if it's TCP.
    pub flags: u8,
    /// Always zero.
    pub zero: u8,
}

/// Values and bits of [`Event`].
pub mod event {
    /// A conversation began.
    pub const NEW: u8 = 1;
    /// A side has ended a TCP connection.
    pub const CLOSED: u8 = 2;
    /// A packet was dropped.
    pub const DROPPED: u8 = 3;

    /// What leaves a pod.
    pub const EGRESS: u8 = 1;
    /// What comes to a pod.
    pub const INGRESS: u8 = 2;

    /// It's IPv6.
    pub const V6: u8 = 1;
    /// There's a backend behind the destination.
    pub const PEER: u8 = 2;
    /// The packet's receiver began the conversation.
    pub const ANSWER: u8 = 4;
}

/// Indexes of the map of settings, which the agent writes.
pub mod setting {
    /// Not zero: policies are in force. Before that nothing is known of any pod.
    pub const ENFORCED: u32 = 0;
    /// Not zero: conversations that begin and end are told, too, not only what is dropped.
    pub const FOLLOWED: u32 = 1;
    /// How many there are.
    pub const COUNT: u32 = 2;
}

/// How much one processor tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Pace {
    /// The tenth of a second, since the machine started, that is counted.
    pub tenth: u64,
    /// How many events it had.
    pub told: u64,
    /// How many were never told, all in all: too many at once, or nobody read them.
    pub lost: u64,
}

/// How many events one processor tells in a tenth of a second.
pub const PACE: u64 = 256;
