//! The controllers against the real API server, in this process.

mod collection;
mod namespaces;
mod nodes;
mod support;
mod workloads;
