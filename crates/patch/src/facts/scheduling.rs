//! `scheduling.k8s.io/v1`.

types! { scheduling,
    PriorityClass { metadata: meta::ObjectMeta; }
}
