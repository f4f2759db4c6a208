//! Services, as the programs know them.
//!
//! ```text
//! Frontend (address, port, protocol) ─► Choice (set, slots) ─slot─► backend's id ─► Backend
//! ```
//!
//! A *set* is what one choice is made among: the endpoints of one port of a Service in one family, as
//! the Service's traffic policies let this node see them. Its slots are numbered from 0; how a slot is
//! picked is the [`strategy`]'s matter, and a consistent hash's table is slots like any other's.
//!
//! Order of writes, so that nobody ever reads what isn't there: backends, slots, frontends; the other
//! way for removals. A set that shrinks has its last slot moved into the gap first, then its
//! frontends' count lowered, then the last slot removed.
//!
//! What remembers a backend remembers its id, and asks the backends each time: one that isn't there any
//! more isn't gone to. That one left a set, but is in another's, is for the agent to make forgotten.

use crate::{V4, V6};

/// What a Service is reached at. Address zero stands for each of the node's own: node ports. With
/// ICMP's protocol number and port zero it's about pings: they're answered if its choices have
/// slots, and refused otherwise. Those have no backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FrontendKey<A> {
    /// The Service's address.
    pub address: A,
    /// Its port.
    pub port: u16,
    /// IP's protocol number.
    pub protocol: u8,
    /// Always zero.
    pub zero: u8,
}

/// What a frontend leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Frontend {
    /// For pods and nodes of the cluster.
    pub inside: Choice,
    /// For everybody else.
    pub outside: Choice,
    /// How long a client stays with its backend, in seconds; zero if it needn't.
    pub affinity: u32,
    /// One of [`strategy`]'s.
    pub strategy: u8,
    /// [`frontend`]'s bits.
    pub flags: u8,
    /// Always zero.
    pub zero: u16,
}

/// A set to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Choice {
    /// The set's id.
    pub set: u32,
    /// How many slots it has. None: whoever asks is refused, or not answered.
    pub slots: u32,
}

/// Bits of [`Frontend::flags`].
pub mod frontend {
    /// Without a slot, what comes from inside is dropped, not refused: another node may have one.
    pub const INSIDE_SILENT: u8 = 1;
    /// Without a slot, what comes from outside is dropped, not refused.
    pub const OUTSIDE_SILENT: u8 = 2;
    /// Only certain sources may (`loadBalancerSourceRanges`): [`SourceKey`](super::SourceKey).
    pub const RANGES: u8 = 4;
    /// What comes from outside keeps its source, also to backends elsewhere.
    pub const KEEP_SOURCE: u8 = 8;
}

/// Values of [`Frontend::strategy`].
pub mod strategy {
    /// Any slot.
    pub const RANDOM: u8 = 0;
    /// One slot after the other.
    pub const ROUND_ROBIN: u8 = 1;
    /// Of two random slots the one whose backend has fewer connections: of this node's sockets, and of those
    /// that netfilter translates here.
    pub const LEAST_CONNECTIONS: u8 = 2;
    /// By a hash of the client: the slots are Maglev's table.
    pub const SOURCE_HASH: u8 = 3;
}

/// A slot of a set. Its value is a backend's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SlotKey {
    /// The set.
    pub set: u32,
    /// Below [`Choice::slots`].
    pub slot: u32,
}

/// One endpoint's address and port, by its id. An id isn't given again while any socket, connection
/// or map may still have the old meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Backend<A> {
    /// The endpoint's address.
    pub address: A,
    /// Its port.
    pub port: u16,
    /// [`backend`]'s bits.
    pub flags: u16,
}

/// Bits of [`Backend::flags`].
pub mod backend {
    /// It is on this node.
    pub const LOCAL: u16 = 1;
}

/// A range of sources that a frontend takes traffic from; a longest-prefix key of the set of the
/// frontend's `outside` and an address. Its value says nothing: that it's there is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SourceKey<A> {
    /// The set.
    pub set: u32,
    /// The source.
    pub address: A,
}

/// What the programs on sockets know of a network namespace, by the kernel's cookie of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Namespace {
    /// Its IPv4 address, zero if it has none.
    pub v4: V4,
    /// Its IPv6 address, zero if it has none.
    pub v6: V6,
    /// [`namespace`]'s bits.
    pub flags: u32,
}

