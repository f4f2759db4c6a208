//! What the programs in the kernel (`bpf/`) and the agent both know: the maps' keys and values, and
//! constants. Whoever changes a layout here changes the object's version with it, as the programs
//! are built from this too.
//!
//! Addresses and ports are as they stand in packets: bytes in network order, read as the machine
//! reads them.

#![no_std]

pub mod policy;
pub mod service;

/// The Ethernet address of the node's end of every pod's link: each is a network of its own, so one
/// address does for all.
pub const NODE_MAC: [u8; 6] = [0x02, b'r', b'i', b'p', b's', b't'];

/// An Ethernet address in words, as it stands in packets.
pub const fn mac([a, b, c, d, e, f]: [u8; 6]) -> [u16; 3] {
    [
        u16::from_ne_bytes([a, b]),
        u16::from_ne_bytes([c, d]),
        u16::from_ne_bytes([e, f]),
    ]
}

/// Set in a packet's mark after routing, by a rule of our nft table, if its connection is known and
/// isn't translated. Without that rule nothing new takes the shortcut: the absence of the mark proves
/// nothing, its presence does.
pub const MARK_UNTRANSLATED: u32 = 0x0010_0000;
/// Set in the mark of what takes the shortcut to another node, until it has left.
pub const MARK_SHORTCUT: u32 = 0x0020_0000;

/// Names of the programs, as `bpftool` shows them. What a link carries under such a name is ours.
pub mod program {
    /// What all names begin with.
    pub const PREFIX: &str = "rip_";
    /// What comes from a pod.
    pub const FROM_POD: &str = "rip_from_pod";
    /// What goes to a pod by the node's network stack.
    pub const TO_POD: &str = "rip_to_pod";
    /// What comes from other nodes.
    pub const FROM_WIRE: &str = "rip_from_wire";
    /// What goes to other nodes.
    pub const TO_WIRE: &str = "rip_to_wire";
    /// A socket connects.
    pub const CONNECT4: &str = "rip_connect4";
    /// The same, IPv6.
    pub const CONNECT6: &str = "rip_connect6";
    /// A socket sends a datagram to an address.
    pub const SENDMSG4: &str = "rip_sendmsg4";
    /// The same, IPv6.
    pub const SENDMSG6: &str = "rip_sendmsg6";
    /// A socket receives a datagram.
    pub const RECVMSG4: &str = "rip_recvmsg4";
    /// The same, IPv6.
    pub const RECVMSG6: &str = "rip_recvmsg6";
    /// A socket is asked whom it is connected to.
    pub const GETPEER4: &str = "rip_getpeer4";
    /// The same, IPv6.
    pub const GETPEER6: &str = "rip_getpeer6";
    /// A socket is closed.
    pub const RELEASE: &str = "rip_release";
}

