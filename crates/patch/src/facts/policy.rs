//! `policy/v1`.

types! { policy,
    PodDisruptionBudget {
        metadata: meta::ObjectMeta;
        spec: policy::PodDisruptionBudgetSpec;
        status: policy::PodDisruptionBudgetStatus;
    }
    PodDisruptionBudgetSpec { selector: meta::LabelSelector; }
    PodDisruptionBudgetStatus { conditions .merge_by("type") .list_map(&["type"]); }
}
