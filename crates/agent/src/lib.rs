//! The node agent: watches the API, plans, applies; serves the CNI plugin; runs the kubelet part in
//! embedded clusters.
//!
//! ```text
//!   API ──cluster::follow──► Snapshot ─┐
//!     ├────services::follow───► Catalogue ┼─► network::Network ──► kernel
//!     └────policies::follow───► Policies ─┤
//!   ripstop-cni ──network::Server──────┘        │ ready
//!                                               ├──► conflist, for the container runtime
//!                                               └──► kubelet, where the agent hosts it
//! ```
//!
//! Everything it knows comes from the API, the kernel and its journal ([`ipam`]): an agent may be
//! killed at any time, and the next one goes on without touching what is in place. While the API is
//! away pods are attached and detached with what is known; an agent that has never heard of policies
//! attaches none.
//!
//! The agent works on the network namespace that it is started in.

mod announce;
mod backoff;
mod clock;
pub mod cluster;
mod complaints;
mod config;
pub mod conflist;
mod file;
mod flows;
pub mod fuzz;
pub mod ipam;
pub mod network;
pub mod opt_out;
pub mod policies;
mod run;
pub mod services;
mod socket;
mod watching;

pub use config::{AgentConfig, CniConfig, NetworkConfig};
pub use run::{run, run_with};
