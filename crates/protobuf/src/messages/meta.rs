//! `meta.k8s.io/v1`: metadata, selectors, options and statuses.

use crate::table::messages;

messages! {
    Condition {
        1 type: string always, 2 status: string always, 3 observedGeneration: int64,
        4 lastTransitionTime: Time, 5 reason: string always, 6 message: string always,
    }
    DeleteOptions {
        1 gracePeriodSeconds: int64 optional, 2 preconditions: Preconditions optional,
        3 orphanDependents: bool optional, 4 propagationPolicy: string optional, 5 dryRun: [string],
        6 ignoreStoreReadErrorWithClusterBreakingPotential: bool optional,
    }
    FieldSelectorRequirement { 1 key: string always, 2 operator: string always, 3 values: [string], }
    LabelSelector { 1 matchLabels: {string}, 2 matchExpressions: [LabelSelectorRequirement], }
    LabelSelectorRequirement { 1 key: string always, 2 operator: string always, 3 values: [string], }
    ListMeta {
        1 selfLink: string, 2 resourceVersion: string, 3 continue: string,
        4 remainingItemCount: int64 optional, 5 shardInfo: ShardInfo optional,
    }
    ManagedFieldsEntry {
        1 manager: string, 2 operation: string, 3 apiVersion: string, 4 time: Time optional,
        6 fieldsType: string, 7 fieldsV1: Json optional, 8 subresource: string,
    }
    ObjectMeta {
        1 name: string, 2 generateName: string, 3 namespace: string, 4 selfLink: string, 5 uid: string,
        6 resourceVersion: string, 7 generation: int64, 8 creationTimestamp: Time,
        9 deletionTimestamp: Time optional, 10 deletionGracePeriodSeconds: int64 optional,
        11 labels: {string}, 12 annotations: {string}, 13 ownerReferences: [OwnerReference],
        14 finalizers: [string], 17 managedFields: [ManagedFieldsEntry],
    }
    OwnerReference {
        1 kind: string always, 3 name: string always, 4 uid: string always, 5 apiVersion: string always,
        6 controller: bool optional, 7 blockOwnerDeletion: bool optional,
    }
    PartialObjectMetadata { 1 metadata: ObjectMeta, }
    Preconditions { 1 uid: string optional, 2 resourceVersion: string optional, }
    ShardInfo { 1 selector: string always, }
    Status {
        1 metadata: ListMeta, 2 status: string, 3 message: string, 4 reason: string,
        5 details: StatusDetails optional, 6 code: int32,
    }
    StatusCause { 1 reason: string, 2 message: string, 3 field: string, }
    StatusDetails {
        1 name: string, 2 group: string, 3 kind: string, 4 causes: [StatusCause],
        5 retryAfterSeconds: int32, 6 uid: string,
    }
    WatchEvent { 1 type: string always, 2 object: Json, }
}
