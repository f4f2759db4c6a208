//! The Rust types behind the served kinds and what requests carry besides them.

use k8s_openapi::api::{
    apps::v1 as apps, autoscaling::v1 as autoscaling, coordination::v1 as coordination, core::v1 as core,
    policy::v1 as policy, rbac::v1 as rbac,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::{JsonSchema, SchemaGenerator};

/// Adds a type's schema, and those it refers to, to a generator.
type Add = fn(&mut SchemaGenerator);

/// The types behind the kinds of [`kinds::all`], by group and kind.
const KINDS: &[(&str, &str, Add)] = &[
    ("", "ConfigMap", add::<core::ConfigMap>),
    ("", "Endpoints", add::<core::Endpoints>),
    ("", "Event", add::<core::Event>),
    ("", "Namespace", add::<core::Namespace>),
    ("", "Node", add::<core::Node>),
    ("", "Pod", add::<core::Pod>),
    ("", "Secret", add::<core::Secret>),
    ("", "Service", add::<core::Service>),
    ("", "ServiceAccount", add::<core::ServiceAccount>),
    ("apps", "Deployment", add::<apps::Deployment>),
    ("apps", "ReplicaSet", add::<apps::ReplicaSet>),
    ("coordination.k8s.io", "Lease", add::<coordination::Lease>),
    (
        "rbac.authorization.k8s.io",
        "ClusterRole",
        add::<rbac::ClusterRole>,
    ),
    (
        "rbac.authorization.k8s.io",
        "ClusterRoleBinding",
        add::<rbac::ClusterRoleBinding>,
    ),
    ("rbac.authorization.k8s.io", "Role", add::<rbac::Role>),
    (
        "rbac.authorization.k8s.io",
        "RoleBinding",
        add::<rbac::RoleBinding>,
    ),
];

/// Bodies of requests and answers that aren't objects of the store.
const OTHERS: &[Add] = &[
    add::<meta::DeleteOptions>,
    add::<meta::ListMeta>,
    add::<meta::Patch>,
    add::<meta::Status>,
    add::<autoscaling::Scale>,
    add::<core::Binding>,
    add::<policy::Eviction>,
];

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

/// Adds every type that the documents need.
pub(crate) fn add_all(generator: &mut SchemaGenerator) {
    for (_, _, add) in KINDS {
        add(generator);
    }
    for add in OTHERS {
        add(generator);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_kind_has_its_type_here() {
        let mut served: Vec<_> = kinds::all().iter().map(|kind| (kind.group, kind.kind)).collect();
        let mut known: Vec<_> = KINDS.iter().map(|(group, kind, _)| (*group, *kind)).collect();
        served.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, served);
    }
}
