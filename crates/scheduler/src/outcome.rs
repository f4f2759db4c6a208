//! What becomes of a decision: it is written on the pod, and on those that go for it.

use std::sync::Arc;

use controllers::informer::Key;
use controllers::recorder::EventType;
use controllers::{Doing, Error};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use serde_json::json;
use tracing::{debug, info, warn};

use crate::driver::{NAME, Scheduler, priority};
use crate::info::Info;
use crate::preempt::Sacrifice;

/// Why a pod has no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Unschedulable,
    Gated,
}

/// On which node room is made for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Nominated {
    Nowhere,
    AsBefore,
    On(String),
}

impl Scheduler {
    /// Writes a decision down, beside others that are being written.
    pub(crate) async fn bind(&self, key: Key, pod: Arc<Pod>, node: String) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: pod.metadata.uid.clone(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.clone()),
                ..ObjectReference::default()
            },
        };
        let params = PostParams::default();
        let bound: Result<Status, _> = api
            .create_subresource("binding", &key.name, &params, &binding)
            .await;
        match bound.doing(|| format!("bind pod {key} to {node}")) {
            Ok(_) => {
                debug!(pod = %key, node, "bound");
                self.succeeded(&key);
                let message = format!("Successfully assigned {key} to {node}");
                self.recorder
                    .event(&*pod, EventType::Normal, "Scheduled", message);
            }
            Err(error) => {
                self.cluster().forget(&pod);
                if error.is_not_found() || error.is_conflict() {
                    // Gone, or given to a node by somebody else: the watch will show it.
                    debug!(pod = %key, %error, "not bound");
                } else {
                    warn!(pod = %key, %error, "will try again");
                    let message = error.to_string();
                    self.recorder
                        .event(&*pod, EventType::Warning, "FailedScheduling", message);
                }
                self.retry(key, priority(&pod));
            }
        }
    }

    /// Says on the pod why it has no node, and on which one room is made for it.
    pub(crate) async fn explain(
        &self,
        key: &Key,
        pod: &Pod,
        why: Why,
        message: String,
        nominated: Nominated,
    ) -> Result<(), Error> {
        let condition = condition(pod, why, &message, Timestamp::now());
        let status = pod.status.as_ref();
        let has = status.and_then(|status| status.nominated_node_name.as_deref());
        let nominated = match nominated {
            Nominated::Nowhere => has.map(|_| None),
            Nominated::AsBefore => None,
            Nominated::On(node) => (has != Some(node.as_str())).then_some(Some(node)),
        };
        if condition.is_none() && nominated.is_none() {
            return Ok(());
        }
        info!(pod = %key, message, ?nominated, "not scheduled");
        if why == Why::Unschedulable && condition.is_some() {
            self.recorder
                .event(pod, EventType::Warning, "FailedScheduling", message);
        }
        let mut status = json!({});
        if let Some(condition) = condition {
            status["conditions"] = json!([condition]);
        }
        if let Some(node) = nominated {
            status["nominatedNodeName"] = json!(node);
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.metadata.uid }, "status": status }));
        let written = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
        match written.doing(|| format!("write the condition of pod {key}")) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets pods go so that another one gets their node. It is woken when they are gone.
    pub(crate) async fn make_room(&self, key: &Key, pod: &Pod, sacrifice: Sacrifice) {
        for victim in &sacrifice.victims {
            let gone = self.preempt(victim).await;
            if let Err(error) = gone {
                warn!(pod = %key, %error, "will try again");
                return self.retry(key.clone(), priority(pod));
            }
            let place = Key::from(&**victim);
            info!(pod = %key, victim = %place, node = sacrifice.node, "preempted");
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let message = format!("Preempted by pod {uid} on node {}", sacrifice.node);
            self.recorder
                .event(&object(victim), EventType::Normal, "Preempted", message);
        }
    }

    async fn preempt(&self, victim: &Info) -> Result<(), Error> {
        if victim.leaving {
            return Ok(());
        }
        let place = Key::from(victim);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &place.namespace);
        let condition = PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("PreemptionByScheduler".to_owned()),
            message: Some(format!("{NAME}: preempting to accommodate a higher priority pod")),
            last_transition_time: Some(Time(Timestamp::now())),
            ..PodCondition::default()
        };
        let patch = Patch::Strategic(json!({
            "metadata": { "uid": victim.uid }, "status": { "conditions": [condition] } }));
        let marked = api
            .patch_status(&place.name, &PatchParams::default(), &patch)
            .await;
        let marked = marked.doing(|| format!("mark pod {place} as disrupted"));
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(victim.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let deleted = match marked {
            Ok(_) => {
                let deleted = api.delete(&place.name, &params).await;
                deleted.doing(|| format!("preempt pod {place}")).map(drop)
            }
            Err(error) => Err(error),
        };
        match deleted {
            // It is gone, or another one has its name.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            other => other,
        }
    }
}

/// The pod, as far as an event needs it.
fn object(info: &Info) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(info.name.clone()),
            namespace: Some(info.namespace.clone()),
            uid: Some(info.uid.clone()),
            ..ObjectMeta::default()
        },
        ..Pod::default()
    }
}

/// The condition that says why, unless the pod says so already.
fn condition(pod: &Pod, why: Why, message: &str, now: Timestamp) -> Option<PodCondition> {
    let reason = match why {
        Why::Unschedulable => "Unschedulable",
        Why::Gated => "SchedulingGated",
    };
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    let old = conditions
        .unwrap_or_default()
        .iter()
        .find(|c| c.type_ == "PodScheduled");
    let same = |old: &PodCondition| {
        old.status == "False"
            && old.reason.as_deref() == Some(reason)
            && old.message.as_deref() == Some(message)
    };
    if old.is_some_and(same) {
        return None;
    }
    let since = old.filter(|old| old.status == "False");
    let since = since.and_then(|old| old.last_transition_time.clone());
    Some(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: since.or(Some(Time(now))),
        ..PodCondition::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::pod;

    #[test]
    fn a_condition_that_says_the_same_is_not_written_again() {
        let mut pod = pod("p", json!({}));
        let now = Timestamp::UNIX_EPOCH;
        let first = condition(&pod, Why::Unschedulable, "why", now).unwrap();
        pod.status.get_or_insert_default().conditions = Some(vec![first]);
        assert_eq!(condition(&pod, Why::Unschedulable, "why", now), None);
        let other = condition(&pod, Why::Unschedulable, "other", Timestamp::MAX).unwrap();
        assert_eq!(other.last_transition_time, Some(Time(now)), "it was so before");
    }
}
