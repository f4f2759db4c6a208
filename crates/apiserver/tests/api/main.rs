//! The server as its clients see it: through kube-rs in process, over TLS, and with kubectl.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod accounts;
mod applies;
mod definitions;
mod deletion;
mod disks;
mod ephemeral;
mod informers;
mod kept;
mod kubectl;
mod kubelet;
mod limits;
mod lists;
mod metrics;
mod objects;
mod operator;
mod owners;
mod patches;
mod protobufs;
mod proxies;
mod python;
mod roles;
mod service_model;
mod services;
mod support;
mod tokens;
mod watches;
