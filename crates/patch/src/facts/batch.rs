//! `batch/v1`.

types! { batch,
    CronJob { metadata: meta::ObjectMeta; spec: batch::CronJobSpec; status: batch::CronJobStatus; }
    CronJobSpec { jobTemplate: batch::JobTemplateSpec; }
    CronJobStatus { active: core::ObjectReference .list_atomic(); }
    Job { metadata: meta::ObjectMeta; spec: batch::JobSpec; status: batch::JobStatus; }
    JobSpec {
        podFailurePolicy: batch::PodFailurePolicy;
        selector: meta::LabelSelector;
        successPolicy: batch::SuccessPolicy;
        template: core::PodTemplateSpec;
    }
    JobStatus {
        conditions .merge_by("type") .list_atomic();
        uncountedTerminatedPods: batch::UncountedTerminatedPods;
    }
    JobTemplateSpec { metadata: meta::ObjectMeta; spec: batch::JobSpec; }
    PodFailurePolicy { rules: batch::PodFailurePolicyRule .list_atomic(); }
    PodFailurePolicyOnExitCodesRequirement { values .list_set(); }
    PodFailurePolicyRule {
        onExitCodes: batch::PodFailurePolicyOnExitCodesRequirement;
        onPodConditions .list_atomic();
    }
    SuccessPolicy { rules .list_atomic(); }
    UncountedTerminatedPods { failed .list_set(); succeeded .list_set(); }
}
