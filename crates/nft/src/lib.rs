//! An nftables ruleset as types: its text form and its netlink encoding.
//!
//! ```text
//!            ┌─ Display ──► what `nft list table` would print     (snapshots, people)
//!   Table ───┤
//!  +Elements └─ diff(observed) ──► Change … ──► Batch ──► bytes   (one atomic transaction)
//!                    ▲
//!   netlink dump ──► Observed
//! ```
//!
//! A [`Table`] is the fixed part, its sets' elements come from many sources and are kept apart
//! ([`Elements`]): a change of one element never touches a rule. Rules carry a digest of themselves
//! in their user data, so a dump tells at once which chains are as they should be, without
//! understanding the kernel's form of every expression.
//!
//! Nothing here talks to the kernel: crate `kernel` sends the bytes and reads the answers.

mod batch;
mod change;
mod diff;
mod expr;
mod lower;
mod observed;
mod set;
mod table;
mod text;
mod tuple;
pub mod wire;

pub use batch::{Batch, Request, Sent};
pub use change::{Change, Place};
pub use diff::diff;
pub use expr::{Expr, Field, Nat, Op, Reject, Value, Verdict};
pub use observed::{Object, Observed, ObservedChain, ObservedRule, ObservedSet, RawElement};
pub use set::{Elements, Entry, Key, KeyType, Set};
pub use table::{Base, Chain, ChainKind, Family, Hook, Policy, Rule, Table, priority};
pub use text::with_elements;
pub use tuple::{Atom, Tuple};
