//! PodDisruptionBudgets: how many of their pods may be evicted now.
//!
//! ```text
//! budget, its pods, the scale of what owns them ─► count (pure) ─► status, which evictions take from
//! ```

mod count;
mod driver;
mod scale;

pub(crate) use driver::Controller;
