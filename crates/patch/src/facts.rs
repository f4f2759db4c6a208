//! The facts behind [`crate::schema`]: for every type that the served kinds reach, the fields whose lists or
//! maps merge in a way of their own, and the objects that lead to such fields. Taken from the API reference
//! (the `x-kubernetes-*` extensions of the published OpenAPI document), ordered by name.
//!
//! A kind joins by adding its types here.

use crate::schema::{Type, atomic, field, ty};

macro_rules! core {
    ($name:literal) => {
        concat!("io.k8s.api.core.v1.", $name)
    };
}

macro_rules! apps {
    ($name:literal) => {
        concat!("io.k8s.api.apps.v1.", $name)
    };
}

macro_rules! rbac {
    ($name:literal) => {
        concat!("io.k8s.api.rbac.v1.", $name)
    };
}

macro_rules! meta {
    ($name:literal) => {
        concat!("io.k8s.apimachinery.pkg.apis.meta.v1.", $name)
    };
}

pub(crate) static TYPES: &[Type] = &[
    ty(
        apps!("Deployment"),
        &[
            field("metadata").of(meta!("ObjectMeta")),
            field("spec").of(apps!("DeploymentSpec")),
            field("status").of(apps!("DeploymentStatus")),
        ],
    ),
    ty(
        apps!("DeploymentSpec"),
        &[
            field("selector").of(meta!("LabelSelector")),
            field("strategy").retain_keys(),
            field("template").of(core!("PodTemplateSpec")),
        ],
    ),
    ty(
        apps!("DeploymentStatus"),
        &[field("conditions").merge_by("type").list_map(&["type"])],
    ),
    ty(
        apps!("ReplicaSet"),
        &[
            field("metadata").of(meta!("ObjectMeta")),
            field("spec").of(apps!("ReplicaSetSpec")),
            field("status").of(apps!("ReplicaSetStatus")),
        ],
    ),
    ty(
        apps!("ReplicaSetSpec"),
        &[
            field("selector").of(meta!("LabelSelector")),
            field("template").of(core!("PodTemplateSpec")),
        ],
    ),
    ty(
        apps!("ReplicaSetStatus"),
        &[field("conditions").merge_by("type").list_map(&["type"])],
    ),
    ty(
        "io.k8s.api.coordination.v1.Lease",
        &[field("metadata").of(meta!("ObjectMeta"))],
    ),
    ty(
        core!("Affinity"),
        &[field("nodeAffinity").of(core!("NodeAffinity"))],
    ),
    ty(
        core!("CSIVolumeSource"),
        &[field("nodePublishSecretRef").of(core!("LocalObjectReference"))],
    ),
    ty(
        core!("Capabilities"),
        &[field("add").list_atomic(), field("drop").list_atomic()],
    ),
    ty(
        core!("CephFSVolumeSource"),
        &[
            field("monitors").list_atomic(),
            field("secretRef").of(core!("LocalObjectReference")),
        ],
    ),
    ty(
        core!("CinderVolumeSource"),
        &[field("secretRef").of(core!("LocalObjectReference"))],
    ),
    ty(core!("ConfigMap"), &[field("metadata").of(meta!("ObjectMeta"))]),
    atomic(core!("ConfigMapKeySelector"), &[]),
    ty(core!("ConfigMapProjection"), &[field("items").list_atomic()]),
    ty(core!("ConfigMapVolumeSource"), &[field("items").list_atomic()]),
    ty(
        core!("Container"),
        &[
            field("args").list_atomic(),
            field("command").list_atomic(),
            field("env")
                .of(core!("EnvVar"))
                .merge_by("name")
                .list_map(&["name"]),
            field("envFrom").list_atomic(),
            field("ports")
                .merge_by("containerPort")
                .list_map(&["containerPort", "protocol"])
                .key_default("protocol", "TCP"),
            field("resizePolicy").list_atomic(),
            field("resources").of(core!("ResourceRequirements")),
            field("restartPolicyRules").list_atomic(),
            field("volumeDevices")
                .merge_by("devicePath")
                .list_map(&["devicePath"]),
            field("volumeMounts")
                .merge_by("mountPath")
                .list_map(&["mountPath"]),
        ],
    ),
    ty(core!("ContainerImage"), &[field("names").list_atomic()]),
    ty(
        core!("ContainerRestartRuleOnExitCodes"),
        &[field("values").list_set()],
    ),
    ty(
        core!("ContainerStatus"),
        &[
            field("allocatedResourcesStatus")
                .merge_by("name")
                .list_map(&["name"]),
            field("volumeMounts")
                .merge_by("mountPath")
                .list_map(&["mountPath"]),
        ],
    ),
    ty(core!("DownwardAPIProjection"), &[field("items").list_atomic()]),
    ty(core!("DownwardAPIVolumeSource"), &[field("items").list_atomic()]),
    atomic(core!("EndpointAddress"), &[]),
    atomic(core!("EndpointPort"), &[]),
    ty(
        core!("EndpointSubset"),
        &[
            field("addresses").list_atomic(),
            field("notReadyAddresses").list_atomic(),
            field("ports").list_atomic(),
        ],
    ),
    ty(
        core!("Endpoints"),
        &[
            field("metadata").of(meta!("ObjectMeta")),
            field("subsets").list_atomic(),
        ],
    ),
    ty(core!("EnvVar"), &[field("valueFrom").of(core!("EnvVarSource"))]),
    ty(
        core!("EnvVarSource"),
        &[
            field("configMapKeyRef").of(core!("ConfigMapKeySelector")),
            field("fieldRef").of(core!("ObjectFieldSelector")),
            field("fileKeyRef").of(core!("FileKeySelector")),
            field("resourceFieldRef").of(core!("ResourceFieldSelector")),
            field("secretKeyRef").of(core!("SecretKeySelector")),
        ],
    ),
    ty(
        core!("EphemeralContainer"),
        &[
            field("args").list_atomic(),
            field("command").list_atomic(),
            field("env")
                .of(core!("EnvVar"))
                .merge_by("name")
                .list_map(&["name"]),
            field("envFrom").list_atomic(),
            field("ports")
                .merge_by("containerPort")
                .list_map(&["containerPort", "protocol"])
                .key_default("protocol", "TCP"),
            field("resizePolicy").list_atomic(),
            field("resources").of(core!("ResourceRequirements")),
            field("restartPolicyRules").list_atomic(),
            field("volumeDevices")
                .merge_by("devicePath")
                .list_map(&["devicePath"]),
            field("volumeMounts")
                .merge_by("mountPath")
                .list_map(&["mountPath"]),
        ],
    ),
    ty(
        core!("EphemeralVolumeSource"),
        &[field("volumeClaimTemplate").of(core!("PersistentVolumeClaimTemplate"))],
    ),
    ty(
        core!("Event"),
        &[
            field("involvedObject").of(core!("ObjectReference")),
            field("metadata").of(meta!("ObjectMeta")),
            field("related").of(core!("ObjectReference")),
        ],
    ),
    ty(core!("ExecAction"), &[field("command").list_atomic()]),
    ty(
        core!("FCVolumeSource"),
        &[field("targetWWNs").list_atomic(), field("wwids").list_atomic()],
    ),
    atomic(core!("FileKeySelector"), &[]),
    ty(
        core!("FlexVolumeSource"),
        &[field("secretRef").of(core!("LocalObjectReference"))],
    ),
    ty(core!("HTTPGetAction"), &[field("httpHeaders").list_atomic()]),
    ty(core!("HostAlias"), &[field("hostnames").list_atomic()]),
    ty(
        core!("ISCSIVolumeSource"),
        &[
            field("portals").list_atomic(),
            field("secretRef").of(core!("LocalObjectReference")),
        ],
    ),
    ty(
        core!("LinuxContainerUser"),
        &[field("supplementalGroups").list_atomic()],
    ),
    ty(core!("LoadBalancerIngress"), &[field("ports").list_atomic()]),
    ty(core!("LoadBalancerStatus"), &[field("ingress").list_atomic()]),
    atomic(core!("LocalObjectReference"), &[]),
    ty(
        core!("Namespace"),
        &[
            field("metadata").of(meta!("ObjectMeta")),
            field("status").of(core!("NamespaceStatus")),
        ],
    ),
    ty(core!("NamespaceSpec"), &[field("finalizers").list_atomic()]),
    ty(
        core!("NamespaceStatus"),
        &[field("conditions").merge_by("type").list_map(&["type"])],
    ),
    ty(
        core!("Node"),
        &[
            field("metadata").of(meta!("ObjectMeta")),
            field("spec").of(core!("NodeSpec")),
            field("status").of(core!("NodeStatus")),
        ],
    ),
    ty(
        core!("NodeAffinity"),
        &[
            field("preferredDuringSchedulingIgnoredDuringExecution").list_atomic(),
            field("requiredDuringSchedulingIgnoredDuringExecution").of(core!("NodeSelector")),
        ],
    ),
    ty(
        core!("NodeAllocatableResourceClaimStatus"),
        &[field("containers").list_set()],
    ),
    atomic(core!("NodeSelector"), &[field("nodeSelectorTerms").list_atomic()]),
    ty(core!("NodeSelectorRequirement"), &[field("values").list_atomic()]),
    atomic(
        core!("NodeSelectorTerm"),
        &[
            field("matchExpressions").list_atomic(),
            field("matchFields").list_atomic(),
        ],
    ),
    ty(
        core!("NodeSpec"),
        &[
            field("podCIDRs").merge_set().list_set(),
            field("taints").list_atomic(),
        ],
    ),
    ty(
        core!("NodeStatus"),
        &[
            field("addresses").merge_by("type").list_map(&["type"]),
            field("conditions").merge_by("type").list_map(&["type"]),
            field("declaredFeatures").list_atomic(),
            field("images").list_atomic(),
            field("runtimeHandlers").list_atomic(),
            field("volumesAttached").list_atomic(),
            field("volumesInUse").list_atomic(),
        ],
    ),
    atomic(core!("ObjectFieldSelector"), &[]),
    atomic(core!("ObjectReference"), &[]),
    ty(
        core!("PersistentVolumeClaimSpec"),
        &[
            field("accessModes").list_atomic(),
            field("dataSource").of(core!("TypedLocalObjectReference")),
            field("selector").of(meta!("LabelSelector")),
        ],
    ),
    ty(
        core!("PersistentVolumeClaimTemplate"),
        &[
            field("metadata").of(meta!("ObjectMeta")),
            field("spec").of(core!("PersistentVolumeClaimSpec")),
        ],
    ),
    ty(
        core!("Pod"),
        &[
            field("metadata").of(meta!("ObjectMeta")),
            field("spec").of(core!("PodSpec")),
            field("status").of(core!("PodStatus")),
        ],
    ),
    ty(
        core!("PodAffinity"),
        &[
            field("preferredDuringSchedulingIgnoredDuringExecution").list_atomic(),
            field("requiredDuringSchedulingIgnoredDuringExecution").list_atomic(),
        ],
    ),
    ty(
        core!("PodAffinityTerm"),
        &[
            field("matchLabelKeys").list_atomic(),
            field("mismatchLabelKeys").list_atomic(),
            field("namespaces").list_atomic(),
        ],
    ),
    ty(
        core!("PodAntiAffinity"),
        &[
            field("preferredDuringSchedulingIgnoredDuringExecution").list_atomic(),
            field("requiredDuringSchedulingIgnoredDuringExecution").list_atomic(),
        ],
    ),
    ty(
        core!("PodDNSConfig"),
        &[
            field("nameservers").list_atomic(),
            field("options").list_atomic(),
            field("searches").list_atomic(),
        ],
    ),
    ty(
        core!("PodExtendedResourceClaimStatus"),
        &[field("requestMappings").list_atomic()],
    ),
    ty(
        core!("PodSecurityContext"),
        &[
            field("supplementalGroups").list_atomic(),
            field("sysctls").list_atomic(),
        ],
    ),
    ty(
        core!("PodSpec"),
        &[
            field("affinity").of(core!("Affinity")),
            field("containers")
                .of(core!("Container"))
                .merge_by("name")
                .list_map(&["name"]),
            field("ephemeralContainers")
                .of(core!("EphemeralContainer"))
                .merge_by("name")
                .list_map(&["name"]),
            field("hostAliases").merge_by("ip").list_map(&["ip"]),
            field("imagePullSecrets")
                .of(core!("LocalObjectReference"))
                .merge_by("name")
                .list_map(&["name"])
                .key_default("name", ""),
            field("initContainers")
                .of(core!("Container"))
                .merge_by("name")
                .list_map(&["name"]),
            field("nodeSelector").map_atomic(),
            field("readinessGates").list_atomic(),
            field("resourceClaims")
                .merge_by("name")
                .retain_keys()
                .list_map(&["name"]),
            field("resources").of(core!("ResourceRequirements")),
            field("schedulingGates").merge_by("name").list_map(&["name"]),
            field("tolerations").list_atomic(),
            field("topologySpreadConstraints")
                .of(core!("TopologySpreadConstraint"))
                .merge_by("topologyKey")
                .list_map(&["topologyKey", "whenUnsatisfiable"]),
            field("volumes")
                .of(core!("Volume"))
                .merge_by("name")
                .retain_keys()
                .list_map(&["name"]),
        ],
    ),
    ty(
        core!("PodStatus"),
        &[
            field("conditions").merge_by("type").list_map(&["type"]),
            field("containerStatuses").list_atomic(),
            field("ephemeralContainerStatuses").list_atomic(),
            field("hostIPs").merge_by("ip").list_atomic(),
            field("initContainerStatuses").list_atomic(),
            field("nodeAllocatableResourceClaimStatuses").list_atomic(),
            field("podIPs").merge_by("ip").list_map(&["ip"]),
            field("resourceClaimStatuses")
                .merge_by("name")
                .retain_keys()
                .list_map(&["name"]),
            field("resources").of(core!("ResourceRequirements")),
        ],
    ),
    ty(
        core!("PodTemplateSpec"),
        &[
            field("metadata").of(meta!("ObjectMeta")),
            field("spec").of(core!("PodSpec")),
        ],
    ),
    ty(core!("ProjectedVolumeSource"), &[field("sources").list_atomic()]),
    ty(
        core!("RBDVolumeSource"),
        &[
            field("monitors").list_atomic(),
            field("secretRef").of(core!("LocalObjectReference")),
        ],
    ),
    atomic(core!("ResourceFieldSelector"), &[]),
    ty(
        core!("ResourceRequirements"),
        &[field("claims").list_map(&["name"])],
    ),
    ty(
        core!("ResourceStatus"),
        &[field("resources").list_map(&["resourceID"])],
    ),
    ty(
        core!("ScaleIOVolumeSource"),
        &[field("secretRef").of(core!("LocalObjectReference"))],
    ),
    ty(core!("Secret"), &[field("metadata").of(meta!("ObjectMeta"))]),
    atomic(core!("SecretKeySelector"), &[]),
    ty(core!("SecretProjection"), &[field("items").list_atomic()]),
    ty(core!("SecretVolumeSource"), &[field("items").list_atomic()]),
    ty(
        core!("Service"),
        &[
            field("metadata").of(meta!("ObjectMeta")),
            field("spec").of(core!("ServiceSpec")),
            field("status").of(core!("ServiceStatus")),
        ],
    ),
    ty(
        core!("ServiceAccount"),
        &[
            field("imagePullSecrets").list_atomic(),
            field("metadata").of(meta!("ObjectMeta")),
            field("secrets")
                .of(core!("ObjectReference"))
                .merge_by("name")
                .list_map(&["name"]),
        ],
    ),
    ty(
        core!("ServiceSpec"),
        &[
            field("clusterIPs").list_atomic(),
            field("externalIPs").list_atomic(),
            field("ipFamilies").list_atomic(),
            field("loadBalancerSourceRanges").list_atomic(),
            field("ports")
                .merge_by("port")
                .list_map(&["port", "protocol"])
                .key_default("protocol", "TCP"),
            field("selector").map_atomic(),
        ],
    ),
    ty(
        core!("ServiceStatus"),
        &[field("conditions").merge_by("type").list_map(&["type"])],
    ),
    ty(
        core!("StorageOSVolumeSource"),
        &[field("secretRef").of(core!("LocalObjectReference"))],
    ),
    ty(
        core!("TopologySpreadConstraint"),
        &[
            field("labelSelector").of(meta!("LabelSelector")),
            field("matchLabelKeys").list_atomic(),
        ],
    ),
    atomic(core!("TypedLocalObjectReference"), &[]),
    ty(
        core!("Volume"),
        &[
            field("cephfs").of(core!("CephFSVolumeSource")),
            field("cinder").of(core!("CinderVolumeSource")),
            field("csi").of(core!("CSIVolumeSource")),
            field("ephemeral").of(core!("EphemeralVolumeSource")),
            field("flexVolume").of(core!("FlexVolumeSource")),
            field("iscsi").of(core!("ISCSIVolumeSource")),
            field("rbd").of(core!("RBDVolumeSource")),
            field("scaleIO").of(core!("ScaleIOVolumeSource")),
            field("storageos").of(core!("StorageOSVolumeSource")),
        ],
    ),
    ty(
        rbac!("AggregationRule"),
        &[field("clusterRoleSelectors")
            .of(meta!("LabelSelector"))
            .list_atomic()],
    ),
    ty(
        rbac!("ClusterRole"),
        &[
            field("aggregationRule").of(rbac!("AggregationRule")),
            field("metadata").of(meta!("ObjectMeta")),
            field("rules").of(rbac!("PolicyRule")).list_atomic(),
        ],
    ),
    ty(
        rbac!("ClusterRoleBinding"),
        &[
            field("metadata").of(meta!("ObjectMeta")),
            field("roleRef").of(rbac!("RoleRef")),
            field("subjects").of(rbac!("Subject")).list_atomic(),
        ],
    ),
    ty(
        rbac!("PolicyRule"),
        &[
            field("apiGroups").list_atomic(),
            field("nonResourceURLs").list_atomic(),
            field("resourceNames").list_atomic(),
            field("resources").list_atomic(),
            field("verbs").list_atomic(),
        ],
    ),
    ty(
        rbac!("Role"),
        &[
            field("metadata").of(meta!("ObjectMeta")),
            field("rules").of(rbac!("PolicyRule")).list_atomic(),
        ],
    ),
    ty(
        rbac!("RoleBinding"),
        &[
            field("metadata").of(meta!("ObjectMeta")),
            field("roleRef").of(rbac!("RoleRef")),
            field("subjects").of(rbac!("Subject")).list_atomic(),
        ],
    ),
    atomic(rbac!("RoleRef"), &[]),
    atomic(rbac!("Subject"), &[]),
    atomic(meta!("LabelSelector"), &[field("matchExpressions").list_atomic()]),
    ty(
        meta!("LabelSelectorRequirement"),
        &[field("values").list_atomic()],
    ),
    ty(
        meta!("ObjectMeta"),
        &[
            field("finalizers").merge_set().list_set(),
            field("managedFields").list_atomic(),
            field("ownerReferences")
                .of(meta!("OwnerReference"))
                .merge_by("uid")
                .list_map(&["uid"]),
        ],
    ),
    atomic(meta!("OwnerReference"), &[]),
];
