//! `networking.k8s.io/v1`.

use super::core::TypedLocalObjectReference;
use super::meta::{Condition, LabelSelector, ObjectMeta};
use crate::table::messages;

messages! {
    HTTPIngressPath { 1 path: string, 2 backend: IngressBackend, 3 pathType: string optional, }
    HTTPIngressRuleValue { 1 paths: [HTTPIngressPath], }
    IPAddress { 1 metadata: ObjectMeta, 2 spec: IPAddressSpec, }
    IPAddressSpec { 1 parentRef: ParentReference optional, }
    IPBlock { 1 cidr: string always, 2 except: [string], }
    Ingress { 1 metadata: ObjectMeta, 2 spec: IngressSpec, 3 status: IngressStatus, }
    IngressBackend {
        3 resource: TypedLocalObjectReference optional, 4 service: IngressServiceBackend optional,
    }
    IngressClass { 1 metadata: ObjectMeta, 2 spec: IngressClassSpec, }
    IngressClassParametersReference {
        1 apiGroup: string optional, 2 kind: string always, 3 name: string always, 4 scope: string optional,
        5 namespace: string optional,
    }
    IngressClassSpec { 1 controller: string, 2 parameters: IngressClassParametersReference optional, }
    IngressLoadBalancerIngress { 1 ip: string, 2 hostname: string, 4 ports: [IngressPortStatus], }
    IngressLoadBalancerStatus { 1 ingress: [IngressLoadBalancerIngress], }
    IngressPortStatus { 1 port: int32 always, 2 protocol: string always, 3 error: string optional, }
    IngressRule { 1 host: string, 2 _: IngressRuleValue, }
    IngressRuleValue { 1 http: HTTPIngressRuleValue optional, }
    IngressServiceBackend { 1 name: string always, 2 port: ServiceBackendPort, }
    IngressSpec {
        1 defaultBackend: IngressBackend optional, 2 tls: [IngressTLS], 3 rules: [IngressRule],
        4 ingressClassName: string optional,
    }
    IngressStatus { 1 loadBalancer: IngressLoadBalancerStatus, }
    IngressTLS { 1 hosts: [string], 2 secretName: string, }
    NetworkPolicy { 1 metadata: ObjectMeta, 2 spec: NetworkPolicySpec, }
    NetworkPolicyEgressRule { 1 ports: [NetworkPolicyPort], 2 to: [NetworkPolicyPeer], }
    NetworkPolicyIngressRule { 1 ports: [NetworkPolicyPort], 2 from: [NetworkPolicyPeer], }
    NetworkPolicyPeer {
        1 podSelector: LabelSelector optional, 2 namespaceSelector: LabelSelector optional,
        3 ipBlock: IPBlock optional,
    }
    NetworkPolicyPort {
        1 protocol: string optional, 2 port: IntOrString optional, 3 endPort: int32 optional,
    }
    NetworkPolicySpec {
        1 podSelector: LabelSelector, 2 ingress: [NetworkPolicyIngressRule],
        3 egress: [NetworkPolicyEgressRule], 4 policyTypes: [string],
    }
    ParentReference { 1 group: string, 2 resource: string, 3 namespace: string, 4 name: string, }
    ServiceBackendPort { 1 name: string, 2 number: int32, }
    ServiceCIDR { 1 metadata: ObjectMeta, 2 spec: ServiceCIDRSpec, 3 status: ServiceCIDRStatus, }
    ServiceCIDRSpec { 1 cidrs: [string], }
    ServiceCIDRStatus { 1 conditions: [Condition], }
}
