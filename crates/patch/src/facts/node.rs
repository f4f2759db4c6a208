//! `node.k8s.io/v1`.

types! { node,
    RuntimeClass { metadata: meta::ObjectMeta; scheduling: node::Scheduling; }
    Scheduling { nodeSelector .map_atomic(); tolerations .list_atomic(); }
}
