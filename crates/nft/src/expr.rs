//! What rules are made of.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::Family;

/// One match or statement of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expr {
    /// Goes on if a field of the packet compares so with a value.
    Match {
        /// What is compared.
        field: Field,
        /// How.
        op: Op,
        /// With what.
        value: Value,
    },
    /// Goes on if a field of the packet is (or isn't) in a set of the table.
    Lookup {
        /// What is looked up.
        field: Field,
        /// `Eq`: it must be in the set; `Ne`: it must not.
        op: Op,
        /// The set's name.
        set: String,
    },
    /// Goes on if the packet belongs, or relates, to a connection that was let through before.
    Established,
    /// Goes on if the packet begins a connection.
    New,
    /// Goes on if the packet is for an address of this host's own (of its namespace).
    Local,
    /// Goes on if the packet begins a TCP connection, either way (SYN).
    TcpSyn,
    /// Lowers the segment size that a TCP connection begins with to what the way of the packet, and
    /// the way back, carry.
    ClampMss,
    /// Goes on if the packet belongs to a connection that is known and not translated, neither its
    /// source nor its destination.
    Untranslated,
    /// Sets bits of the packet's mark; the others stay.
    SetMark(u32),
    /// Goes on if the packet carries a frame of a VXLAN tunnel.
    Vxlan {
        /// The tunnel's UDP port.
        port: u16,
        /// Its network identifier.
        vni: u32,
    },
    /// Clears bits of the packet's mark; the others stay.
    ClearMark(u32),
    /// Counts packets and bytes.
    Counter,
    /// Translates by a map, if the packet is of that family and the map has its key.
    Translate {
        /// What is translated.
        nat: Nat,
        /// The family, IPv4 or IPv6.
        family: Family,
        /// What is looked up, joined.
        key: Vec<Field>,
        /// The map: its data is an address, or an address and a port.
        map: String,
        /// Whether its data has a port.
        port: bool,
    },
    /// Gives the packet the address of the link that it leaves by.
    Masquerade {
        /// Whether the source port is picked at random: two connections that start at once don't
        /// race for the same one.
        fully_random: bool,
    },
    /// Ends the packet, and tells its sender so.
    Reject(Reject),
    /// Decides.
    Verdict(Verdict),
}

impl Expr {
    /// `field == value`
    pub fn eq(field: Field, value: impl Into<Value>) -> Expr {
        Expr::Match {
            field,
            op: Op::Eq,
            value: value.into(),
        }
    }

    /// `field != value`
    pub fn ne(field: Field, value: impl Into<Value>) -> Expr {
        Expr::Match {
            field,
            op: Op::Ne,
            value: value.into(),
        }
    }

    /// `field @set`
    pub fn within(field: Field, set: &str) -> Expr {
        Expr::Lookup {
            field,
            op: Op::Eq,
            set: set.to_owned(),
        }
    }

    /// `field != @set`
    pub fn outside(field: Field, set: &str) -> Expr {
        Expr::Lookup {
            field,
            op: Op::Ne,
            set: set.to_owned(),
        }
    }
}

/// How a sender is told that its packet was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reject {
    /// Its connection is reset; only TCP's.
    TcpReset,
    /// Nobody listens on the port, says ICMP.
    PortUnreachable,
}

/// Which address of a packet is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nat {
    /// Whom it's for.
    Destination,
    /// Who sends it.
    Source,
}

/// A field of a packet, or something the kernel knows about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Name of the link it came in by.
    IifName,
    /// Name of the link it leaves by.
    OifName,
    /// IPv4 source address; other packets don't match.
    Ip4Source,
    /// IPv4 destination address.
    Ip4Destination,
    /// IPv6 source address.
    Ip6Source,
    /// IPv6 destination address.
    Ip6Destination,
    /// Transport protocol, of either family.
    Protocol,
    /// Destination port of a transport protocol that has ports where TCP has them.
    DestinationPort,
    /// These bits of the packet's mark; the others count as clear.
    Mark(u32),
}

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
}

/// A value to compare with; it must fit the field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// A link's name.
    Name(String),
    /// An address.
    Address(IpAddr),
    /// Any address of a block.
    Net(IpNet),
    /// A transport protocol, by its number.
    Protocol(u8),
    /// A mark.
    Mark(u32),
}

impl From<&str> for Value {
    fn from(name: &str) -> Value {
        Value::Name(name.to_owned())
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Value {
        Value::Address(address)
    }
}

impl From<IpNet> for Value {
    fn from(net: IpNet) -> Value {
        Value::Net(net)
    }
}

/// What becomes of the packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It passes this hook's chain.
    Accept,
    /// It's gone.
    Drop,
    /// Back to the chain that jumped here; the policy in a base chain.
    Return,
    /// On in another chain, then back.
    Jump(String),
    /// On in another chain.
    Goto(String),
}
