//! `storage.k8s.io/v1`.

use super::core::TopologySelectorTerm;
use super::core_volume::PersistentVolumeSpec;
use super::meta::{LabelSelector, ObjectMeta};
use crate::table::messages;

messages! {
    CSIDriver { 1 metadata: ObjectMeta, 2 spec: CSIDriverSpec, }
    CSIDriverSpec {
        1 attachRequired: bool optional, 2 podInfoOnMount: bool optional, 3 volumeLifecycleModes: [string],
        4 storageCapacity: bool optional, 5 fsGroupPolicy: string optional, 6 tokenRequests: [TokenRequest],
        7 requiresRepublish: bool optional, 8 seLinuxMount: bool optional,
        9 nodeAllocatableUpdatePeriodSeconds: int64 optional,
        10 serviceAccountTokenInSecrets: bool optional, 11 preventPodSchedulingIfMissing: bool optional,
    }
    CSINode { 1 metadata: ObjectMeta, 2 spec: CSINodeSpec, }
    CSINodeDriver {
        1 name: string always, 2 nodeID: string always, 3 topologyKeys: [string],
        4 allocatable: VolumeNodeResources optional,
    }
    CSINodeSpec { 1 drivers: [CSINodeDriver], }
    CSIStorageCapacity {
        1 metadata: ObjectMeta, 2 nodeTopology: LabelSelector optional, 3 storageClassName: string always,
        4 capacity: Quantity optional, 5 maximumVolumeSize: Quantity optional,
    }
    StorageClass {
        1 metadata: ObjectMeta, 2 provisioner: string always, 3 parameters: {string},
        4 reclaimPolicy: string optional, 5 mountOptions: [string], 6 allowVolumeExpansion: bool optional,
        7 volumeBindingMode: string optional, 8 allowedTopologies: [TopologySelectorTerm],
    }
    TokenRequest { 1 audience: string always, 2 expirationSeconds: int64 optional, }
    VolumeAttachment {
        1 metadata: ObjectMeta, 2 spec: VolumeAttachmentSpec, 3 status: VolumeAttachmentStatus,
    }
    VolumeAttachmentSource {
        1 persistentVolumeName: string optional, 2 inlineVolumeSpec: PersistentVolumeSpec optional,
    }
    VolumeAttachmentSpec {
        1 attacher: string always, 2 source: VolumeAttachmentSource, 3 nodeName: string always,
    }
    VolumeAttachmentStatus {
        1 attached: bool always, 2 attachmentMetadata: {string}, 3 attachError: VolumeError optional,
        4 detachError: VolumeError optional,
    }
    VolumeAttributesClass { 1 metadata: ObjectMeta, 2 driverName: string always, 3 parameters: {string}, }
    VolumeError { 1 time: Time, 2 message: string, 3 errorCode: int32 optional, }
    VolumeNodeResources { 1 count: int32 optional, }
}
