//! The facts behind [`crate::schema`]: for every type that the served kinds reach, the fields whose lists or
//! maps merge in a way of their own, and the objects that lead to such fields. Taken from the API reference
//! (the `x-kubernetes-*` extensions of the published OpenAPI document), ordered by name.
//!
//! A line reads `field: type of the field or its elements .fact .fact;`, where the table knows more about the
//! type. A kind joins by adding its types here, a file a group.

/// The OpenAPI definition name of a type.
macro_rules! name {
    (apps, $name:ident) => {
        concat!("io.k8s.api.apps.v1.", stringify!($name))
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
    (meta, $name:ident) => {
        concat!("io.k8s.apimachinery.pkg.apis.meta.v1.", stringify!($name))
    };
    (networking, $name:ident) => {
        concat!("io.k8s.api.networking.v1.", stringify!($name))
    };
    (rbac, $name:ident) => {
        concat!("io.k8s.api.rbac.v1.", stringify!($name))
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

mod apps;
mod coordination;
mod core;
mod discovery;
mod meta;
mod networking;
mod rbac;

use crate::schema::Type;

/// The types of every group, groups ordered as well.
pub(crate) static TYPES: &[&[Type]] = &[
    apps::TYPES,
    coordination::TYPES,
    core::TYPES,
    discovery::TYPES,
    networking::TYPES,
    rbac::TYPES,
    meta::TYPES,
];
