//! The messages, a file a group.
//!
//! A line reads `number name: type`, with the name that JSON has; `_` is a message whose fields JSON has in
//! place. `[T]` is a list and `{T}` a map from strings. What follows the type says what a scalar's
//! zero means: nothing, that it is dropped, as if it had never been set; `optional`, that it is kept, because
//! unset is something else; `always`, that the field is there even when nobody set it.

mod apiextensions;
mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod autoscaling_v2;
mod batch;
mod certificates;
mod coordination;
mod core;
mod core_container;
mod core_node;
mod core_pod;
mod core_service;
mod core_volume;
mod discovery;
mod events;
mod meta;
mod networking;
mod node;
mod policy;
mod rbac;
mod scheduling;
mod storage;

use crate::table::Message;

/// The kinds of every group and version; lists of them are known without being here.
pub(crate) static KINDS: &[(&str, &[&Message])] = &[
    (
        "v1",
        &[
            &core_pod::Binding,
            &core::ConfigMap,
            &core_service::Endpoints,
            &core::Event,
            &core::LimitRange,
            &core::Namespace,
            &core_node::Node,
            &core_volume::PersistentVolume,
            &core_volume::PersistentVolumeClaim,
            &core_pod::Pod,
            &core_pod::PodTemplate,
            &core::ReplicationController,
            &core::ResourceQuota,
            &core::Secret,
            &core_service::Service,
            &core::ServiceAccount,
        ],
    ),
    (
        "apiextensions.k8s.io/v1",
        &[&apiextensions::CustomResourceDefinition],
    ),
    (
        "apps/v1",
        &[
            &apps::ControllerRevision,
            &apps::DaemonSet,
            &apps::Deployment,
            &apps::ReplicaSet,
            &apps::StatefulSet,
        ],
    ),
    (
        "autoscaling/v1",
        &[&autoscaling::HorizontalPodAutoscaler, &autoscaling::Scale],
    ),
    ("autoscaling/v2", &[&autoscaling_v2::HorizontalPodAutoscaler]),
    ("batch/v1", &[&batch::CronJob, &batch::Job]),
    (
        "certificates.k8s.io/v1",
        &[&certificates::CertificateSigningRequest],
    ),
    ("coordination.k8s.io/v1", &[&coordination::Lease]),
    ("discovery.k8s.io/v1", &[&discovery::EndpointSlice]),
    ("events.k8s.io/v1", &[&events::Event]),
    (
        "networking.k8s.io/v1",
        &[
            &networking::IPAddress,
            &networking::Ingress,
            &networking::IngressClass,
            &networking::NetworkPolicy,
            &networking::ServiceCIDR,
        ],
    ),
    ("node.k8s.io/v1", &[&node::RuntimeClass]),
    ("policy/v1", &[&policy::Eviction, &policy::PodDisruptionBudget]),
    // kubectl before 1.22 drains with it; the same but for its name.
    ("policy/v1beta1", &[&policy::Eviction]),
    (
        "rbac.authorization.k8s.io/v1",
        &[
            &rbac::ClusterRole,
            &rbac::ClusterRoleBinding,
            &rbac::Role,
            &rbac::RoleBinding,
        ],
    ),
    ("scheduling.k8s.io/v1", &[&scheduling::PriorityClass]),
    (
        "storage.k8s.io/v1",
        &[
            &storage::CSIDriver,
            &storage::CSINode,
            &storage::CSIStorageCapacity,
            &storage::StorageClass,
            &storage::VolumeAttachment,
            &storage::VolumeAttributesClass,
        ],
    ),
    (
        "authentication.k8s.io/v1",
        &[
            &authentication::SelfSubjectReview,
            &authentication::TokenRequest,
            &authentication::TokenReview,
        ],
    ),
    (
        "authorization.k8s.io/v1",
        &[
            &authorization::LocalSubjectAccessReview,
            &authorization::SelfSubjectAccessReview,
            &authorization::SelfSubjectRulesReview,
            &authorization::SubjectAccessReview,
        ],
    ),
    ("meta.k8s.io/v1", &[&meta::PartialObjectMetadata]),
];

/// The kinds that every group and version has.
pub(crate) static EVERYWHERE: &[&Message] = &[&meta::DeleteOptions, &meta::Status];

pub(crate) use meta::{ListMeta, WatchEvent};