/// Sizes of the maps.
pub mod size {
    /// Addresses of this node's pods and of all nodes, one family: kubelets take 110 pods, few take
    /// 1,000, and Kubernetes' limit is 5,000 nodes.
    pub const ENDPOINTS: u32 = 16_384;
    /// Blocks of other nodes' pods, one family: Kubernetes' limit is 5,000 nodes, and a node may have
    /// more than one block.
    pub const FORWARDS: u32 = 16_384;
    /// Sets of places for conversations, one family, a power of two.
    pub const SETS: u32 = 16_384;
    /// Conversations, one family: four to a set. What is forgotten takes the network stack until it is learned
    /// again. The kernel sets the memory aside at once: 4 MiB for IPv4, 6.5 for IPv6.
    pub const FLOWS: u32 = 4 * SETS;
    /// Places of conversations that began and weren't answered yet, one family, a power of two: kept apart,
    /// so that a flood of beginnings makes nothing else be forgotten.
    pub const OPENINGS: u32 = 16_384;
    /// Addresses and ports of Services, one family.
    pub const FRONTENDS: u32 = 65_536;
    /// Endpoints of Services, one family.
    pub const BACKENDS: u32 = 262_144;
    /// Slots of all sets of both families, consistent hashes' tables among them.
    pub const SLOTS: u32 = 524_288;
    /// Sets that are chosen from in turn.
    pub const TURNS: u32 = 65_536;
    /// Ranges of sources, one family.
    pub const RANGES: u32 = 65_536;
    /// Network namespaces of a node.
    pub const NAMESPACES: u32 = 4096;
    /// Ports of a node's loopback that lead to pods, of both families.
    pub const LOOPBACKS: u32 = 4096;
    /// Endpoints whose connections are counted, of sockets and of those that netfilter translates.
    pub const LOADS: u32 = 65_536;
    /// Sockets that are counted for their backends.
    pub const COUNTED: u32 = 65_536;
    /// TCP sockets that are connected to Services, of both families, a power of two. The kernel sets the
    /// memory aside at once, as it does for all that follow.
    pub const NAMED: u32 = 16_384;
    /// Datagrams' sockets that talk to Services, and those of TCP's that are too many, one family.
    pub const PEERS: u32 = 16_384;
    /// Services that sockets send datagrams to without being connected, one family.
    pub const TALKS: u32 = 16_384;
    /// Datagrams' conversations with Services that come by links, one family.
    pub const PICKS: u32 = 16_384;
    /// Clients that stay with their backends.
    pub const AFFINITY: u32 = 65_536;
    /// Addresses that policies know, one family: Kubernetes' limit is 150,000 pods.
    pub const CLASSES: u32 = 262_144;
    /// Blocks of addresses that policies name, one family.
    pub const BLOCKS: u32 = 65_536;
    /// What policies allow pods of this node, of ports alone and of ranges.
    pub const RULES: u32 = 524_288;
    /// Conversations of isolated pods by the network stack, one family; as many are kept apart that
    /// nobody answered yet. The kernel sets the memory aside at once, as it does for all that follow.
    pub const JUDGED: u32 = 16_384;
    /// Packets in pieces, one family.
    pub const PIECES: u32 = 4096;
    /// Rules and sets that are counted.
    pub const TALLIES: u32 = 16_384;
    /// Bytes of events that nobody has read yet.
    pub const EVENTS: u32 = 262_144;
}

/// An IPv4 address.
pub type V4 = u32;
/// An IPv6 address.
pub type V6 = [u32; 4];

/// A pod of this node, by each of its addresses; or a node, by each of its.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Endpoint {
    /// Index of the node's end of its link.
    pub link: u32,
    /// Largest packet it takes.
    pub mtu: u32,
    /// The Ethernet address of its end: [`mac`].
    pub mac: [u16; 3],
    /// [`endpoint`]'s bits.
    pub flags: u16,
}

/// Bits of [`Endpoint::flags`].
pub mod endpoint {
    /// What it receives is shaped by the queue of the node's end of its link, which the shortcut would
    /// miss.
    pub const SHAPED: u16 = 1;
    /// It's no pod but this node itself.
    pub const OWN: u16 = 2;
    /// It's no pod but another node.
    pub const NODE: u16 = 4;
}

/// Where other nodes' pods are, by block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Forward<A> {
    /// Index of the link that leads there.
    pub link: u32,
    /// Largest packet that passes.
    pub mtu: u32,
    /// The next hop on that link.
    pub gateway: A,
}

/// One direction of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FlowKey<A> {
    /// Who sends.
    pub source: A,
    /// Whom to.
    pub destination: A,
    /// TCP's or UDP's, or an echo's identifier.
    pub source_port: u16,
    /// TCP's or UDP's, or an echo's identifier.
    pub destination_port: u16,
    /// IP's protocol number.
    pub protocol: u8,
    /// Always zero.
    pub zero: [u8; 3],
}

/// A conversation. Its key is of the direction whose sender has the lower address, as numbers in
/// memory: both directions find it.
///
/// What is known of its ends is a copy, good for as long as nothing has changed in the tables it's
/// from; then it's made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Flow<A> {
    /// Whose it is.
    pub key: FlowKey<A>,
    /// Whoever has the key's source address, and the other.
    pub ends: [End; 2],
    /// The next hop to the end on another node, if one is.
    pub gateway: A,
    /// The tables' generation that ends and next hop are of.
    pub generation: u32,
    /// What becomes of the key's direction, and of the other: [`flow`]'s.
    pub ways: [u16; 2],
    /// What all the rest comes to: it's written without a lock.
    pub sum: u32,
}

