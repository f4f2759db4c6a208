//! `autoscaling/v1`.

types! { autoscaling,
    CrossVersionObjectReference atomic {}
    HorizontalPodAutoscaler { metadata: meta::ObjectMeta; spec: autoscaling::HorizontalPodAutoscalerSpec; }
    HorizontalPodAutoscalerSpec { scaleTargetRef: autoscaling::CrossVersionObjectReference; }
}
