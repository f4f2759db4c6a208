//! `events.k8s.io/v1`.

types! { events,
    Event {
        metadata: meta::ObjectMeta;
        regarding: core::ObjectReference;
        related: core::ObjectReference;
    }
}
