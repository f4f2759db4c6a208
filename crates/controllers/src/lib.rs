//! The controllers of the embedded control plane, each a client of the public API.
//!
//! ```text
//!            ┌─ informer (one watch a kind) ─► cache ──┐ read
//! API server ┤                          └─► queue ─► reconcile ─► sync(observed) -> actions
//!            └────────────────────── requests ◄──────┴──────────────────────────────┘
//! ```
//!
//! What a controller decides is a pure function of what it observes, tested without a server;
//! the driver beside it feeds it from the shared caches and does what it says. Nothing is
//! remembered that the API doesn't hold, so the server may be killed at any time.
//!
//! [`run`] runs them all. The machinery ([`informer`], [`queue`], [`recorder`]) is public because
//! the scheduler is built on it too.

mod aggregation;
mod awake;
mod balancer;
mod batch;
mod clients;
mod config;
mod defaults;
mod deployment;
mod discovery;
mod disruption;
mod dns;
mod endpoints;
mod error;
mod expectations;
pub mod fuzz;
mod gc;
pub mod informer;
mod manager;
mod namespace;
mod node;
mod owner;
mod pods;
pub mod queue;
pub mod recorder;
mod replicaset;
mod service_cidr;

pub use balancer::{AddressRange, ParseRangeError};
pub use clients::Clients;
pub use config::Config;
pub use error::{Doing, Error};
pub use manager::run;
pub use node::eviction::tolerates;