/// Bits of [`Namespace::flags`].
pub mod namespace {
    /// Its sockets see Services' addresses, which are translated behind its link: a proxy in the pod
    /// wants to know them.
    pub const UNTRANSLATED: u32 = 1;
}

/// A socket and whom it really talks to: of datagrams, and of TCP what has no slot among [`Named`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct PeerKey<A> {
    /// The kernel's cookie of the socket.
    pub socket: [u32; 2],
    /// The backend's address.
    pub address: A,
    /// Its port.
    pub port: u16,
    /// Always zero.
    pub zero: u16,
}

/// Whom a socket believes to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Peer<A> {
    /// The Service's address.
    pub address: A,
    /// Its port.
    pub port: u16,
    /// IP's protocol number.
    pub protocol: u8,
    /// Always zero.
    pub zero: u8,
    /// The backend's id.
    pub backend: u32,
}

/// Which Service a TCP socket connected to, in the slot that the lowest bits of its cookie say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Named {
    /// The kernel's cookie of the socket; zero if the slot is nobody's.
    pub socket: u64,
    /// The Service's address, IPv4's in its first word.
    pub address: V6,
    /// What all else gives together, with the backend's address and port.
    pub sum: u32,
    /// The Service's port.
    pub port: u16,
    /// [`named`]'s bits.
    pub bits: u16,
    /// The backend's id; zero if it's none of a Service.
    pub backend: u32,
    /// Always zero.
    pub zero: u32,
}

/// Bits of [`Named::bits`].
pub mod named {
    /// The socket is counted for its backend.
    pub const COUNTED: u16 = 1;
}

/// A port of the node's loopback that leads to a pod, for sockets of the node's own. Its key is a [`FrontendKey`],
/// with IPv4's addresses in the first word, as here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Loopback {
    /// Whose loopback it is: the kernel's cookie of the node's network namespace.
    pub namespace: [u32; 2],
    /// The pod's address.
    pub address: V6,
    /// Its port.
    pub port: u16,
    /// Always zero.
    pub zero: u16,
}

/// What was ever used, so that what never was needn't be asked: indexes of the map `used`.
pub mod used {
    /// The maps of whom sockets believe to talk to.
    pub const PEERS: u32 = 0;
    /// The map of sockets that are counted for their backends.
    pub const COUNTED: u32 = 1;
    /// Namespaces that are left out: [`namespace::UNTRANSLATED`](super::namespace::UNTRANSLATED).
    pub const LEFT_OUT: u32 = 2;
    /// Ports of the node's loopback that lead to pods.
    pub const LOOPBACKS: u32 = 3;
    /// How many there are.
    pub const COUNT: u32 = 4;
}

/// A socket that isn't connected, and a Service that it sends to. The value is the id of the backend
/// that it stays with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct TalkKey<A> {
    /// The kernel's cookie of the socket.
    pub socket: [u32; 2],
    /// The Service.
    pub frontend: FrontendKey<A>,
}

/// A client that stays with its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct AffinityKey {
    /// Its address, IPv4's in its last word; of a socket in a namespace that isn't among those known,
    /// the namespace's cookie in the first two.
    pub client: [u32; 4],
    /// What the backend was chosen from.
    pub set: u32,
}

/// The backend that a client stays with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Affinity {
    /// Its id.
    pub backend: u32,
    /// When the client last came, in seconds since the machine started, as `CLOCK_BOOTTIME` counts.
    pub seen: u32,
}

/// What a program on a link wants of netfilter is in the packet's mark until it's translated.
pub mod mark {
    /// Set if the rest of [`MASK`] is a backend's id, or zero for none: refuse.
    pub const SERVICE: u32 = 0x8000_0000;
    /// The node's own address is to take the source's place.
    pub const MASQUERADE: u32 = 0x4000_0000;
    /// The backend's id: bits that none of the other marks use.
    pub const ID: u32 = 0x000f_ffff;
    /// All of them.
    pub const MASK: u32 = SERVICE | MASQUERADE | ID;
}
