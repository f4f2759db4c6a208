//! Says on the ConfigMap what of it can't be understood.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::settings::Mistake;

/// Writes Events.
pub(crate) struct Complaints {
    recorder: Recorder,
}

impl Complaints {
    pub(crate) fn new(client: Client, node: &str) -> Complaints {
        let reporter = Reporter {
            controller: "ripstop-dns".to_owned(),
            instance: Some(node.to_owned()),
        };
        Complaints {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// One Event for each mistake, in the background.
    pub(crate) fn about(&self, object: &ConfigMap, mistakes: &[Mistake]) {
        for mistake in mistakes {
            let (recorder, about) = (self.recorder.clone(), object.object_ref(&()));
            let event = Event {
                type_: EventType::Warning,
                reason: "InvalidSetting".to_owned(),
                note: Some(mistake.to_string()),
                action: "Configure".to_owned(),
                secondary: None,
            };
            tokio::spawn(async move {
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::debug!(%error, "an Event can't be written");
                }
            });
        }
    }
}
