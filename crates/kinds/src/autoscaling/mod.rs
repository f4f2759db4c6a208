//! `autoscaling`: objects alone. Nothing here measures pods, so nothing scales by them.

mod annotations;
mod columns;
mod metrics;
mod rules;
pub(crate) mod v1;
pub(crate) mod v2;
