//! `v1`: volumes, persistent ones and claims to them.

use super::core::{
    LocalObjectReference, NodeSelector, ObjectReference, SecretReference, TypedLocalObjectReference,
    TypedObjectReference,
};
use super::meta::{LabelSelector, ObjectMeta};
use crate::table::messages;

messages! {
    AWSElasticBlockStoreVolumeSource {
        1 volumeID: string always, 2 fsType: string, 3 partition: int32, 4 readOnly: bool,
    }
    AzureDiskVolumeSource {
        1 diskName: string always, 2 diskURI: string always, 3 cachingMode: string optional,
        4 fsType: string optional, 5 readOnly: bool optional, 6 kind: string optional,
    }
    AzureFilePersistentVolumeSource {
        1 secretName: string always, 2 shareName: string always, 3 readOnly: bool,
        4 secretNamespace: string optional,
    }
    AzureFileVolumeSource { 1 secretName: string always, 2 shareName: string always, 3 readOnly: bool, }
    CSIPersistentVolumeSource {
        1 driver: string always, 2 volumeHandle: string always, 3 readOnly: bool, 4 fsType: string,
        5 volumeAttributes: {string}, 6 controllerPublishSecretRef: SecretReference optional,
        7 nodeStageSecretRef: SecretReference optional, 8 nodePublishSecretRef: SecretReference optional,
        9 controllerExpandSecretRef: SecretReference optional,
        10 nodeExpandSecretRef: SecretReference optional,
    }
    CSIVolumeSource {
        1 driver: string always, 2 readOnly: bool optional, 3 fsType: string optional,
        4 volumeAttributes: {string}, 5 nodePublishSecretRef: LocalObjectReference optional,
    }
    CephFSPersistentVolumeSource {
        1 monitors: [string], 2 path: string, 3 user: string, 4 secretFile: string,
        5 secretRef: SecretReference optional, 6 readOnly: bool,
    }
    CephFSVolumeSource {
        1 monitors: [string], 2 path: string, 3 user: string, 4 secretFile: string,
        5 secretRef: LocalObjectReference optional, 6 readOnly: bool,
    }
    CinderPersistentVolumeSource {
        1 volumeID: string always, 2 fsType: string, 3 readOnly: bool,
        4 secretRef: SecretReference optional,
    }
    CinderVolumeSource {
        1 volumeID: string always, 2 fsType: string, 3 readOnly: bool,
        4 secretRef: LocalObjectReference optional,
    }
    ClusterTrustBundleProjection {
        1 name: string optional, 2 signerName: string optional, 3 labelSelector: LabelSelector optional,
        4 path: string always, 5 optional: bool optional,
    }
    ConfigMapProjection { 1 _: LocalObjectReference, 2 items: [KeyToPath], 4 optional: bool optional, }
    ConfigMapVolumeSource {
        1 _: LocalObjectReference, 2 items: [KeyToPath], 3 defaultMode: int32 optional,
        4 optional: bool optional,
    }
    DownwardAPIProjection { 1 items: [DownwardAPIVolumeFile], }
    DownwardAPIVolumeFile {
        1 path: string always, 2 fieldRef: ObjectFieldSelector optional,
        3 resourceFieldRef: ResourceFieldSelector optional, 4 mode: int32 optional,
    }
    DownwardAPIVolumeSource { 1 items: [DownwardAPIVolumeFile], 2 defaultMode: int32 optional, }
    EmptyDirVolumeSource { 1 medium: string, 2 sizeLimit: Quantity optional, }
    EphemeralVolumeSource { 1 volumeClaimTemplate: PersistentVolumeClaimTemplate optional, }
    FCVolumeSource {
        1 targetWWNs: [string], 2 lun: int32 optional, 3 fsType: string, 4 readOnly: bool,
        5 wwids: [string],
    }
    FlexPersistentVolumeSource {
        1 driver: string always, 2 fsType: string, 3 secretRef: SecretReference optional, 4 readOnly: bool,
        5 options: {string},
    }
    FlexVolumeSource {
        1 driver: string always, 2 fsType: string, 3 secretRef: LocalObjectReference optional,
        4 readOnly: bool, 5 options: {string},
    }
    FlockerVolumeSource { 1 datasetName: string, 2 datasetUUID: string, }
    GCEPersistentDiskVolumeSource {
        1 pdName: string always, 2 fsType: string, 3 partition: int32, 4 readOnly: bool,
    }
    GitRepoVolumeSource { 1 repository: string always, 2 revision: string, 3 directory: string, }
    GlusterfsPersistentVolumeSource {
        1 endpoints: string always, 2 path: string always, 3 readOnly: bool,
        4 endpointsNamespace: string optional,
    }
    GlusterfsVolumeSource { 1 endpoints: string always, 2 path: string always, 3 readOnly: bool, }
    HostPathVolumeSource { 1 path: string always, 2 type: string optional, }
    ISCSIPersistentVolumeSource {
        1 targetPortal: string always, 2 iqn: string always, 3 lun: int32 always, 4 iscsiInterface: string,
        5 fsType: string, 6 readOnly: bool, 7 portals: [string], 8 chapAuthDiscovery: bool,
        10 secretRef: SecretReference optional, 11 chapAuthSession: bool, 12 initiatorName: string optional,
    }
    ISCSIVolumeSource {
        1 targetPortal: string always, 2 iqn: string always, 3 lun: int32 always, 4 iscsiInterface: string,
        5 fsType: string, 6 readOnly: bool, 7 portals: [string], 8 chapAuthDiscovery: bool,
        10 secretRef: LocalObjectReference optional, 11 chapAuthSession: bool,
        12 initiatorName: string optional,
    }
    ImageVolumeSource { 1 reference: string, 2 pullPolicy: string, }
    KeyToPath { 1 key: string always, 2 path: string always, 3 mode: int32 optional, }
    LocalVolumeSource { 1 path: string always, 2 fsType: string optional, }
    ModifyVolumeStatus { 1 targetVolumeAttributesClassName: string, 2 status: string always, }
    NFSVolumeSource { 1 server: string always, 2 path: string always, 3 readOnly: bool, }
    ObjectFieldSelector { 1 apiVersion: string, 2 fieldPath: string always, }
    PersistentVolume {
        1 metadata: ObjectMeta, 2 spec: PersistentVolumeSpec, 3 status: PersistentVolumeStatus,
    }
    PersistentVolumeClaim {
        1 metadata: ObjectMeta, 2 spec: PersistentVolumeClaimSpec, 3 status: PersistentVolumeClaimStatus,
    }
    PersistentVolumeClaimCondition {
        1 type: string always, 2 status: string always, 3 lastProbeTime: Time, 4 lastTransitionTime: Time,
        5 reason: string, 6 message: string,
    }
    PersistentVolumeClaimSpec {
        1 accessModes: [string], 2 resources: VolumeResourceRequirements, 3 volumeName: string,
        4 selector: LabelSelector optional, 5 storageClassName: string optional,
        6 volumeMode: string optional, 7 dataSource: TypedLocalObjectReference optional,
        8 dataSourceRef: TypedObjectReference optional, 9 volumeAttributesClassName: string optional,
    }
    PersistentVolumeClaimStatus {
        1 phase: string, 2 accessModes: [string], 3 capacity: {Quantity},
        4 conditions: [PersistentVolumeClaimCondition], 5 allocatedResources: {Quantity},
        7 allocatedResourceStatuses: {string}, 8 currentVolumeAttributesClassName: string optional,
        9 modifyVolumeStatus: ModifyVolumeStatus optional,
    }
    PersistentVolumeClaimTemplate { 1 metadata: ObjectMeta, 2 spec: PersistentVolumeClaimSpec, }
    PersistentVolumeClaimVolumeSource { 1 claimName: string always, 2 readOnly: bool, }
    PersistentVolumeSource {
        1 gcePersistentDisk: GCEPersistentDiskVolumeSource optional,
        2 awsElasticBlockStore: AWSElasticBlockStoreVolumeSource optional,
        3 hostPath: HostPathVolumeSource optional, 4 glusterfs: GlusterfsPersistentVolumeSource optional,
        5 nfs: NFSVolumeSource optional, 6 rbd: RBDPersistentVolumeSource optional,
        7 iscsi: ISCSIPersistentVolumeSource optional, 8 cinder: CinderPersistentVolumeSource optional,
        9 cephfs: CephFSPersistentVolumeSource optional, 10 fc: FCVolumeSource optional,
        11 flocker: FlockerVolumeSource optional, 12 flexVolume: FlexPersistentVolumeSource optional,
        13 azureFile: AzureFilePersistentVolumeSource optional,
        14 vsphereVolume: VsphereVirtualDiskVolumeSource optional, 15 quobyte: QuobyteVolumeSource optional,
        16 azureDisk: AzureDiskVolumeSource optional,
        17 photonPersistentDisk: PhotonPersistentDiskVolumeSource optional,
        18 portworxVolume: PortworxVolumeSource optional,
        19 scaleIO: ScaleIOPersistentVolumeSource optional, 20 local: LocalVolumeSource optional,
        21 storageos: StorageOSPersistentVolumeSource optional, 22 csi: CSIPersistentVolumeSource optional,
    }
    PersistentVolumeSpec {
        1 capacity: {Quantity}, 2 _: PersistentVolumeSource, 3 accessModes: [string],
        4 claimRef: ObjectReference optional, 5 persistentVolumeReclaimPolicy: string,
        6 storageClassName: string, 7 mountOptions: [string], 8 volumeMode: string optional,
        9 nodeAffinity: VolumeNodeAffinity optional, 10 volumeAttributesClassName: string optional,
    }
    PersistentVolumeStatus {
        1 phase: string, 2 message: string, 3 reason: string, 4 lastPhaseTransitionTime: Time optional,
    }
    PhotonPersistentDiskVolumeSource { 1 pdID: string always, 2 fsType: string, }
    PodCertificateProjection {
        1 signerName: string, 2 keyType: string, 3 maxExpirationSeconds: int32 optional,
        4 credentialBundlePath: string, 5 keyPath: string, 6 certificateChainPath: string,
        7 userAnnotations: {string},
    }
    PortworxVolumeSource { 1 volumeID: string always, 2 fsType: string, 3 readOnly: bool, }
    ProjectedVolumeSource { 1 sources: [VolumeProjection], 2 defaultMode: int32 optional, }
    QuobyteVolumeSource {
        1 registry: string always, 2 volume: string always, 3 readOnly: bool, 4 user: string,
        5 group: string, 6 tenant: string,
    }
    RBDPersistentVolumeSource {
        1 monitors: [string], 2 image: string always, 3 fsType: string, 4 pool: string, 5 user: string,
        6 keyring: string, 7 secretRef: SecretReference optional, 8 readOnly: bool,
    }
    RBDVolumeSource {
        1 monitors: [string], 2 image: string always, 3 fsType: string, 4 pool: string, 5 user: string,
        6 keyring: string, 7 secretRef: LocalObjectReference optional, 8 readOnly: bool,
    }
    ResourceFieldSelector { 1 containerName: string, 2 resource: string always, 3 divisor: Quantity, }
    ScaleIOPersistentVolumeSource {
        1 gateway: string always, 2 system: string always, 3 secretRef: SecretReference optional,
        4 sslEnabled: bool, 5 protectionDomain: string, 6 storagePool: string, 7 storageMode: string,
        8 volumeName: string, 9 fsType: string, 10 readOnly: bool,
    }
    ScaleIOVolumeSource {
        1 gateway: string always, 2 system: string always, 3 secretRef: LocalObjectReference optional,
        4 sslEnabled: bool, 5 protectionDomain: string, 6 storagePool: string, 7 storageMode: string,
        8 volumeName: string, 9 fsType: string, 10 readOnly: bool,
    }
    SecretProjection { 1 _: LocalObjectReference, 2 items: [KeyToPath], 4 optional: bool optional, }
    SecretVolumeSource {
        1 secretName: string, 2 items: [KeyToPath], 3 defaultMode: int32 optional,
        4 optional: bool optional,
    }
    ServiceAccountTokenProjection {
        1 audience: string, 2 expirationSeconds: int64 optional, 3 path: string always,
    }
    StorageOSPersistentVolumeSource {
        1 volumeName: string, 2 volumeNamespace: string, 3 fsType: string, 4 readOnly: bool,
        5 secretRef: ObjectReference optional,
    }
    StorageOSVolumeSource {
        1 volumeName: string, 2 volumeNamespace: string, 3 fsType: string, 4 readOnly: bool,
        5 secretRef: LocalObjectReference optional,
    }
    Volume { 1 name: string always, 2 _: VolumeSource, }
    VolumeNodeAffinity { 1 required: NodeSelector optional, }
    VolumeProjection {
        1 secret: SecretProjection optional, 2 downwardAPI: DownwardAPIProjection optional,
        3 configMap: ConfigMapProjection optional,
        4 serviceAccountToken: ServiceAccountTokenProjection optional,
        5 clusterTrustBundle: ClusterTrustBundleProjection optional,
        6 podCertificate: PodCertificateProjection optional,
    }
    VolumeResourceRequirements { 1 limits: {Quantity}, 2 requests: {Quantity}, }
    VolumeSource {
        1 hostPath: HostPathVolumeSource optional, 2 emptyDir: EmptyDirVolumeSource optional,
        3 gcePersistentDisk: GCEPersistentDiskVolumeSource optional,
        4 awsElasticBlockStore: AWSElasticBlockStoreVolumeSource optional,
        5 gitRepo: GitRepoVolumeSource optional, 6 secret: SecretVolumeSource optional,
        7 nfs: NFSVolumeSource optional, 8 iscsi: ISCSIVolumeSource optional,
        9 glusterfs: GlusterfsVolumeSource optional,
        10 persistentVolumeClaim: PersistentVolumeClaimVolumeSource optional,
        11 rbd: RBDVolumeSource optional, 12 flexVolume: FlexVolumeSource optional,
        13 cinder: CinderVolumeSource optional, 14 cephfs: CephFSVolumeSource optional,
        15 flocker: FlockerVolumeSource optional, 16 downwardAPI: DownwardAPIVolumeSource optional,
        17 fc: FCVolumeSource optional, 18 azureFile: AzureFileVolumeSource optional,
        19 configMap: ConfigMapVolumeSource optional,
        20 vsphereVolume: VsphereVirtualDiskVolumeSource optional, 21 quobyte: QuobyteVolumeSource optional,
        22 azureDisk: AzureDiskVolumeSource optional,
        23 photonPersistentDisk: PhotonPersistentDiskVolumeSource optional,
        24 portworxVolume: PortworxVolumeSource optional, 25 scaleIO: ScaleIOVolumeSource optional,
        26 projected: ProjectedVolumeSource optional, 27 storageos: StorageOSVolumeSource optional,
        28 csi: CSIVolumeSource optional, 29 ephemeral: EphemeralVolumeSource optional,
        30 image: ImageVolumeSource optional,
    }
    VsphereVirtualDiskVolumeSource {
        1 volumePath: string always, 2 fsType: string, 3 storagePolicyName: string,
        4 storagePolicyID: string,
    }
}
