//! `node.k8s.io/v1`.

use super::core_pod::Toleration;
use super::meta::ObjectMeta;
use crate::table::messages;

messages! {
    Overhead { 1 podFixed: {Quantity}, }
    RuntimeClass {
        1 metadata: ObjectMeta, 2 handler: string always, 3 overhead: Overhead optional,
        4 scheduling: Scheduling optional,
    }
    Scheduling { 1 nodeSelector: {string}, 2 tolerations: [Toleration], }
}
