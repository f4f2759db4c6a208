//! `rbac.authorization.k8s.io/v1`: who may do what.

pub(crate) mod binding;
pub(crate) mod role;

/// The group's name, as objects refer to it.
const GROUP: &str = "rbac.authorization.k8s.io";
