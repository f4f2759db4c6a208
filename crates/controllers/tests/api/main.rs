//! The controllers against the real API server, in this process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod balancers;
mod collection;
mod disruptions;
mod endpoints;
mod namespaces;
mod nodes;
mod support;
mod workloads;
