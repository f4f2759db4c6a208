//! The table itself, and the look-ups in it.

use crate::kind::Kind;
use crate::{
    apiextensions, apps, autoscaling, batch, coordination, core, discovery, events, networking, node, pod,
    policy, rbac, scheduling, storage,
};

static KINDS: &[Kind] = &[
    Kind::of(&core::configmap::KIND),
    Kind::of(&core::endpoints::KIND),
    Kind::of(&core::event::KIND),
    Kind::of(&core::limitrange::KIND),
    Kind::of(&core::namespace::KIND),
    Kind::of(&core::node::KIND),
    Kind::of(&core::persistentvolumeclaim::KIND),
    Kind::of(&core::persistentvolume::KIND),
    Kind::of(&pod::KIND),
    Kind::of(&core::podtemplate::KIND),
    Kind::of(&core::replicationcontroller::KIND),
    Kind::of(&core::resourcequota::KIND),
    Kind::of(&core::secret::KIND),
    Kind::of(&core::serviceaccount::KIND),
    Kind::of(&core::service::KIND),
    Kind::of(&apiextensions::customresourcedefinition::KIND),
    Kind::of(&apps::controllerrevision::KIND),
    Kind::of(&apps::daemonset::KIND),
    Kind::of(&apps::deployment::KIND),
    Kind::of(&apps::replicaset::KIND),
    Kind::of(&apps::statefulset::KIND),
    Kind::of(&autoscaling::v2::KIND),
    Kind::of(&autoscaling::v1::KIND),
    Kind::of(&batch::cronjob::KIND),
    Kind::of(&batch::job::KIND),
    Kind::of(&coordination::lease::KIND),
    Kind::of(&discovery::endpointslice::KIND),
    Kind::of(&events::event::KIND),
    Kind::of(&networking::ingress::KIND),
    Kind::of(&networking::ingressclass::KIND),
    Kind::of(&networking::ipaddress::KIND),
    Kind::of(&networking::networkpolicy::KIND),
    Kind::of(&networking::servicecidr::KIND),
    Kind::of(&node::runtimeclass::KIND),
    Kind::of(&policy::poddisruptionbudget::KIND),
    Kind::of(&rbac::binding::CLUSTER_KIND),
    Kind::of(&rbac::role::CLUSTER_KIND),
    Kind::of(&rbac::binding::KIND),
    Kind::of(&rbac::role::KIND),
    Kind::of(&scheduling::priorityclass::KIND),
    Kind::of(&storage::csidriver::KIND),
    Kind::of(&storage::csinode::KIND),
    Kind::of(&storage::storageclass::KIND),
    Kind::of(&storage::volumeattachment::KIND),
];

/// Every kind, grouped by API group; within a group in the order of discovery.
pub fn all() -> &'static [Kind] {
    KINDS
}

/// The kind behind a resource's path, as in (`apps`, `v1`, `deployments`).
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|k| k.version() == version && k.is(group, plural))
}

/// The kind behind an object's `apiVersion` and `kind`, as in (`apps`, `v1`, `Deployment`).
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|k| k.group() == group && k.version() == version && k.kind() == kind)
}
