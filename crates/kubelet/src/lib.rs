//! The kubelet part of a node: it takes the pods that the API assigns to the
//! node and keeps their containers, through the container runtime, as their
//! specs say; it tells the API what came of them, and answers for logs and
//! streams.
//!
//! ```text
//!            watch (own pods)          messages            jobs
//!   API ───────────────────► pods ───────────────► worker ──────► CRI, volumes
//!    ▲                        ▲                       │ one a pod
//!    │                        │ what changed          │
//!    │                      relist ◄── CRI            │
//!    ├──── Node, Lease ◄── node, lease                │
//!    └──── status, events ◄───────────────────────────┘
//! ```
//!
//! What decides is pure and is tested without a runtime: `decide` (what a pod
//! needs next), `status` (what the API shows), `sandbox` and
//! `container_config` (what the runtime is told). The truth about what runs
//! is in the runtime, the truth about what should is in the API; a kubelet that
//! is killed and started again disturbs nothing.
//!
//! The API is all it knows of the control plane, so it works with any.

mod admit;
mod backoff;
mod bandwidth;
mod conditions;
mod config;
mod container_config;
mod context;
mod credentials;
mod decide;
mod dns;
mod downward;
mod env;
mod error;
mod events;
mod expand;
pub mod fuzz;
mod garbage;
mod handler;
mod hosts;
mod http_get;
mod image_gc;
mod images;
mod last_words;
mod lease;
mod logs;
mod machine;
mod metrics;
mod network;
mod node;
mod node_status;
mod objects;
mod pod;
mod pods;
mod probe;
mod pulled;
mod references;
mod relist;
mod resources;
mod retry;
mod run;
mod runtime;
mod sandbox;
mod security;
mod server;
mod services;
mod start;
mod stats;
mod status;
mod status_patch;
mod stop;
mod storage;
mod tasks;
mod volumes;
mod worker;

pub use config::{Capacity, Config, ImageGc};
pub use error::Error;
pub use network::{NetworkGate, NetworkStatus};
pub use run::run;
