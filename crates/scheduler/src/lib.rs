//! The scheduler of the embedded control plane: filter, score, bind.
//!
//! ```text
//! pods without a node ─► line ─► filter(each node) ─► score(those left) ─► assume ─► bind
//!         ▲                            │ none left                             │
//!         │                            ├──► preempt: others go, if they are less important
//!         └── cluster changes ◄── park, with the reasons as condition ◄── bind fails
//! ```
//!
//! One pod is decided on at a time, the most important first, on a view that already counts every
//! decision made before (`cluster`): nothing is given twice, although bindings are written in
//! parallel and the watch shows them later. Decisions are pure: `filter` with `affinity` (nodes),
//! `pod_affinity` and `spread`, `score`, and `preempt`; each does what the plugin of
//! kube-scheduler does, and says it in its words.

mod affinity;
mod cluster;
mod driver;
mod filter;
#[cfg(test)]
mod fixture;
pub mod fuzz;
mod hint;
mod info;
mod line;
mod outcome;
mod pod_affinity;
mod preempt;
mod requests;
mod score;
mod spread;

pub use controllers::Error;
pub use driver::run;
