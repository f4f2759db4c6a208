//! `v1`: the kinds that are small, and what the others share.

use super::core_pod::PodTemplateSpec;
use super::meta::ObjectMeta;
use crate::table::messages;

messages! {
    ConfigMap { 1 metadata: ObjectMeta, 2 data: {string}, 3 binaryData: {bytes}, 4 immutable: bool optional, }
    Event {
        1 metadata: ObjectMeta, 2 involvedObject: ObjectReference, 3 reason: string, 4 message: string,
        5 source: EventSource, 6 firstTimestamp: Time, 7 lastTimestamp: Time, 8 count: int32,
        9 type: string, 10 eventTime: MicroTime, 11 series: EventSeries optional, 12 action: string,
        13 related: ObjectReference optional, 14 reportingComponent: string always,
        15 reportingInstance: string always,
    }
    EventSeries { 1 count: int32, 2 lastObservedTime: MicroTime, }
    EventSource { 1 component: string, 2 host: string, }
    LimitRange { 1 metadata: ObjectMeta, 2 spec: LimitRangeSpec, }
    LimitRangeItem {
        1 type: string always, 2 max: {Quantity}, 3 min: {Quantity}, 4 default: {Quantity},
        5 defaultRequest: {Quantity}, 6 maxLimitRequestRatio: {Quantity},
    }
    LimitRangeSpec { 1 limits: [LimitRangeItem], }
    LocalObjectReference { 1 name: string, }
    Namespace { 1 metadata: ObjectMeta, 2 spec: NamespaceSpec, 3 status: NamespaceStatus, }
    NamespaceCondition {
        1 type: string always, 2 status: string always, 4 lastTransitionTime: Time, 5 reason: string,
        6 message: string,
    }
    NamespaceSpec { 1 finalizers: [string], }
    NamespaceStatus { 1 phase: string, 2 conditions: [NamespaceCondition], }
    NodeSelector { 1 nodeSelectorTerms: [NodeSelectorTerm], }
    NodeSelectorRequirement { 1 key: string always, 2 operator: string always, 3 values: [string], }
    NodeSelectorTerm {
        1 matchExpressions: [NodeSelectorRequirement], 2 matchFields: [NodeSelectorRequirement],
    }
    ObjectReference {
        1 kind: string, 2 namespace: string, 3 name: string, 4 uid: string, 5 apiVersion: string,
        6 resourceVersion: string, 7 fieldPath: string,
    }
    ReplicationController {
        1 metadata: ObjectMeta, 2 spec: ReplicationControllerSpec, 3 status: ReplicationControllerStatus,
    }
    ReplicationControllerCondition {
        1 type: string always, 2 status: string always, 3 lastTransitionTime: Time, 4 reason: string,
        5 message: string,
    }
    ReplicationControllerSpec {
        1 replicas: int32 optional, 2 selector: {string}, 3 template: PodTemplateSpec optional,
        4 minReadySeconds: int32,
    }
    ReplicationControllerStatus {
        1 replicas: int32 always, 2 fullyLabeledReplicas: int32, 3 observedGeneration: int64,
        4 readyReplicas: int32, 5 availableReplicas: int32, 6 conditions: [ReplicationControllerCondition],
    }
    ResourceQuota { 1 metadata: ObjectMeta, 2 spec: ResourceQuotaSpec, 3 status: ResourceQuotaStatus, }
    ResourceQuotaSpec { 1 hard: {Quantity}, 2 scopes: [string], 3 scopeSelector: ScopeSelector optional, }
    ResourceQuotaStatus { 1 hard: {Quantity}, 2 used: {Quantity}, }
    ScopeSelector { 1 matchExpressions: [ScopedResourceSelectorRequirement], }
    ScopedResourceSelectorRequirement {
        1 scopeName: string always, 2 operator: string always, 3 values: [string],
    }
    Secret {
        1 metadata: ObjectMeta, 2 data: {bytes}, 3 type: string, 4 stringData: {string},
        5 immutable: bool optional,
    }
    SecretReference { 1 name: string, 2 namespace: string, }
    ServiceAccount {
        1 metadata: ObjectMeta, 2 secrets: [ObjectReference], 3 imagePullSecrets: [LocalObjectReference],
        4 automountServiceAccountToken: bool optional,
    }
    TopologySelectorLabelRequirement { 1 key: string always, 2 values: [string], }
    TopologySelectorTerm { 1 matchLabelExpressions: [TopologySelectorLabelRequirement], }
    TypedLocalObjectReference { 1 apiGroup: string optional, 2 kind: string always, 3 name: string always, }
    TypedObjectReference {
        1 apiGroup: string optional, 2 kind: string always, 3 name: string always,
        4 namespace: string optional,
    }
}
