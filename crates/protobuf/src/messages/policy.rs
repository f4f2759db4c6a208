//! `policy/v1`.

use super::meta::{Condition, DeleteOptions, LabelSelector, ObjectMeta};
use crate::table::messages;

messages! {
    Eviction { 1 metadata: ObjectMeta, 2 deleteOptions: DeleteOptions optional, }
    PodDisruptionBudget {
        1 metadata: ObjectMeta, 2 spec: PodDisruptionBudgetSpec, 3 status: PodDisruptionBudgetStatus,
    }
    PodDisruptionBudgetSpec {
        1 minAvailable: IntOrString optional, 2 selector: LabelSelector optional,
        3 maxUnavailable: IntOrString optional, 4 unhealthyPodEvictionPolicy: string optional,
    }
    PodDisruptionBudgetStatus {
        1 observedGeneration: int64, 2 disruptedPods: {Time}, 3 disruptionsAllowed: int32 always,
        4 currentHealthy: int32 always, 5 desiredHealthy: int32 always, 6 expectedPods: int32 always,
        7 conditions: [Condition],
    }
}
