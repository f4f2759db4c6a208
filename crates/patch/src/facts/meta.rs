//! `meta.k8s.io/v1`.

types! { meta,
    LabelSelector atomic { matchExpressions: meta::LabelSelectorRequirement .list_atomic(); }
    LabelSelectorRequirement { values .list_atomic(); }
    ObjectMeta {
        finalizers .merge_set() .list_set();
        managedFields .list_atomic();
        ownerReferences: meta::OwnerReference .merge_by("uid") .list_map(&["uid"]);
    }
    OwnerReference atomic {}
}
