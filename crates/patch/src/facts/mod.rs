//! The facts behind [`crate::schema`]: for every type that the served kinds reach, the fields whose lists or
//! maps merge in a way of their own, and the objects that lead to such fields. Taken from the API reference
//! (the `x-kubernetes-*` extensions of the published OpenAPI document), ordered by name.
//!
//! A line reads `field: type of the field or its elements .fact .fact;`, where the table knows more about the
//! type. A kind joins by adding its types here, a file a group.

/// The OpenAPI definition name of a type.
macro_rules! name {
    (apiextensions, $name:ident) => {
        concat!(
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.",
            stringify!($name)
        )
    };
    (apps, $name:ident) => {
        concat!("io.k8s.api.apps.v1.", stringify!($name))
    };
    (autoscaling, $name:ident) => {
        concat!("io.k8s.api.autoscaling.v1.", stringify!($name))
    };
    (autoscaling_v2, $name:ident) => {
        concat!("io.k8s.api.autoscaling.v2.", stringify!($name))
    };
    (batch, $name:ident) => {
        concat!("io.k8s.api.batch.v1.", stringify!($name))
    };
    (coordination, $name:ident) => {
        concat!("io.k8s.api.coordination.v1.", stringify!($name))
    };
    (core, $name:ident) => {
        concat!("io.k8s.api.core.v1.", stringify!($name))
    };
    (discovery, $name:ident) => {
        concat!("io.k8s.api.discovery.v1.", stringify!($name))
    };
    (events, $name:ident) => {
        concat!("io.k8s.api.events.v1.", stringify!($name))
    };
    (meta, $name:ident) => {
        concat!("io.k8s.apimachinery.pkg.apis.meta.v1.", stringify!($name))
    };
    (networking, $name:ident) => {
        concat!("io.k8s.api.networking.v1.", stringify!($name))
    };
    (node, $name:ident) => {
        concat!("io.k8s.api.node.v1.", stringify!($name))
    };
    (policy, $name:ident) => {
        concat!("io.k8s.api.policy.v1.", stringify!($name))
    };
    (rbac, $name:ident) => {
        concat!("io.k8s.api.rbac.v1.", stringify!($name))
    };
    (scheduling, $name:ident) => {
        concat!("io.k8s.api.scheduling.v1.", stringify!($name))
    };
    (storage, $name:ident) => {
        concat!("io.k8s.api.storage.v1.", stringify!($name))
    };
}

/// A group's types.
macro_rules! types {
    ($group:ident, $($name:ident $($atomic:ident)? {
        $($field:ident $(: $package:ident :: $of:ident)? $(. $fact:ident ($($argument:tt)*))*;)*
    })*) => {
        pub(super) static TYPES: &[crate::schema::Type] = &[$(
            crate::schema::ty(name!($group, $name), &[$(
                crate::schema::field(stringify!($field))
                    $(.of(name!($package, $of)))?
                    $(.$fact($($argument)*))*,
            )*])$(.$atomic())?,
        )*];
    };
}

mod apiextensions;
mod apps;
mod autoscaling;
mod autoscaling_v2;
mod batch;
mod coordination;
mod core;
mod discovery;
mod events;
mod meta;
mod networking;
mod node;
mod policy;
mod rbac;
mod scheduling;
mod storage;

use crate::schema::Type;

/// The types of every group, groups ordered as well.
pub(crate) static TYPES: &[&[Type]] = &[
    apps::TYPES,
    autoscaling::TYPES,
    autoscaling_v2::TYPES,
    batch::TYPES,
    coordination::TYPES,
    core::TYPES,
    discovery::TYPES,
    events::TYPES,
    networking::TYPES,
    node::TYPES,
    policy::TYPES,
    rbac::TYPES,
    scheduling::TYPES,
    storage::TYPES,
    apiextensions::TYPES,
    meta::TYPES,
];
