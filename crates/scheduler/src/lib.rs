//! The scheduler of the embedded control plane: filter, score, bind.
//!
//! ```text
//! pods without a node ─► queue ─► filter(each node) ─► score(those left) ─► assume ─► bind
//!         ▲                             │ none left                            │
//!         └── cluster changes ◄── park, with the reasons as condition ◄── bind fails
//! ```
//!
//! One pod is decided on at a time, on a view that already counts every decision made before
//! (`cluster`): nothing is given twice, although bindings are written in parallel and the watch
//! shows them later. `filter` and `score` are pure.

mod affinity;
mod cluster;
mod driver;
mod filter;
mod quantity;
mod requests;
mod score;

pub use controllers::Error;
pub use driver::run;
