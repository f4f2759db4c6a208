//! A cluster's objects, as far as packets depend on them.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;

/// A cluster's objects.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) nodes: Vec<Node>,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) services: Vec<Service>,
    pub(crate) slices: Vec<EndpointSlice>,
    pub(crate) policies: Vec<NetworkPolicy>,
    /// What isn't known and was taken for granted.
    pub(crate) assumed: Vec<String>,
}
