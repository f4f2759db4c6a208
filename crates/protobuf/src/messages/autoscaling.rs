//! `autoscaling/v1`.

use super::meta::ObjectMeta;
use crate::table::messages;

messages! {
    CrossVersionObjectReference { 1 kind: string always, 2 name: string always, 3 apiVersion: string, }
    HorizontalPodAutoscaler {
        1 metadata: ObjectMeta, 2 spec: HorizontalPodAutoscalerSpec,
        3 status: HorizontalPodAutoscalerStatus,
    }
    HorizontalPodAutoscalerSpec {
        1 scaleTargetRef: CrossVersionObjectReference, 2 minReplicas: int32 optional,
        3 maxReplicas: int32 always, 4 targetCPUUtilizationPercentage: int32 optional,
    }
    HorizontalPodAutoscalerStatus {
        1 observedGeneration: int64 optional, 2 lastScaleTime: Time optional,
        3 currentReplicas: int32 always, 4 desiredReplicas: int32 always,
        5 currentCPUUtilizationPercentage: int32 optional,
    }
    Scale { 1 metadata: ObjectMeta, 2 spec: ScaleSpec, 3 status: ScaleStatus, }
    ScaleSpec { 1 replicas: int32, }
    ScaleStatus { 1 replicas: int32 always, 2 selector: string, }
}
