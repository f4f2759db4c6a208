//! The table itself, and the look-ups in it.

use crate::kind::Kind;
use crate::{
    apps, batch, coordination, core, discovery, networking, node, pod, policy, rbac, scheduling, storage,
};

static KINDS: &[Kind] = &[
    core::configmap::KIND,
    core::endpoints::KIND,
    core::event::KIND,
    core::limitrange::KIND,
    core::namespace::KIND,
    core::node::KIND,
    core::persistentvolumeclaim::KIND,
    core::persistentvolume::KIND,
    pod::KIND,
    core::podtemplate::KIND,
    core::replicationcontroller::KIND,
    core::resourcequota::KIND,
    core::secret::KIND,
    core::serviceaccount::KIND,
    core::service::KIND,
    apps::controllerrevision::KIND,
    apps::daemonset::KIND,
    apps::deployment::KIND,
    apps::replicaset::KIND,
    apps::statefulset::KIND,
    batch::cronjob::KIND,
    batch::job::KIND,
    coordination::lease::KIND,
    discovery::endpointslice::KIND,
    networking::ingress::KIND,
    networking::ingressclass::KIND,
    networking::ipaddress::KIND,
    networking::networkpolicy::KIND,
    networking::servicecidr::KIND,
    node::runtimeclass::KIND,
    policy::poddisruptionbudget::KIND,
    rbac::binding::CLUSTER_KIND,
    rbac::role::CLUSTER_KIND,
    rbac::binding::KIND,
    rbac::role::KIND,
    scheduling::priorityclass::KIND,
    storage::csidriver::KIND,
    storage::csinode::KIND,
    storage::storageclass::KIND,
    storage::volumeattachment::KIND,
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
