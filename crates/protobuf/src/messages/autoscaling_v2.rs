//! `autoscaling/v2`.

use super::meta::{LabelSelector, ObjectMeta};
use crate::table::messages;

messages! {
    ContainerResourceMetricSource {
        1 name: string always, 2 target: MetricTarget, 3 container: string always,
    }
    ContainerResourceMetricStatus {
        1 name: string always, 2 current: MetricValueStatus, 3 container: string always,
    }
    CrossVersionObjectReference { 1 kind: string always, 2 name: string always, 3 apiVersion: string, }
    ExternalMetricSource { 1 metric: MetricIdentifier, 2 target: MetricTarget, }
    ExternalMetricStatus { 1 metric: MetricIdentifier, 2 current: MetricValueStatus, }
    HPAScalingPolicy { 1 type: string always, 2 value: int32 always, 3 periodSeconds: int32 always, }
    HPAScalingRules {
        1 selectPolicy: string optional, 2 policies: [HPAScalingPolicy],
        3 stabilizationWindowSeconds: int32 optional, 4 tolerance: Quantity optional,
    }
    HorizontalPodAutoscaler {
        1 metadata: ObjectMeta, 2 spec: HorizontalPodAutoscalerSpec,
        3 status: HorizontalPodAutoscalerStatus,
    }
    HorizontalPodAutoscalerBehavior {
        1 scaleUp: HPAScalingRules optional, 2 scaleDown: HPAScalingRules optional,
    }
    HorizontalPodAutoscalerCondition {
        1 type: string always, 2 status: string always, 3 lastTransitionTime: Time, 4 reason: string,
        5 message: string,
    }
    HorizontalPodAutoscalerSpec {
        1 scaleTargetRef: CrossVersionObjectReference, 2 minReplicas: int32 optional,
        3 maxReplicas: int32 always, 4 metrics: [MetricSpec],
        5 behavior: HorizontalPodAutoscalerBehavior optional,
    }
    HorizontalPodAutoscalerStatus {
        1 observedGeneration: int64 optional, 2 lastScaleTime: Time optional, 3 currentReplicas: int32,
        4 desiredReplicas: int32 always, 5 currentMetrics: [MetricStatus],
        6 conditions: [HorizontalPodAutoscalerCondition],
    }
    MetricIdentifier { 1 name: string always, 2 selector: LabelSelector optional, }
    MetricSpec {
        1 type: string always, 2 object: ObjectMetricSource optional, 3 pods: PodsMetricSource optional,
        4 resource: ResourceMetricSource optional, 5 external: ExternalMetricSource optional,
        7 containerResource: ContainerResourceMetricSource optional,
    }
    MetricStatus {
        1 type: string always, 2 object: ObjectMetricStatus optional, 3 pods: PodsMetricStatus optional,
        4 resource: ResourceMetricStatus optional, 5 external: ExternalMetricStatus optional,
        7 containerResource: ContainerResourceMetricStatus optional,
    }
    MetricTarget {
        1 type: string always, 2 value: Quantity optional, 3 averageValue: Quantity optional,
        4 averageUtilization: int32 optional,
    }
    MetricValueStatus {
        1 value: Quantity optional, 2 averageValue: Quantity optional, 3 averageUtilization: int32 optional,
    }
    ObjectMetricSource {
        1 describedObject: CrossVersionObjectReference, 2 target: MetricTarget, 3 metric: MetricIdentifier,
    }
    ObjectMetricStatus {
        1 metric: MetricIdentifier, 2 current: MetricValueStatus,
        3 describedObject: CrossVersionObjectReference,
    }
    PodsMetricSource { 1 metric: MetricIdentifier, 2 target: MetricTarget, }
    PodsMetricStatus { 1 metric: MetricIdentifier, 2 current: MetricValueStatus, }
    ResourceMetricSource { 1 name: string always, 2 target: MetricTarget, }
    ResourceMetricStatus { 1 name: string always, 2 current: MetricValueStatus, }
}
