//! `apiextensions.k8s.io/v1`.

pub(crate) mod approval;
pub(crate) mod customresourcedefinition;
mod default_values;
mod openapi;
mod spec;
mod status;
mod structural;

pub use status::{set_definition_condition, settle_definition};
