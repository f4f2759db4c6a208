//! The core group (`v1`), but for pods.

mod config_validation;
pub(crate) mod configmap;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod namespace;
pub(crate) mod node;
mod node_validation;
pub(crate) mod secret;
pub(crate) mod service;
mod service_addresses;
mod service_change;
mod service_validation;
pub(crate) mod serviceaccount;
