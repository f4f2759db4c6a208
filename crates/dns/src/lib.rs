//! The cluster's DNS on one node: Kubernetes' DNS specification, search completion on the server's
//! side, and forwarding with a cache.
//!
//! ```text
//!  API ──watch──► record ──► table ─┐ pure
//!                 pods ────► search ┤
//!  ConfigMap ───► settings ─────────┼─► resolver ◄── server ◄── questions (UDP, TCP)
//!  resolv.conf ─────────────────────┤      └─► forward ──► other servers
//!  names.json ◄──► memory ──────────┘
//! ```
//!
//! One process a node, at the DNS Service's address on the node's own loopback: a question is
//! neither translated nor sent to another node, and it's answered while the API, the agent and the
//! containers are gone. What was known last is kept on disk for the process's own restart, and its
//! sockets are kept by whoever starts it, so that questions wait meanwhile.

mod complain;
pub mod config;
mod control;
pub mod forward;
pub mod memory;
pub mod metrics;
pub mod name;
pub mod object;
pub mod record;
pub mod resolv_conf;
pub mod resolver;
mod run;
pub mod search;
mod server;
pub mod settings;
mod silence;
pub mod table;
mod watch;
pub mod wire;

pub use config::DnsConfig;
pub use run::{run, run_with};
pub use server::{Sockets, serve};
