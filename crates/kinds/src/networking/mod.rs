//! `networking.k8s.io/v1`.

pub(crate) mod ingress;
mod ingress_validation;
pub(crate) mod ingressclass;
pub(crate) mod ipaddress;
pub(crate) mod networkpolicy;
pub(crate) mod servicecidr;
