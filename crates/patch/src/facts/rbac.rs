//! `rbac.authorization.k8s.io/v1`.

types! { rbac,
    AggregationRule { clusterRoleSelectors: meta::LabelSelector .list_atomic(); }
    ClusterRole {
        aggregationRule: rbac::AggregationRule;
        metadata: meta::ObjectMeta;
        rules: rbac::PolicyRule .list_atomic();
    }
    ClusterRoleBinding {
        metadata: meta::ObjectMeta;
        roleRef: rbac::RoleRef;
        subjects: rbac::Subject .list_atomic();
    }
    PolicyRule {
        apiGroups .list_atomic();
        nonResourceURLs .list_atomic();
        resourceNames .list_atomic();
        resources .list_atomic();
        verbs .list_atomic();
    }
    Role { metadata: meta::ObjectMeta; rules: rbac::PolicyRule .list_atomic(); }
    RoleBinding {
        metadata: meta::ObjectMeta;
        roleRef: rbac::RoleRef;
        subjects: rbac::Subject .list_atomic();
    }
    RoleRef atomic {}
    Subject atomic {}
}
