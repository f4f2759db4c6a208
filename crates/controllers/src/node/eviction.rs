//! Drives pods from nodes whose NoExecute taints they don't tolerate, or no longer.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tracing::info;

use super::taints::NO_EXECUTE;
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Change, Informer, Key};
use crate::pods;
use crate::queue::{Queue, Reconcile};
use crate::recorder::{EventType, Recorder};

/// How long a pod may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    Forever,
    Until(Timestamp),
}

/// Whether a toleration tolerates a taint.
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let key = toleration.key.as_deref().unwrap_or_default();
    if !key.is_empty() && key != taint.key {
        return false;
    }
    let own = toleration.value.as_deref().unwrap_or_default();
    let value = taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && own == value,
        "Lt" => compare(value, own).is_some_and(std::cmp::Ordering::is_lt),
        "Gt" => compare(value, own).is_some_and(std::cmp::Ordering::is_gt),
        _ => false,
    }
}

/// Taints of the operators `Lt` and `Gt` are numbers.
fn compare(taint: &str, toleration: &str) -> Option<std::cmp::Ordering> {
    let (taint, toleration) = (taint.parse::<i64>().ok()?, toleration.parse::<i64>().ok()?);
    Some(taint.cmp(&toleration))
}

/// How long these tolerations let a pod stay under these taints.
fn stay(taints: &[Taint], tolerations: &[Toleration], now: Timestamp) -> Stay {
    let mut stay = Stay::Forever;
    for taint in taints.iter().filter(|taint| taint.effect == NO_EXECUTE) {
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let until = match tolerations.iter().find(|toleration| tolerates(toleration, taint)) {
            None => now,
            Some(toleration) => match toleration.toleration_seconds {
                None => continue,
                Some(seconds) => later(since, seconds),
            },
        };
        stay = match stay {
            Stay::Forever => Stay::Until(until),
            Stay::Until(sooner) => Stay::Until(sooner.min(until)),
        };
    }
    stay
}

fn later(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds.max(0)))
        .unwrap_or(Timestamp::MAX)
}

/// The controller of evictions.
#[derive(Clone)]
pub(crate) struct Controller {
    client: Client,
    recorder: Recorder,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    queue: Queue<Key>,
}

impl Controller {
    pub(crate) fn new(
        client: Client,
        recorder: &Recorder,
        nodes: &mut Informer<Node>,
        pods: &mut Informer<Pod>,
    ) -> Self {
        let controller = Self {
            client,
            recorder: recorder.named("taint-eviction-controller"),
            nodes: nodes.cache(),
            pods: pods.cache(),
            queue: Queue::default(),
        };
        let queue = controller.queue.clone();
        pods.on_change(move |change| match change {
            Change::Updated { old, new } if pods::node_name(old) == pods::node_name(new) => {}
            Change::Deleted(_) => {}
            _ if pods::node_name(change.object()).is_some() => {
                queue.add(Key::of(&**change.object()));
            }
            _ => {}
        });
        let this = controller.clone();
        nodes.on_change(move |change| this.node_changed(change));
        controller
    }

    fn node_changed(&self, change: &Change<Node>) {
        let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
        match change {
            Change::Deleted(_) => return,
            Change::Updated { old, new } if taints(old) == taints(new) => return,
            _ => {}
        }
        let node = super::name(change.object());
        let pods = self.pods.list();
        let on_node = pods.iter().filter(|pod| pods::node_name(pod) == Some(node));
        on_node.for_each(|pod| self.queue.add(Key::of(&**pod)));
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "eviction";
    const WORKERS: usize = 8;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some((pod, node)) = self.pod_and_node(&key) else {
            return Ok(());
        };
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
        let now = Timestamp::now();
        match stay(taints.unwrap_or_default(), tolerations.unwrap_or_default(), now) {
            Stay::Forever => Ok(()),
            Stay::Until(until) if until > now => {
                let delay = Duration::try_from(until.duration_since(now)).unwrap_or_default();
                self.queue.add_after(key, delay);
                Ok(())
            }
            Stay::Until(_) => self.evict(&key, &pod, now).await,
        }
    }
}

impl Controller {
    fn pod_and_node(&self, key: &Key) -> Option<(Arc<Pod>, Arc<Node>)> {
        let pod = self.pods.get(key).filter(|pod| !pods::is_leaving(pod))?;
        let node = self.nodes.get(&Key::new("", pods::node_name(&pod)?))?;
        Some((pod, node))
    }

