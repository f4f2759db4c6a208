//! The embedded cluster as processes: namespaces as nodes, containerd, server and agents, restarted
//! when they die.
//!
//! ```text
//! ripstop up ──preflight, cluster.json──► ripstop supervise ── run::run
//!                                           ├─ fabric       switch, links
//!                                           ├─ credentials  certificates, kubeconfigs
//!                                           ├─ unit         server
//!                                           └─ node         a node's namespaces; units containerd, dns, agent
//! ripstop status, node … ──protocol──► supervisor.sock
//! ripstop down ──► teardown::down          with or without a supervisor
//! ```
//!
//! Nothing depends on the supervisor's life: what it started goes on when it dies, and the next one
//! finds it by control group and command line (module `unit`). What a cluster is lies in
//! `cluster.json` ([`cluster`]); what it has on the machine can be found by its name ([`names`],
//! [`paths`]), so that [`teardown`] needs nobody to tell it.

pub mod agent_config;
pub mod cluster;
pub mod containerd;
pub mod credentials;
mod crew;
pub mod dns_config;
mod error;
pub mod fabric;
pub mod files;
mod forward;
pub mod images;
pub mod log;
pub mod names;
pub mod network;
mod node;
pub mod paths;
mod ports;
pub mod preflight;
pub mod programs;
pub mod protocol;
mod registries;
pub mod resolver;
pub mod run;
pub mod settings;
mod socket;
mod start;
mod state;
pub mod teardown;
mod unit;
mod way_out;

pub use cluster::Cluster;
pub use error::Error;
pub use names::ClusterName;
pub use paths::{NodePaths, Paths};
pub use ports::{NodePorts, NodePortsError};
