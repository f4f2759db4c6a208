//! `batch/v1`: work that ends.

pub(crate) mod cronjob;
pub(crate) mod job;
mod job_validation;
mod schedule;
