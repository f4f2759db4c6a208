//! `v1`.

types! { core,
    Affinity {
        nodeAffinity: core::NodeAffinity;
        podAffinity: core::PodAffinity;
        podAntiAffinity: core::PodAntiAffinity;
    }
    CSIPersistentVolumeSource {
        controllerExpandSecretRef: core::SecretReference;
        controllerPublishSecretRef: core::SecretReference;
        nodeExpandSecretRef: core::SecretReference;
        nodePublishSecretRef: core::SecretReference;
        nodeStageSecretRef: core::SecretReference;
    }
    CSIVolumeSource { nodePublishSecretRef: core::LocalObjectReference; }
    Capabilities { add .list_atomic(); drop .list_atomic(); }
    CephFSPersistentVolumeSource { monitors .list_atomic(); secretRef: core::SecretReference; }
    CephFSVolumeSource { monitors .list_atomic(); secretRef: core::LocalObjectReference; }
    CinderPersistentVolumeSource { secretRef: core::SecretReference; }
    CinderVolumeSource { secretRef: core::LocalObjectReference; }
    ClusterTrustBundleProjection { labelSelector: meta::LabelSelector; }
    ConfigMap { metadata: meta::ObjectMeta; }
    ConfigMapKeySelector atomic {}
    ConfigMapProjection { items .list_atomic(); }
    ConfigMapVolumeSource { items .list_atomic(); }
    Container {
        args .list_atomic();
        command .list_atomic();
        env: core::EnvVar .merge_by("name") .list_map(&["name"]);
        envFrom .list_atomic();
        lifecycle: core::Lifecycle;
        livenessProbe: core::Probe;
        ports .merge_by("containerPort") .list_map(&["containerPort", "protocol"]) .key_default("protocol", "TCP");
        readinessProbe: core::Probe;
        resizePolicy .list_atomic();
        resources: core::ResourceRequirements;
        restartPolicyRules: core::ContainerRestartRule .list_atomic();
        securityContext: core::SecurityContext;
        startupProbe: core::Probe;
        volumeDevices .merge_by("devicePath") .list_map(&["devicePath"]);
        volumeMounts .merge_by("mountPath") .list_map(&["mountPath"]);
    }
    ContainerImage { names .list_atomic(); }
    ContainerRestartRule { exitCodes: core::ContainerRestartRuleOnExitCodes; }
    ContainerRestartRuleOnExitCodes { values .list_set(); }
    ContainerStatus {
        allocatedResourcesStatus: core::ResourceStatus .merge_by("name") .list_map(&["name"]);
        resources: core::ResourceRequirements;
        user: core::ContainerUser;
        volumeMounts .merge_by("mountPath") .list_map(&["mountPath"]);
    }
    ContainerUser { linux: core::LinuxContainerUser; }
    DownwardAPIProjection { items: core::DownwardAPIVolumeFile .list_atomic(); }
    DownwardAPIVolumeFile {
        fieldRef: core::ObjectFieldSelector;
        resourceFieldRef: core::ResourceFieldSelector;
    }
    DownwardAPIVolumeSource { items: core::DownwardAPIVolumeFile .list_atomic(); }
    EndpointAddress atomic { targetRef: core::ObjectReference; }
    EndpointPort atomic {}
    EndpointSubset {
        addresses: core::EndpointAddress .list_atomic();
        notReadyAddresses: core::EndpointAddress .list_atomic();
        ports: core::EndpointPort .list_atomic();
    }
    Endpoints { metadata: meta::ObjectMeta; subsets: core::EndpointSubset .list_atomic(); }
    EnvVar { valueFrom: core::EnvVarSource; }
    EnvVarSource {
        configMapKeyRef: core::ConfigMapKeySelector;
        fieldRef: core::ObjectFieldSelector;
        fileKeyRef: core::FileKeySelector;
        resourceFieldRef: core::ResourceFieldSelector;
        secretKeyRef: core::SecretKeySelector;
    }
    EphemeralContainer {
        args .list_atomic();
        command .list_atomic();
        env: core::EnvVar .merge_by("name") .list_map(&["name"]);
        envFrom .list_atomic();
        lifecycle: core::Lifecycle;
        livenessProbe: core::Probe;
        ports .merge_by("containerPort") .list_map(&["containerPort", "protocol"]) .key_default("protocol", "TCP");
        readinessProbe: core::Probe;
        resizePolicy .list_atomic();
        resources: core::ResourceRequirements;
        restartPolicyRules: core::ContainerRestartRule .list_atomic();
        securityContext: core::SecurityContext;
        startupProbe: core::Probe;
        volumeDevices .merge_by("devicePath") .list_map(&["devicePath"]);
        volumeMounts .merge_by("mountPath") .list_map(&["mountPath"]);
    }
    EphemeralVolumeSource { volumeClaimTemplate: core::PersistentVolumeClaimTemplate; }
    Event {
        involvedObject: core::ObjectReference;
        metadata: meta::ObjectMeta;
        related: core::ObjectReference;
    }
    ExecAction { command .list_atomic(); }
    FCVolumeSource { targetWWNs .list_atomic(); wwids .list_atomic(); }
    FileKeySelector atomic {}
    FlexPersistentVolumeSource { secretRef: core::SecretReference; }
    FlexVolumeSource { secretRef: core::LocalObjectReference; }
    HTTPGetAction { httpHeaders .list_atomic(); }
    HostAlias { hostnames .list_atomic(); }
    ISCSIPersistentVolumeSource { portals .list_atomic(); secretRef: core::SecretReference; }
    ISCSIVolumeSource { portals .list_atomic(); secretRef: core::LocalObjectReference; }
    Lifecycle { postStart: core::LifecycleHandler; preStop: core::LifecycleHandler; }
    LifecycleHandler { exec: core::ExecAction; httpGet: core::HTTPGetAction; }
    LimitRange { metadata: meta::ObjectMeta; spec: core::LimitRangeSpec; }
    LimitRangeSpec { limits .list_atomic(); }
    LinuxContainerUser { supplementalGroups .list_atomic(); }
    LoadBalancerIngress { ports .list_atomic(); }
    LoadBalancerStatus { ingress: core::LoadBalancerIngress .list_atomic(); }
    LocalObjectReference atomic {}
    Namespace { metadata: meta::ObjectMeta; spec: core::NamespaceSpec; status: core::NamespaceStatus; }
    NamespaceSpec { finalizers .list_atomic(); }
    NamespaceStatus { conditions .merge_by("type") .list_map(&["type"]); }
    Node { metadata: meta::ObjectMeta; spec: core::NodeSpec; status: core::NodeStatus; }
    NodeAffinity {
        preferredDuringSchedulingIgnoredDuringExecution: core::PreferredSchedulingTerm .list_atomic();
        requiredDuringSchedulingIgnoredDuringExecution: core::NodeSelector;
    }
    NodeAllocatableResourceClaimStatus { containers .list_set(); }
    NodeSelector atomic { nodeSelectorTerms: core::NodeSelectorTerm .list_atomic(); }
    NodeSelectorRequirement { values .list_atomic(); }
    NodeSelectorTerm atomic {
        matchExpressions: core::NodeSelectorRequirement .list_atomic();
        matchFields: core::NodeSelectorRequirement .list_atomic();
    }
    NodeSpec { podCIDRs .merge_set() .list_set(); taints .list_atomic(); }
    NodeStatus {
        addresses .merge_by("type") .list_map(&["type"]);
        conditions .merge_by("type") .list_map(&["type"]);
        declaredFeatures .list_atomic();
        images: core::ContainerImage .list_atomic();
        runtimeHandlers .list_atomic();
        volumesAttached .list_atomic();
        volumesInUse .list_atomic();
    }
    ObjectFieldSelector atomic {}
    ObjectReference atomic {}
    PersistentVolume { metadata: meta::ObjectMeta; spec: core::PersistentVolumeSpec; }
    PersistentVolumeClaim {
        metadata: meta::ObjectMeta;
        spec: core::PersistentVolumeClaimSpec;
        status: core::PersistentVolumeClaimStatus;
    }
    PersistentVolumeClaimSpec {
        accessModes .list_atomic();
        dataSource: core::TypedLocalObjectReference;
        selector: meta::LabelSelector;
    }
    PersistentVolumeClaimStatus {
        accessModes .list_atomic();
        conditions .merge_by("type") .list_map(&["type"]);
    }
    PersistentVolumeClaimTemplate { metadata: meta::ObjectMeta; spec: core::PersistentVolumeClaimSpec; }
    PersistentVolumeSpec {
        accessModes .list_atomic();
        cephfs: core::CephFSPersistentVolumeSource;
        cinder: core::CinderPersistentVolumeSource;
        claimRef: core::ObjectReference;
        csi: core::CSIPersistentVolumeSource;
        fc: core::FCVolumeSource;
        flexVolume: core::FlexPersistentVolumeSource;
        iscsi: core::ISCSIPersistentVolumeSource;
        mountOptions .list_atomic();
        nodeAffinity: core::VolumeNodeAffinity;
        rbd: core::RBDPersistentVolumeSource;
        scaleIO: core::ScaleIOPersistentVolumeSource;
        storageos: core::StorageOSPersistentVolumeSource;
    }
    Pod { metadata: meta::ObjectMeta; spec: core::PodSpec; status: core::PodStatus; }
    PodAffinity {
        preferredDuringSchedulingIgnoredDuringExecution: core::WeightedPodAffinityTerm .list_atomic();
        requiredDuringSchedulingIgnoredDuringExecution: core::PodAffinityTerm .list_atomic();
    }
    PodAffinityTerm {
        labelSelector: meta::LabelSelector;
        matchLabelKeys .list_atomic();
        mismatchLabelKeys .list_atomic();
        namespaceSelector: meta::LabelSelector;
        namespaces .list_atomic();
    }
    PodAntiAffinity {
        preferredDuringSchedulingIgnoredDuringExecution: core::WeightedPodAffinityTerm .list_atomic();
        requiredDuringSchedulingIgnoredDuringExecution: core::PodAffinityTerm .list_atomic();
    }
    PodDNSConfig { nameservers .list_atomic(); options .list_atomic(); searches .list_atomic(); }
    PodExtendedResourceClaimStatus { requestMappings .list_atomic(); }
    PodSecurityContext { supplementalGroups .list_atomic(); sysctls .list_atomic(); }
    PodSpec {
        affinity: core::Affinity;
        containers: core::Container .merge_by("name") .list_map(&["name"]);
        dnsConfig: core::PodDNSConfig;
        ephemeralContainers: core::EphemeralContainer .merge_by("name") .list_map(&["name"]);
        hostAliases: core::HostAlias .merge_by("ip") .list_map(&["ip"]);
        imagePullSecrets: core::LocalObjectReference .merge_by("name") .list_map(&["name"]) .key_default("name", "");
        initContainers: core::Container .merge_by("name") .list_map(&["name"]);
        nodeSelector .map_atomic();
        readinessGates .list_atomic();
        resourceClaims .merge_by("name") .retain_keys() .list_map(&["name"]);
        resources: core::ResourceRequirements;
        schedulingGates .merge_by("name") .list_map(&["name"]);
        securityContext: core::PodSecurityContext;
        tolerations .list_atomic();
        topologySpreadConstraints: core::TopologySpreadConstraint .merge_by("topologyKey") .list_map(&["topologyKey", "whenUnsatisfiable"]);
        volumes: core::Volume .merge_by("name") .retain_keys() .list_map(&["name"]);
    }
    PodStatus {
        conditions .merge_by("type") .list_map(&["type"]);
        containerStatuses: core::ContainerStatus .list_atomic();
        ephemeralContainerStatuses: core::ContainerStatus .list_atomic();
        extendedResourceClaimStatus: core::PodExtendedResourceClaimStatus;
        hostIPs .merge_by("ip") .list_atomic();
        initContainerStatuses: core::ContainerStatus .list_atomic();
        nodeAllocatableResourceClaimStatuses: core::NodeAllocatableResourceClaimStatus .list_atomic();
        podIPs .merge_by("ip") .list_map(&["ip"]);
        resourceClaimStatuses .merge_by("name") .retain_keys() .list_map(&["name"]);
        resources: core::ResourceRequirements;
    }
    PodTemplate { metadata: meta::ObjectMeta; template: core::PodTemplateSpec; }
    PodTemplateSpec { metadata: meta::ObjectMeta; spec: core::PodSpec; }
    PreferredSchedulingTerm { preference: core::NodeSelectorTerm; }
    Probe { exec: core::ExecAction; httpGet: core::HTTPGetAction; }
    ProjectedVolumeSource { sources: core::VolumeProjection .list_atomic(); }
    RBDPersistentVolumeSource { monitors .list_atomic(); secretRef: core::SecretReference; }
    RBDVolumeSource { monitors .list_atomic(); secretRef: core::LocalObjectReference; }
    ReplicationController {
        metadata: meta::ObjectMeta;
        spec: core::ReplicationControllerSpec;
        status: core::ReplicationControllerStatus;
    }
    ReplicationControllerSpec { selector .map_atomic(); template: core::PodTemplateSpec; }
    ReplicationControllerStatus { conditions .merge_by("type") .list_map(&["type"]); }
    ResourceFieldSelector atomic {}
    ResourceQuota { metadata: meta::ObjectMeta; spec: core::ResourceQuotaSpec; }
    ResourceQuotaSpec { scopeSelector: core::ScopeSelector; scopes .list_atomic(); }
    ResourceRequirements { claims .list_map(&["name"]); }
    ResourceStatus { resources .list_map(&["resourceID"]); }
    ScaleIOPersistentVolumeSource { secretRef: core::SecretReference; }
    ScaleIOVolumeSource { secretRef: core::LocalObjectReference; }
    ScopeSelector atomic { matchExpressions: core::ScopedResourceSelectorRequirement .list_atomic(); }
    ScopedResourceSelectorRequirement { values .list_atomic(); }
    Secret { metadata: meta::ObjectMeta; }
    SecretKeySelector atomic {}
    SecretProjection { items .list_atomic(); }
    SecretReference atomic {}
    SecretVolumeSource { items .list_atomic(); }
    SecurityContext { capabilities: core::Capabilities; }
    Service { metadata: meta::ObjectMeta; spec: core::ServiceSpec; status: core::ServiceStatus; }
    ServiceAccount {
        imagePullSecrets: core::LocalObjectReference .list_atomic();
        metadata: meta::ObjectMeta;
        secrets: core::ObjectReference .merge_by("name") .list_map(&["name"]);
    }
    ServiceSpec {
        clusterIPs .list_atomic();
        externalIPs .list_atomic();
        ipFamilies .list_atomic();
        loadBalancerSourceRanges .list_atomic();
        ports .merge_by("port") .list_map(&["port", "protocol"]) .key_default("protocol", "TCP");
        selector .map_atomic();
    }
    ServiceStatus {
        conditions .merge_by("type") .list_map(&["type"]);
        loadBalancer: core::LoadBalancerStatus;
    }
    StorageOSPersistentVolumeSource { secretRef: core::ObjectReference; }
    StorageOSVolumeSource { secretRef: core::LocalObjectReference; }
    TopologySelectorLabelRequirement { values .list_atomic(); }
    TopologySelectorTerm atomic {
        matchLabelExpressions: core::TopologySelectorLabelRequirement .list_atomic();
    }
    TopologySpreadConstraint { labelSelector: meta::LabelSelector; matchLabelKeys .list_atomic(); }
    TypedLocalObjectReference atomic {}
    Volume {
        cephfs: core::CephFSVolumeSource;
        cinder: core::CinderVolumeSource;
        configMap: core::ConfigMapVolumeSource;
        csi: core::CSIVolumeSource;
        downwardAPI: core::DownwardAPIVolumeSource;
        ephemeral: core::EphemeralVolumeSource;
        fc: core::FCVolumeSource;
        flexVolume: core::FlexVolumeSource;
        iscsi: core::ISCSIVolumeSource;
        projected: core::ProjectedVolumeSource;
        rbd: core::RBDVolumeSource;
        scaleIO: core::ScaleIOVolumeSource;
        secret: core::SecretVolumeSource;
        storageos: core::StorageOSVolumeSource;
    }
    VolumeNodeAffinity { required: core::NodeSelector; }
    VolumeProjection {
        clusterTrustBundle: core::ClusterTrustBundleProjection;
        configMap: core::ConfigMapProjection;
        downwardAPI: core::DownwardAPIProjection;
        secret: core::SecretProjection;
    }
    WeightedPodAffinityTerm { podAffinityTerm: core::PodAffinityTerm; }
}