/// One end of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct End {
    /// The link that leads to it.
    pub link: u32,
    /// Largest packet that passes.
    pub mtu: u32,
    /// The Ethernet address of a pod of this node's end: [`mac`].
    pub mac: [u16; 3],
    /// [`end`]'s.
    pub place: u16,
}

/// Values of [`End::place`].
pub mod end {
    /// Nothing is known.
    pub const UNKNOWN: u16 = 0;
    /// On this node.
    pub const HERE: u16 = 1;
    /// On this node, and what it receives is shaped: no shortcut leads there.
    pub const SHAPED: u16 = 2;
    /// On another node.
    pub const ELSEWHERE: u16 = 3;
}

/// Values of [`Flow::ways`].
pub mod flow {
    /// A bit beside the others: the conversation was begun in this direction.
    pub const BEGAN: u16 = 0x100;

    /// By the network stack: some node translates it.
    pub const STACK: u16 = 1;
    /// By the shortcut; a pod of this node sends it.
    pub const FROM_POD: u16 = 2;
    /// By the shortcut; a pod of another node sends it.
    pub const FROM_WIRE: u16 = 3;
    /// Dropped: whoever sends it was asked and has left, and another was asked in its place.
    pub const LATE: u16 = 4;
}

/// What is counted: indexes of the map of counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// From a pod straight to a pod of this node.
    PeerFromPod,
    /// From a pod straight to the link that leads to another node.
    Forwarded,
    /// From another node straight to a pod.
    PeerFromWire,
    /// From a pod to the network stack.
    StackFromPod,
    /// For a pod, from another node, to the network stack.
    StackFromWire,
    /// Dropped: a source address, or an Ethernet address, that isn't the pod's.
    Spoofed,
    /// Dropped: ARP or neighbour discovery in another one's name, or a router's part of it.
    SpoofedNeighbour,
    /// Dropped: neither IP nor ARP, a VLAN's, or cut short.
    Malformed,
    /// Dropped: it came from outside under the address of a pod of this node.
    SpoofedFromWire,
    /// Began, or may have begun, a conversation with a Service, and got a backend; or was an echo
    /// request that was answered.
    Service,
    /// For a Service without endpoints: refused.
    ServiceRefused,
    /// Dropped: for a Service, by a source that may not, or without an endpoint on this node.
    ServiceDropped,
    /// Dropped: no policy allows the pod to send it.
    PolicyEgress,
    /// Dropped: no policy allows it to come to the pod.
    PolicyIngress,
}

impl Counter {
    /// All of them, in the order of their indexes.
    pub const ALL: [Counter; 14] = [
        Counter::PeerFromPod,
        Counter::Forwarded,
        Counter::PeerFromWire,
        Counter::StackFromPod,
        Counter::StackFromWire,
        Counter::Spoofed,
        Counter::SpoofedNeighbour,
        Counter::Malformed,
        Counter::SpoofedFromWire,
        Counter::Service,
        Counter::ServiceRefused,
        Counter::ServiceDropped,
        Counter::PolicyEgress,
        Counter::PolicyIngress,
    ];

    /// Its name, as metrics show it.
    pub const fn name(self) -> &'static str {
        match self {
            Counter::PeerFromPod => "peer_from_pod",
            Counter::Forwarded => "forwarded",
            Counter::PeerFromWire => "peer_from_wire",
            Counter::StackFromPod => "stack_from_pod",
            Counter::StackFromWire => "stack_from_wire",
            Counter::Spoofed => "spoofed",
            Counter::SpoofedNeighbour => "spoofed_neighbour",
            Counter::Malformed => "malformed",
            Counter::SpoofedFromWire => "spoofed_from_wire",
            Counter::Service => "service",
            Counter::ServiceRefused => "service_refused",
            Counter::ServiceDropped => "service_dropped",
            Counter::PolicyEgress => "policy_egress",
            Counter::PolicyIngress => "policy_ingress",
        }
    }
}
