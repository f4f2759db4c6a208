//! `v1`: pods, beside their containers and volumes.

use super::core::{LocalObjectReference, NodeSelector, NodeSelectorTerm, ObjectReference};
use super::core_container::{Container, EphemeralContainer, PodSecurityContext, ResourceRequirements};
use super::core_volume::Volume;
use super::meta::{LabelSelector, ObjectMeta};
use crate::table::messages;

messages! {
    Affinity {
        1 nodeAffinity: NodeAffinity optional, 2 podAffinity: PodAffinity optional,
        3 podAntiAffinity: PodAntiAffinity optional,
    }
    Binding { 1 metadata: ObjectMeta, 2 target: ObjectReference, }
    ContainerExtendedResourceRequest {
        1 containerName: string always, 2 resourceName: string always, 3 requestName: string always,
    }
    ContainerState {
        1 waiting: ContainerStateWaiting optional, 2 running: ContainerStateRunning optional,
        3 terminated: ContainerStateTerminated optional,
    }
    ContainerStateRunning { 1 startedAt: Time, }
    ContainerStateTerminated {
        1 exitCode: int32 always, 2 signal: int32, 3 reason: string, 4 message: string, 5 startedAt: Time,
        6 finishedAt: Time, 7 containerID: string,
    }
    ContainerStateWaiting { 1 reason: string, 2 message: string, }
    ContainerStatus {
        1 name: string always, 2 state: ContainerState, 3 lastState: ContainerState, 4 ready: bool always,
        5 restartCount: int32 always, 6 image: string always, 7 imageID: string always,
        8 containerID: string, 9 started: bool optional, 10 allocatedResources: {Quantity},
        11 resources: ResourceRequirements optional, 12 volumeMounts: [VolumeMountStatus],
        13 user: ContainerUser optional, 14 allocatedResourcesStatus: [ResourceStatus],
        15 stopSignal: string optional,
    }
    ContainerUser { 1 linux: LinuxContainerUser optional, }
    HostAlias { 1 ip: string always, 2 hostnames: [string], }
    HostIP { 1 ip: string always, }
    ImageVolumeStatus { 1 imageRef: string, }
    LinuxContainerUser { 1 uid: int64 always, 2 gid: int64 always, 3 supplementalGroups: [int64], }
    NodeAffinity {
        1 requiredDuringSchedulingIgnoredDuringExecution: NodeSelector optional,
        2 preferredDuringSchedulingIgnoredDuringExecution: [PreferredSchedulingTerm],
    }
    NodeAllocatableResourceClaimStatus {
        1 resourceClaimName: string always, 2 containers: [string], 3 resources: {Quantity},
    }
    Pod { 1 metadata: ObjectMeta, 2 spec: PodSpec, 3 status: PodStatus, }
    PodAffinity {
        1 requiredDuringSchedulingIgnoredDuringExecution: [PodAffinityTerm],
        2 preferredDuringSchedulingIgnoredDuringExecution: [WeightedPodAffinityTerm],
    }
    PodAffinityTerm {
        1 labelSelector: LabelSelector optional, 2 namespaces: [string], 3 topologyKey: string always,
        4 namespaceSelector: LabelSelector optional, 5 matchLabelKeys: [string],
        6 mismatchLabelKeys: [string],
    }
    PodAntiAffinity {
        1 requiredDuringSchedulingIgnoredDuringExecution: [PodAffinityTerm],
        2 preferredDuringSchedulingIgnoredDuringExecution: [WeightedPodAffinityTerm],
    }
    PodCondition {
        1 type: string always, 2 status: string always, 3 lastProbeTime: Time, 4 lastTransitionTime: Time,
        5 reason: string, 6 message: string, 7 observedGeneration: int64,
    }
    PodDNSConfig { 1 nameservers: [string], 2 searches: [string], 3 options: [PodDNSConfigOption], }
    PodDNSConfigOption { 1 name: string, 2 value: string optional, }
    PodExtendedResourceClaimStatus {
        1 requestMappings: [ContainerExtendedResourceRequest], 2 resourceClaimName: string always,
    }
    PodIP { 1 ip: string always, }
    PodOS { 1 name: string always, }
    PodReadinessGate { 1 conditionType: string always, }
    PodResourceClaim {
        1 name: string always, 3 resourceClaimName: string optional,
        4 resourceClaimTemplateName: string optional,
    }
    PodResourceClaimStatus { 1 name: string always, 2 resourceClaimName: string optional, }
    PodSchedulingGate { 1 name: string always, }
    PodSchedulingGroup { 1 podGroupName: string optional, }
    PodSpec {
        1 volumes: [Volume], 2 containers: [Container], 3 restartPolicy: string,
        4 terminationGracePeriodSeconds: int64 optional, 5 activeDeadlineSeconds: int64 optional,
        6 dnsPolicy: string, 7 nodeSelector: {string}, 8 serviceAccountName: string,
        9 serviceAccount: string, 10 nodeName: string, 11 hostNetwork: bool, 12 hostPID: bool,
        13 hostIPC: bool, 14 securityContext: PodSecurityContext optional,
        15 imagePullSecrets: [LocalObjectReference], 16 hostname: string, 17 subdomain: string,
        18 affinity: Affinity optional, 19 schedulerName: string, 20 initContainers: [Container],
        21 automountServiceAccountToken: bool optional, 22 tolerations: [Toleration],
        23 hostAliases: [HostAlias], 24 priorityClassName: string, 25 priority: int32 optional,
        26 dnsConfig: PodDNSConfig optional, 27 shareProcessNamespace: bool optional,
        28 readinessGates: [PodReadinessGate], 29 runtimeClassName: string optional,
        30 enableServiceLinks: bool optional, 31 preemptionPolicy: string optional, 32 overhead: {Quantity},
        33 topologySpreadConstraints: [TopologySpreadConstraint],
        34 ephemeralContainers: [EphemeralContainer], 35 setHostnameAsFQDN: bool optional,
        36 os: PodOS optional, 37 hostUsers: bool optional, 38 schedulingGates: [PodSchedulingGate],
        39 resourceClaims: [PodResourceClaim], 40 resources: ResourceRequirements optional,
        41 hostnameOverride: string optional, 43 schedulingGroup: PodSchedulingGroup optional,
    }
    PodStatus {
        1 phase: string, 2 conditions: [PodCondition], 3 message: string, 4 reason: string,
        5 hostIP: string, 6 podIP: string, 7 startTime: Time optional,
        8 containerStatuses: [ContainerStatus], 9 qosClass: string,
        10 initContainerStatuses: [ContainerStatus], 11 nominatedNodeName: string, 12 podIPs: [PodIP],
        13 ephemeralContainerStatuses: [ContainerStatus], 14 resize: string,
        15 resourceClaimStatuses: [PodResourceClaimStatus], 16 hostIPs: [HostIP],
        17 observedGeneration: int64,
        18 extendedResourceClaimStatus: PodExtendedResourceClaimStatus optional,
        19 allocatedResources: {Quantity}, 20 resources: ResourceRequirements optional,
        21 nodeAllocatableResourceClaimStatuses: [NodeAllocatableResourceClaimStatus],
    }
    PodTemplate { 1 metadata: ObjectMeta, 2 template: PodTemplateSpec, }
    PodTemplateSpec { 1 metadata: ObjectMeta, 2 spec: PodSpec, }
    PreferredSchedulingTerm { 1 weight: int32 always, 2 preference: NodeSelectorTerm, }
    ResourceHealth { 1 resourceID: string always, 2 health: string, 6 message: string optional, }
    ResourceStatus { 1 name: string always, 2 resources: [ResourceHealth], }
    Toleration {
        1 key: string, 2 operator: string, 3 value: string, 4 effect: string,
        5 tolerationSeconds: int64 optional,
    }
    TopologySpreadConstraint {
        1 maxSkew: int32 always, 2 topologyKey: string always, 3 whenUnsatisfiable: string always,
        4 labelSelector: LabelSelector optional, 5 minDomains: int32 optional,
        6 nodeAffinityPolicy: string optional, 7 nodeTaintsPolicy: string optional,
        8 matchLabelKeys: [string],
    }
    VolumeMountStatus {
        1 name: string always, 2 mountPath: string always, 3 readOnly: bool,
        4 recursiveReadOnly: string optional, 5 volumeStatus: VolumeStatus optional,
    }
    VolumeStatus { 1 image: ImageVolumeStatus optional, }
    WeightedPodAffinityTerm { 1 weight: int32 always, 2 podAffinityTerm: PodAffinityTerm, }
}
