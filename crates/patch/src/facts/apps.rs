//! `apps/v1`.

types! { apps,
    ControllerRevision { metadata: meta::ObjectMeta; }
    DaemonSet { metadata: meta::ObjectMeta; spec: apps::DaemonSetSpec; status: apps::DaemonSetStatus; }
    DaemonSetSpec { selector: meta::LabelSelector; template: core::PodTemplateSpec; }
    DaemonSetStatus { conditions .merge_by("type") .list_map(&["type"]); }
    Deployment { metadata: meta::ObjectMeta; spec: apps::DeploymentSpec; status: apps::DeploymentStatus; }
    DeploymentSpec {
        selector: meta::LabelSelector;
        strategy .retain_keys();
        template: core::PodTemplateSpec;
    }
    DeploymentStatus { conditions .merge_by("type") .list_map(&["type"]); }
    ReplicaSet { metadata: meta::ObjectMeta; spec: apps::ReplicaSetSpec; status: apps::ReplicaSetStatus; }
    ReplicaSetSpec { selector: meta::LabelSelector; template: core::PodTemplateSpec; }
    ReplicaSetStatus { conditions .merge_by("type") .list_map(&["type"]); }
    StatefulSet {
        metadata: meta::ObjectMeta;
        spec: apps::StatefulSetSpec;
        status: apps::StatefulSetStatus;
    }
    StatefulSetSpec {
        selector: meta::LabelSelector;
        template: core::PodTemplateSpec;
        volumeClaimTemplates: core::PersistentVolumeClaim .list_atomic();
    }
    StatefulSetStatus { conditions .merge_by("type") .list_map(&["type"]); }
}
