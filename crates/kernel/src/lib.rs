//! The one crate that touches the kernel: netlink, namespaces, mounts, cgroups, sysctls; observe,
//! diff and apply.
//!
//! ```text
//!   NodePlan ──┐
//!              ├─ difference ──► writes      (Kernel::apply)
//!   observe ───┘
//! ```
//!
//! - [`NetNs`] opens, makes and enters network namespaces; [`Netlink`] is a connection into one,
//!   with links, addresses, routes and neighbours as methods ([`link`], [`addr`], [`route`],
//!   [`neigh`]).
//! - What we own and may change: links named `rip-…`, routes and addresses of protocol [`route::PROTOCOL`],
//!   neighbours on our links, the nft table `ripstop`, connections that its maps translated, BPF
//!   programs named `rip_…` on links, and the folder of their pins. Everything else belongs to
//!   somebody else.

#![allow(
    unsafe_code,
    reason = "this crate is where system calls without a safe wrapper may be made"
)]

pub mod addr;
mod apply;
mod attach;
mod bpf;
pub mod cgroup;
pub mod conntrack;
mod context;
mod delete;
mod direct;
pub mod echo;
mod error;
pub mod facts;
pub mod fdb;
pub mod gratuitous;
pub mod held;
mod hurry;
pub mod link;
mod loopback;
pub mod machine;
mod mapping;
pub mod mountinfo;
pub mod mountns;
mod namespaces;
pub mod neigh;

pub mod netlink;
pub mod netns;
pub mod nftables;
mod observe;
pub mod path;
mod policy;
pub mod process;
pub mod qdisc;
pub mod route;
mod service;
pub mod sockdiag;
pub mod sockets;
pub mod sysctl;
mod told;
mod translate;
mod tunnel;
pub mod vxlan;

pub use apply::{Applied, Kernel};
pub use bpf::{Hooks, services};
pub use error::{Error, Result};
pub use netlink::Netlink;
pub use netns::{NetNs, NetNsGuard};
pub use policy::{PolicyCounts, PolicyEvents};
pub use told::ToldEvents;
