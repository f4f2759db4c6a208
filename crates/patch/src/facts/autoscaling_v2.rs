//! `autoscaling/v2`.

types! { autoscaling_v2,
    HPAScalingRules { policies .list_atomic(); }
    HorizontalPodAutoscaler {
        metadata: meta::ObjectMeta;
        spec: autoscaling_v2::HorizontalPodAutoscalerSpec;
        status: autoscaling_v2::HorizontalPodAutoscalerStatus;
    }
    HorizontalPodAutoscalerBehavior {
        scaleDown: autoscaling_v2::HPAScalingRules;
        scaleUp: autoscaling_v2::HPAScalingRules;
    }
    HorizontalPodAutoscalerSpec {
        behavior: autoscaling_v2::HorizontalPodAutoscalerBehavior;
        metrics .list_atomic();
    }
    HorizontalPodAutoscalerStatus {
        conditions .merge_by("type") .list_map(&["type"]);
        currentMetrics .list_atomic();
    }
}
