//! Whole clusters, driven as a user drives them: the `ripstop` binary and plain `kubectl`.
//!
//! Each test starts a cluster of its own name ([`Cluster::up`]) and takes it out again when it ends, also
//! when it fails. The binary is named by `RIPSTOP_BIN` (as `make test` sets it) or a release build, found
//! under `target/release`; a test that can't find it fails and says how to build it.

mod cluster;
mod command;
mod load;
pub mod resolver;
mod traces;

pub use cluster::{Cluster, Options, Pod, toolbox_archive};
pub use command::{Outcome, eventually, run};
pub use load::{Outside, PATIENCE, PodLoad, Tally, ask};
pub use traces::Traces;
