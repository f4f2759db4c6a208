//! `networking.k8s.io/v1`.

types! { networking,
    HTTPIngressPath { backend: networking::IngressBackend; }
    HTTPIngressRuleValue { paths: networking::HTTPIngressPath .list_atomic(); }
    IPAddress { metadata: meta::ObjectMeta; }
    IPBlock { except .list_atomic(); }
    Ingress {
        metadata: meta::ObjectMeta;
        spec: networking::IngressSpec;
        status: networking::IngressStatus;
    }
    IngressBackend {
        resource: core::TypedLocalObjectReference;
        service: networking::IngressServiceBackend;
    }
    IngressClass { metadata: meta::ObjectMeta; }
    IngressLoadBalancerIngress { ports .list_atomic(); }
    IngressLoadBalancerStatus { ingress: networking::IngressLoadBalancerIngress .list_atomic(); }
    IngressRule { http: networking::HTTPIngressRuleValue; }
    IngressServiceBackend { port: networking::ServiceBackendPort; }
    IngressSpec {
        defaultBackend: networking::IngressBackend;
        rules: networking::IngressRule .list_atomic();
        tls: networking::IngressTLS .list_atomic();
    }
    IngressStatus { loadBalancer: networking::IngressLoadBalancerStatus; }
    IngressTLS { hosts .list_atomic(); }
    NetworkPolicy { metadata: meta::ObjectMeta; spec: networking::NetworkPolicySpec; }
    NetworkPolicyEgressRule { ports .list_atomic(); to: networking::NetworkPolicyPeer .list_atomic(); }
    NetworkPolicyIngressRule { from: networking::NetworkPolicyPeer .list_atomic(); ports .list_atomic(); }
    NetworkPolicyPeer {
        ipBlock: networking::IPBlock;
        namespaceSelector: meta::LabelSelector;
        podSelector: meta::LabelSelector;
    }
    NetworkPolicySpec {
        egress: networking::NetworkPolicyEgressRule .list_atomic();
        ingress: networking::NetworkPolicyIngressRule .list_atomic();
        podSelector: meta::LabelSelector;
        policyTypes .list_atomic();
    }
    ServiceBackendPort atomic {}
    ServiceCIDR {
        metadata: meta::ObjectMeta;
        spec: networking::ServiceCIDRSpec;
        status: networking::ServiceCIDRStatus;
    }
    ServiceCIDRSpec { cidrs .list_atomic(); }
    ServiceCIDRStatus { conditions .merge_by("type") .list_map(&["type"]); }
}
