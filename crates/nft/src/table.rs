//! Tables, chains and rules.

use crate::{Expr, Set};

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
    /// Another one, by its `NFPROTO_` number; only others' tables.
    Other(u8),
}

impl Family {
    /// Its `NFPROTO_` number.
    pub const fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Ip => 2,
            Family::Ip6 => 10,
            Family::Other(number) => number,
        }
    }

    /// The family of an `NFPROTO_` number.
    pub const fn from_number(number: u8) -> Family {
        match number {
            1 => Family::Inet,
            2 => Family::Ip,
            10 => Family::Ip6,
            other => Family::Other(other),
        }
    }
}

/// A table: sets, and chains of rules. Its sets' elements are kept apart, as [`crate::Elements`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    /// Which packets it sees.
    pub family: Family,
    /// Name, unique in its family.
    pub name: String,
    /// Sets; rules refer to them by name.
    pub sets: Vec<Set>,
    /// Chains; rules may jump to any of them.
    pub chains: Vec<Chain>,
}

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain {
    /// Name, unique in its table.
    pub name: String,
    /// Where packets enter it by themselves; `None` if only by jumps.
    pub base: Option<Base>,
    /// Rules, in order.
    pub rules: Vec<Rule>,
}

/// Where packets enter a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Base {
    /// What its rules may do.
    pub kind: ChainKind,
    /// Where in a packet's way.
    pub hook: Hook,
    /// Its place among the chains of that hook; see [`priority`].
    pub priority: i32,
    /// What becomes of a packet that no rule decides.
    pub policy: Policy,
}

/// What a base chain's rules may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainKind {
    /// Accept and drop.
    Filter,
    /// Translate addresses; sees the first packet of a connection.
    Nat,
    /// Change what routing looks at.
    Route,
}

impl ChainKind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
            ChainKind::Route => "route",
        }
    }
}

/// Where in a packet's way a base chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
}

impl Hook {
    /// Its `NF_INET_` number.
    pub const fn number(self) -> u32 {
        match self {
            Hook::Prerouting => 0,
            Hook::Input => 1,
            Hook::Forward => 2,
            Hook::Output => 3,
            Hook::Postrouting => 4,
        }
    }

    /// The hook of an `NF_INET_` number.
    pub const fn from_number(number: u32) -> Option<Hook> {
        Some(match number {
            0 => Hook::Prerouting,
            1 => Hook::Input,
            2 => Hook::Forward,
            3 => Hook::Output,
            4 => Hook::Postrouting,
            _ => return None,
        })
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        }
    }
}

/// What becomes of a packet that no rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// It passes.
    Accept,
    /// It doesn't.
    Drop,
}

impl Policy {
    /// Its `NF_` number.
    pub const fn number(self) -> u32 {
        match self {
            Policy::Drop => 0,
            Policy::Accept => 1,
        }
    }

    /// The policy of an `NF_` number.
    pub const fn from_number(number: u32) -> Option<Policy> {
        match number {
            0 => Some(Policy::Drop),
            1 => Some(Policy::Accept),
            _ => None,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        }
    }
}

/// A rule: expressions that all must match, then what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Expressions, in order.
    pub exprs: Vec<Expr>,
    /// A note that `nft list` shows; at most 128 bytes are kept.
    pub comment: Option<String>,
}

/// Usual priorities of base chains.
pub mod priority {
    /// Where packets are changed, before they are accepted or dropped.
    pub const MANGLE: i32 = -150;
    /// Where packets are accepted and dropped.
    pub const FILTER: i32 = 0;
    /// Where source addresses are translated.
    pub const SRCNAT: i32 = 100;
    /// Where destination addresses are translated.
    pub const DSTNAT: i32 = -100;
}
