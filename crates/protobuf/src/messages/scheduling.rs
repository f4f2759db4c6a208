//! `scheduling.k8s.io/v1`.

use super::meta::ObjectMeta;
use crate::table::messages;

messages! {
    PriorityClass {
        1 metadata: ObjectMeta, 2 value: int32 always, 3 globalDefault: bool, 4 description: string,
        5 preemptionPolicy: string optional,
    }
}
