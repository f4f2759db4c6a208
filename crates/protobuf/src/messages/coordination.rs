//! `coordination.k8s.io/v1`.

use super::meta::ObjectMeta;
use crate::table::messages;

messages! {
    Lease { 1 metadata: ObjectMeta, 2 spec: LeaseSpec, }
    LeaseSpec {
        1 holderIdentity: string optional, 2 leaseDurationSeconds: int32 optional,
        3 acquireTime: MicroTime optional, 4 renewTime: MicroTime optional,
        5 leaseTransitions: int32 optional, 6 strategy: string optional, 7 preferredHolder: string optional,
    }
}
