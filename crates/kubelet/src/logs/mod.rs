//! Containers' logs: the runtime writes them, one file a run; here they are
//! read, followed and rotated.
//!
//! ```text
//!   logs/pods/NAMESPACE_NAME_UID/CONTAINER/RESTARTS.log
//!   2026-11-21T11:00:00.123456789Z stdout F a whole line
//! ```

pub(crate) mod line;
pub(crate) mod read;
pub(crate) mod rotate;
