//! `v1`: services and endpoints.

use super::core::ObjectReference;
use super::meta::{Condition, ObjectMeta};
use crate::table::messages;

messages! {
    ClientIPConfig { 1 timeoutSeconds: int32 optional, }
    EndpointAddress {
        1 ip: string always, 2 targetRef: ObjectReference optional, 3 hostname: string,
        4 nodeName: string optional,
    }
    EndpointPort { 1 name: string, 2 port: int32 always, 3 protocol: string, 4 appProtocol: string optional, }
    EndpointSubset {
        1 addresses: [EndpointAddress], 2 notReadyAddresses: [EndpointAddress], 3 ports: [EndpointPort],
    }
    Endpoints { 1 metadata: ObjectMeta, 2 subsets: [EndpointSubset], }
    LoadBalancerIngress {
        1 ip: string, 2 hostname: string, 3 ipMode: string optional, 4 ports: [PortStatus],
    }
    LoadBalancerStatus { 1 ingress: [LoadBalancerIngress], }
    PortStatus { 1 port: int32 always, 2 protocol: string always, 3 error: string optional, }
    Service { 1 metadata: ObjectMeta, 2 spec: ServiceSpec, 3 status: ServiceStatus, }
    ServicePort {
        1 name: string, 2 protocol: string, 3 port: int32 always, 4 targetPort: IntOrString,
        5 nodePort: int32, 6 appProtocol: string optional,
    }
    ServiceSpec {
        1 ports: [ServicePort], 2 selector: {string}, 3 clusterIP: string, 4 type: string,
        5 externalIPs: [string], 7 sessionAffinity: string, 8 loadBalancerIP: string,
        9 loadBalancerSourceRanges: [string], 10 externalName: string, 11 externalTrafficPolicy: string,
        12 healthCheckNodePort: int32, 13 publishNotReadyAddresses: bool,
        14 sessionAffinityConfig: SessionAffinityConfig optional, 17 ipFamilyPolicy: string optional,
        18 clusterIPs: [string], 19 ipFamilies: [string], 20 allocateLoadBalancerNodePorts: bool optional,
        21 loadBalancerClass: string optional, 22 internalTrafficPolicy: string optional,
        23 trafficDistribution: string optional,
    }
    ServiceStatus { 1 loadBalancer: LoadBalancerStatus, 2 conditions: [Condition], }
    SessionAffinityConfig { 1 clientIP: ClientIPConfig optional, }
}
