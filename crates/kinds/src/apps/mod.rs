//! `apps/v1`: workloads.

pub(crate) mod deployment;
pub(crate) mod replicaset;
mod workload;
