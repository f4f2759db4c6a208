//! Says in the API who announces a Service: in a condition of its status, and in an Event.

use std::sync::Arc;

use go_json::Read;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use tracing::{debug, info};

use crate::CONDITION;
use crate::state::{Name, Word};

/// Writes to the API, beside the decisions: those don't wait for it.
#[derive(Clone)]
pub(crate) struct Teller {
    client: Client,
    node: Arc<str>,
}

impl Teller {
    pub(crate) fn new(client: Client, node: &str) -> Self {
        Self {
            client,
            node: node.into(),
        }
    }

    /// Says that this node announces the Service, or that nobody does.
    pub(crate) async fn tell(&self, service: Service, word: Word) {
        let (status, reason, text) = match word {
            Word::Announced(text) => ("True", "Announced", text),
            Word::Nobody(text) => ("False", "NotAnnounced", text.to_owned()),
        };
        let condition = json!({ "type": CONDITION, "status": status, "reason": reason, "message": text,
            "lastTransitionTime": Timestamp::now(), "observedGeneration": service.metadata.generation });
        let name = name_of(&service);
        match self.patch(&name, &service.metadata, condition).await {
            Ok(()) => info!(service = format!("{}/{}", name.0, name.1), text, "load balancer"),
            // Whoever was faster is seen in the next event.
            Err(error) => return debug!(%error, "telling who announces a Service"),
        }
        let kind = if status == "True" { "Normal" } else { "Warning" };
        if let Err(error) = self.event(&service, kind, reason, &text).await {
            debug!(%error, "recording who announces a Service");
        }
    }

    /// Takes the condition away from a Service that is no load balancer any more.
    pub(crate) async fn withdraw(&self, name: Name) {
        let condition = json!({ "type": CONDITION, "$patch": "delete" });
        let outcome = self.patch(&name, &ObjectMeta::default(), condition).await;
        if let Err(error) = outcome {
            debug!(%error, "a Service is no longer announced");
        }
    }

    async fn patch(&self, name: &Name, meta: &ObjectMeta, condition: Value) -> Result<(), kube::Error> {
        let api: Api<Read<Service>> = Api::namespaced(self.client.clone(), &name.0);
        let mut patch = json!({ "status": { "conditions": [condition] } });
        if meta.resource_version.is_some() {
            patch["metadata"] = json!({ "uid": meta.uid, "resourceVersion": meta.resource_version });
        }
        let (parameters, patch) = (PatchParams::default(), Patch::Strategic(patch));
        api.patch_status(&name.1, &parameters, &patch).await.map(drop)
    }

    async fn event(
        &self,
        service: &Service,
        kind: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), kube::Error> {
        let (namespace, name) = name_of(service);
        let now = Timestamp::now();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:016x}", now.as_nanosecond())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: reference(service),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            type_: Some(kind.to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some("ripstop-agent".to_owned()),
                host: Some(self.node.to_string()),
            }),
            reporting_component: Some("ripstop-agent".to_owned()),
            reporting_instance: Some(self.node.to_string()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        api.create(&PostParams::default(), &event).await.map(drop)
    }
}

fn name_of(service: &Service) -> Name {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&service.metadata.namespace), text(&service.metadata.name))
}

fn reference(service: &Service) -> ObjectReference {
    service.object_ref(&())
}
