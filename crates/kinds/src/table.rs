//! The table itself, and the look-ups in it.

use crate::kind::Kind;
use crate::{
    configmap, deployment, endpoints, event, lease, namespace, node, pod, replicaset, secret, service,
    serviceaccount,
};

static KINDS: &[Kind] = &[
    configmap::KIND,
    endpoints::KIND,
    event::KIND,
    namespace::KIND,
    node::KIND,
    pod::KIND,
    secret::KIND,
    service::KIND,
    serviceaccount::KIND,
    deployment::KIND,
    replicaset::KIND,
    lease::KIND,
];

/// Every kind, grouped by API group; within a group in the order of discovery.
pub fn all() -> &'static [Kind] {
    KINDS
}

/// The kind behind a resource's path, as in (`apps`, `v1`, `deployments`).
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The kind behind an object's `apiVersion` and `kind`, as in (`apps`, `v1`, `Deployment`).
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|k| k.group == group && k.version == version && k.kind == kind)
}
