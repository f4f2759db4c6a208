//! `autoscaling`: objects alone. Nothing here measures pods, so nothing scales by them.

mod annotations;
mod columns;
mod metrics;
mod rules;
mod scale;
pub(crate) mod v1;
pub(crate) mod v2;

pub use scale::{SCALE_COLUMNS, scale_row};