    async fn evict(&self, key: &Key, pod: &Pod, now: Timestamp) -> Result<(), Error> {
        info!(pod = %key, "evicting, it does not tolerate its node's taints");
        let message = format!("Marking for deletion Pod {key}");
        self.recorder
            .event(pod, EventType::Normal, "TaintManagerEviction", message);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let message = "Taint manager: deleting due to NoExecute taint";
        let disruption = super::disruption("DeletionByTaintManager", message, now);
        let patch = Patch::Strategic(json!({
            "metadata": { "uid": pod.metadata.uid },
            "status": { "conditions": [disruption] },
        }));
        let marked = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
        ignore_missing(marked.doing(|| format!("mark pod {key} as disrupted")))?;
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let deleted = api.delete(&key.name, &params).await;
        ignore_missing(deleted.doing(|| format!("evict pod {key}"))).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const ADDED: &str = "2026-11-21T12:00:00Z";

    fn at(seconds: i64) -> Timestamp {
        ADDED.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
    }

    fn taint(value: &str) -> Taint {
        let taint = json!({ "key": "k", "value": value, "effect": "NoExecute", "timeAdded": ADDED });
        serde_json::from_value(taint).unwrap()
    }

    fn stay_with(tolerations: Value) -> Stay {
        let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
        stay(&[taint("v")], &tolerations, at(100))
    }

    #[rstest]
    #[case::none(json!([]), Stay::Until(at(100)))]
    #[case::of_another_key(json!([{ "key": "x", "operator": "Exists" }]), Stay::Until(at(100)))]
    #[case::of_another_effect(json!([{ "key": "k", "operator": "Exists", "effect": "NoSchedule" }]),
        Stay::Until(at(100)))]
    #[case::for_ever(json!([{ "key": "k", "operator": "Exists" }]), Stay::Forever)]
    #[case::of_everything(json!([{ "operator": "Exists" }]), Stay::Forever)]
    #[case::for_a_while(json!([{ "key": "k", "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": 300 }]), Stay::Until(at(300)))]
    #[case::the_first_that_fits_counts(json!([
        { "key": "k", "operator": "Exists", "tolerationSeconds": 50 },
        { "key": "k", "operator": "Exists" } ]), Stay::Until(at(50)))]
    fn tolerations_say_how_long_a_pod_stays(#[case] tolerations: Value, #[case] expected: Stay) {
        assert_eq!(stay_with(tolerations), expected);
    }

    #[test]
    fn the_least_tolerated_taint_decides() {
        let mut other = taint("v");
        other.key = "other".to_owned();
        let tolerations: Vec<Toleration> = serde_json::from_value(json!([
            { "key": "k", "operator": "Exists", "tolerationSeconds": 300 },
            { "key": "other", "operator": "Exists", "tolerationSeconds": 30 } ]))
        .unwrap();
        assert_eq!(
            stay(&[taint("v"), other], &tolerations, at(0)),
            Stay::Until(at(30))
        );
        assert_eq!(stay(&[], &tolerations, at(0)), Stay::Forever);
    }

    #[rstest]
    #[case(json!({ "key": "k", "value": "v" }), true)]
    #[case(json!({ "key": "k", "operator": "Equal", "value": "w" }), false)]
    #[case(json!({ "key": "k", "operator": "Unheard", "value": "v" }), false)]
    #[case(json!({ "value": "v" }), false)]
    fn equality_needs_key_and_value(#[case] toleration: Value, #[case] expected: bool) {
        let toleration: Toleration = serde_json::from_value(toleration).unwrap();
        assert_eq!(tolerates(&toleration, &taint("v")), expected);
    }

    #[rstest]
    #[case("Gt", "5", "10", true)]
    #[case("Gt", "10", "5", false)]
    #[case("Lt", "10", "5", true)]
    #[case("Lt", "x", "5", false)]
    fn taints_may_be_compared(
        #[case] operator: &str,
        #[case] own: &str,
        #[case] value: &str,
        #[case] expected: bool,
    ) {
        let toleration = json!({ "key": "k", "operator": operator, "value": own });
        let toleration: Toleration = serde_json::from_value(toleration).unwrap();
        assert_eq!(tolerates(&toleration, &taint(value)), expected);
    }
}
