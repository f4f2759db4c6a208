//! `discovery.k8s.io/v1`.

types! { discovery,
    Endpoint { addresses .list_set(); hints: discovery::EndpointHints; targetRef: core::ObjectReference; }
    EndpointHints { forNodes .list_atomic(); forZones .list_atomic(); }
    EndpointPort atomic {}
    EndpointSlice {
        endpoints: discovery::Endpoint .list_atomic();
        metadata: meta::ObjectMeta;
        ports: discovery::EndpointPort .list_atomic();
    }
}
