//! What rules are made of: each check once, with Kubernetes' messages.

pub(crate) mod addresses;
pub(crate) mod errors;
pub(crate) mod meta;
pub(crate) mod names;
pub(crate) mod numbers;
pub(crate) mod reference;
pub(crate) mod selector;
