//! `apps/v1`.

types! { apps,
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
}
