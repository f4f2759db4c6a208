//! An nftables ruleset as types: its text form and its netlink encoding.

pub mod wire;
