//! Says on the ConfigMap what of it can't be understood.

use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use serde_json::json;

use crate::settings::Mistake;

/// Writes Events.
pub(crate) struct Complaints {
    client: Client,
    node: String,
}

impl Complaints {
    pub(crate) fn new(client: Client, node: &str) -> Complaints {
        Complaints {
            client,
            node: node.to_owned(),
        }
    }

    /// One Event for each mistake, in the background.
    pub(crate) fn about(&self, object: &ConfigMap, mistakes: &[Mistake]) {
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        for mistake in mistakes {
            let (api, event) = (api.clone(), self.event(object, mistake));
            tokio::spawn(async move {
                if let Err(error) = api.create(&PostParams::default(), &event).await {
                    tracing::debug!(%error, "an Event can't be written");
                }
            });
        }
    }

    fn event(&self, object: &ConfigMap, mistake: &Mistake) -> Event {
        let now = k8s_openapi::jiff::Timestamp::now();
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let event = json!({
            "metadata": {"generateName": format!("{name}."), "namespace": object.metadata.namespace},
            "involvedObject": object.object_ref(&()),
            "type": "Warning", "reason": "InvalidSetting", "message": mistake.to_string(),
            "source": {"component": "ripstop-dns", "host": self.node},
            "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        });
        serde_json::from_value(event).expect("this is an Event")
    }
}
