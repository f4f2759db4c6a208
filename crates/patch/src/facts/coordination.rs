//! `coordination.k8s.io/v1`.

types! { coordination,
    Lease { metadata: meta::ObjectMeta; }
}
