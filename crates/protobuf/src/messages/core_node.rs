//! `v1`: nodes.

use super::meta::ObjectMeta;
use crate::table::messages;

messages! {
    AttachedVolume { 1 name: string always, 2 devicePath: string always, }
    ConfigMapNodeConfigSource {
        1 namespace: string always, 2 name: string always, 3 uid: string, 4 resourceVersion: string,
        5 kubeletConfigKey: string always,
    }
    ContainerImage { 1 names: [string], 2 sizeBytes: int64, }
    DaemonEndpoint { 1 Port: int32 always, }
    Node { 1 metadata: ObjectMeta, 2 spec: NodeSpec, 3 status: NodeStatus, }
    NodeAddress { 1 type: string always, 2 address: string always, }
    NodeCondition {
        1 type: string always, 2 status: string always, 3 lastHeartbeatTime: Time,
        4 lastTransitionTime: Time, 5 reason: string, 6 message: string,
    }
    NodeConfigSource { 2 configMap: ConfigMapNodeConfigSource optional, }
    NodeConfigStatus {
        1 assigned: NodeConfigSource optional, 2 active: NodeConfigSource optional,
        3 lastKnownGood: NodeConfigSource optional, 4 error: string,
    }
    NodeDaemonEndpoints { 1 kubeletEndpoint: DaemonEndpoint, }
    NodeFeatures { 1 supplementalGroupsPolicy: bool optional, }
    NodeRuntimeHandler { 1 name: string always, 2 features: NodeRuntimeHandlerFeatures optional, }
    NodeRuntimeHandlerFeatures { 1 recursiveReadOnlyMounts: bool optional, 2 userNamespaces: bool optional, }
    NodeSpec {
        1 podCIDR: string, 2 externalID: string, 3 providerID: string, 4 unschedulable: bool,
        5 taints: [Taint], 6 configSource: NodeConfigSource optional, 7 podCIDRs: [string],
    }
    NodeStatus {
        1 capacity: {Quantity}, 2 allocatable: {Quantity}, 3 phase: string, 4 conditions: [NodeCondition],
        5 addresses: [NodeAddress], 6 daemonEndpoints: NodeDaemonEndpoints, 7 nodeInfo: NodeSystemInfo,
        8 images: [ContainerImage], 9 volumesInUse: [string], 10 volumesAttached: [AttachedVolume],
        11 config: NodeConfigStatus optional, 12 runtimeHandlers: [NodeRuntimeHandler],
        13 features: NodeFeatures optional, 14 declaredFeatures: [string],
    }
    NodeSwapStatus { 1 capacity: int64 optional, }
    NodeSystemInfo {
        1 machineID: string always, 2 systemUUID: string always, 3 bootID: string always,
        4 kernelVersion: string always, 5 osImage: string always, 6 containerRuntimeVersion: string always,
        7 kubeletVersion: string always, 8 kubeProxyVersion: string always,
        9 operatingSystem: string always, 10 architecture: string always, 11 swap: NodeSwapStatus optional,
    }
    Taint { 1 key: string always, 2 value: string, 3 effect: string always, 4 timeAdded: Time optional, }
}
