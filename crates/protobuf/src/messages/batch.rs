//! `batch/v1`.

use super::core::ObjectReference;
use super::core_pod::PodTemplateSpec;
use super::meta::{LabelSelector, ObjectMeta};
use crate::table::messages;

messages! {
    CronJob { 1 metadata: ObjectMeta, 2 spec: CronJobSpec, 3 status: CronJobStatus, }
    CronJobSpec {
        1 schedule: string always, 2 startingDeadlineSeconds: int64 optional, 3 concurrencyPolicy: string,
        4 suspend: bool optional, 5 jobTemplate: JobTemplateSpec,
        6 successfulJobsHistoryLimit: int32 optional, 7 failedJobsHistoryLimit: int32 optional,
        8 timeZone: string optional,
    }
    CronJobStatus {
        1 active: [ObjectReference], 4 lastScheduleTime: Time optional, 5 lastSuccessfulTime: Time optional,
    }
    Job { 1 metadata: ObjectMeta, 2 spec: JobSpec, 3 status: JobStatus, }
    JobCondition {
        1 type: string always, 2 status: string always, 3 lastProbeTime: Time, 4 lastTransitionTime: Time,
        5 reason: string, 6 message: string,
    }
    JobSpec {
        1 parallelism: int32 optional, 2 completions: int32 optional,
        3 activeDeadlineSeconds: int64 optional, 4 selector: LabelSelector optional,
        5 manualSelector: bool optional, 6 template: PodTemplateSpec, 7 backoffLimit: int32 optional,
        8 ttlSecondsAfterFinished: int32 optional, 9 completionMode: string optional,
        10 suspend: bool optional, 11 podFailurePolicy: PodFailurePolicy optional,
        12 backoffLimitPerIndex: int32 optional, 13 maxFailedIndexes: int32 optional,
        14 podReplacementPolicy: string optional, 15 managedBy: string optional,
        16 successPolicy: SuccessPolicy optional,
    }
    JobStatus {
        1 conditions: [JobCondition], 2 startTime: Time optional, 3 completionTime: Time optional,
        4 active: int32, 5 succeeded: int32, 6 failed: int32, 7 completedIndexes: string,
        8 uncountedTerminatedPods: UncountedTerminatedPods optional, 9 ready: int32 optional,
        10 failedIndexes: string optional, 11 terminating: int32 optional,
    }
    JobTemplateSpec { 1 metadata: ObjectMeta, 2 spec: JobSpec, }
    PodFailurePolicy { 1 rules: [PodFailurePolicyRule], }
    PodFailurePolicyOnExitCodesRequirement {
        1 containerName: string optional, 2 operator: string always, 3 values: [int32],
    }
    PodFailurePolicyOnPodConditionsPattern { 1 type: string always, 2 status: string always, }
    PodFailurePolicyRule {
        1 action: string always, 2 onExitCodes: PodFailurePolicyOnExitCodesRequirement optional,
        3 onPodConditions: [PodFailurePolicyOnPodConditionsPattern],
    }
    SuccessPolicy { 1 rules: [SuccessPolicyRule], }
    SuccessPolicyRule { 1 succeededIndexes: string optional, 2 succeededCount: int32 optional, }
    UncountedTerminatedPods { 1 succeeded: [string], 2 failed: [string], }
}
