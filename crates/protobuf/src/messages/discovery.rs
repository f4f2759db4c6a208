//! `discovery.k8s.io/v1`.

use super::core::ObjectReference;
use super::meta::ObjectMeta;
use crate::table::messages;

messages! {
    Endpoint {
        1 addresses: [string], 2 conditions: EndpointConditions, 3 hostname: string optional,
        4 targetRef: ObjectReference optional, 5 deprecatedTopology: {string}, 6 nodeName: string optional,
        7 zone: string optional, 8 hints: EndpointHints optional,
    }
    EndpointConditions { 1 ready: bool optional, 2 serving: bool optional, 3 terminating: bool optional, }
    EndpointHints { 1 forZones: [ForZone], 2 forNodes: [ForNode], }
    EndpointPort {
        1 name: string optional, 2 protocol: string optional, 3 port: int32 optional,
        4 appProtocol: string optional,
    }
    EndpointSlice {
        1 metadata: ObjectMeta, 2 endpoints: [Endpoint], 3 ports: [EndpointPort],
        4 addressType: string always,
    }
    ForNode { 1 name: string always, }
    ForZone { 1 name: string always, }
}
