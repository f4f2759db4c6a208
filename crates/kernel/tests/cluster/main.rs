//! Plans in real kernels, with real packets: nodes on a bridge, pods on each.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod blocks;
mod craft;
mod fixture;
mod foreign;
mod frames;
mod hooks;
mod host_ports;
mod ipv6;
mod known;
mod limits;
mod malformed;
mod mtu;
mod parts;
mod policy;
mod restart;
mod sctp;
mod services;
mod shortcut;
mod spoofing;
mod strangers;
mod traffic;
mod tunnel;
mod upgrade;
