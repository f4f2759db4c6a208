//! `storage.k8s.io/v1`.

types! { storage,
    CSIDriver { metadata: meta::ObjectMeta; spec: storage::CSIDriverSpec; }
    CSIDriverSpec { tokenRequests .list_atomic(); volumeLifecycleModes .list_set(); }
    CSINode { metadata: meta::ObjectMeta; spec: storage::CSINodeSpec; }
    CSINodeDriver { topologyKeys .list_atomic(); }
    CSINodeSpec { drivers: storage::CSINodeDriver .merge_by("name") .list_map(&["name"]); }
    StorageClass {
        allowedTopologies: core::TopologySelectorTerm .list_atomic();
        metadata: meta::ObjectMeta;
        mountOptions .list_atomic();
    }
    VolumeAttachment { metadata: meta::ObjectMeta; spec: storage::VolumeAttachmentSpec; }
    VolumeAttachmentSource { inlineVolumeSpec: core::PersistentVolumeSpec; }
    VolumeAttachmentSpec { source: storage::VolumeAttachmentSource; }
}
