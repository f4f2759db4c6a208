//! Which pods see Services' addresses as they are, because a proxy in them wants to: the annotation
//! `ripstop.dev/socket-translation: "false"` of the pod says so, or else that of its Namespace.
//!
//! ```text
//! this node's Pods ─watch──┐
//!                          ├──► OptOuts ──► whether a pod is left out ──► the network part
//! Namespaces ───────watch──┘
//! ```
//!
//! Nothing is said before both lists are complete: what the kernel holds is right until then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use model::PodRef;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::watching::{self, Follower, Keeps, Key, key};

/// The annotation of pods and of Namespaces.
pub const ANNOTATION: &str = "ripstop.dev/socket-translation";

/// What annotations say; those without one aren't kept.
#[derive(Debug)]
pub struct OptOuts {
    known: Mutex<Known>,
    /// How often something changed.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    /// Whether sockets are translated for, by namespace and name.
    pods: BTreeMap<Key, bool>,
    /// The same, by name alone.
    namespaces: BTreeMap<Key, bool>,
    pods_listed: bool,
    namespaces_listed: bool,
}

impl Default for OptOuts {
    fn default() -> OptOuts {
        OptOuts {
            known: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl OptOuts {
    /// Says when something changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether each of these pods is left out; none until everything is known.
    pub fn left_out(&self, pods: &[PodRef]) -> Option<Vec<bool>> {
        let known = self.known();
        if !known.pods_listed || !known.namespaces_listed {
            return None;
        }
        let is_left_out = |pod: &PodRef| {
            let own = known.pods.get(&(pod.namespace.clone(), pod.name.clone()));
            let namespace = || known.namespaces.get(&(String::new(), pod.namespace.clone()));
            !own.or_else(namespace).copied().unwrap_or(true)
        };
        Some(pods.iter().map(is_left_out).collect())
    }

    fn change(&self, change: impl FnOnce(&mut Known) -> bool) {
        if change(&mut self.known()) {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kind that may have the annotation.
trait Annotated: kube::Resource<DynamicType = ()> + Clone + Debug + Send + 'static {
    fn all(known: &mut Known) -> (&mut BTreeMap<Key, bool>, &mut bool);
}

impl Annotated for Pod {
    fn all(known: &mut Known) -> (&mut BTreeMap<Key, bool>, &mut bool) {
        (&mut known.pods, &mut known.pods_listed)
    }
}

impl Annotated for Namespace {
    fn all(known: &mut Known) -> (&mut BTreeMap<Key, bool>, &mut bool) {
        (&mut known.namespaces, &mut known.namespaces_listed)
    }
}

impl<K: Annotated> Keeps<PartialObjectMeta<K>> for OptOuts {
    fn put(&self, object: PartialObjectMeta<K>) {
        let wish = wish(&object);
        self.change(|known| {
            let all = K::all(known).0;
            let before = match wish {
                Some(wish) => all.insert(key(&object), wish),
                None => all.remove(&key(&object)),
            };
            before != wish
        });
    }

    fn gone(&self, object: &PartialObjectMeta<K>) {
        self.change(|known| K::all(known).0.remove(&key(object)).is_some());
    }

    fn listed(&self, listed: &BTreeSet<Key>) {
        self.change(|known| {
            let (all, is_listed) = K::all(known);
            let before = all.len();
            all.retain(|key, _| listed.contains(key));
            !std::mem::replace(is_listed, true) || all.len() != before
        });
    }
}

/// Whether an object asks for its sockets to be translated for, or not to be; none if it says nothing.
fn wish<K: kube::Resource<DynamicType = ()>>(object: &K) -> Option<bool> {
    let text = object.annotations().get(ANNOTATION)?;
    match text.parse() {
        Ok(wish) => Some(wish),
        Err(_) => {
            let (kind, name) = (K::kind(&()), object.name_any());
            warn!(%kind, name, annotation = ANNOTATION, text, "neither \"true\" nor \"false\": it doesn't count");
            None
        }
    }
}

/// Follows the API until `shutdown`, however often it goes away.
pub async fn follow(client: Client, node: String, opt_outs: Arc<OptOuts>, shutdown: CancellationToken) {
    let own = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let (mut pods, mut namespaces) = (Follower::new(&*opt_outs), Follower::new(&*opt_outs));
    // Their metadata alone.
    let all_pods = Api::<PartialObjectMeta<Pod>>::all(client.clone());
    let all_namespaces = Api::<PartialObjectMeta<Namespace>>::all(client);
    tokio::join!(
        watching::follow(all_pods, own, |event| pods.step(event), &shutdown),
        watching::follow(
            all_namespaces,
            watcher::Config::default(),
            |event| namespaces.step(event),
            &shutdown
        ),
    );
}

#[cfg(test)]
impl OptOuts {
    /// As if these were the pods and Namespaces, by namespace, name and what the annotation says.
    pub(crate) fn list(&self, pods: &[(&str, &str, &str)], namespaces: &[(&str, &str)]) {
        let (mut of_pods, mut of_namespaces) = (Follower::new(self), Follower::new(self));
        of_pods.step(watcher::Event::<PartialObjectMeta<Pod>>::Init);
        of_namespaces.step(watcher::Event::<PartialObjectMeta<Namespace>>::Init);
        for (namespace, name, text) in pods {
            of_pods.step(watcher::Event::InitApply(tests::object::<Pod>(
                namespace, name, text,
            )));
        }
        for (name, text) in namespaces {
            of_namespaces.step(watcher::Event::InitApply(tests::object::<Namespace>(
                "", name, text,
            )));
        }
        of_pods.step(watcher::Event::<PartialObjectMeta<Pod>>::InitDone);
        of_namespaces.step(watcher::Event::<PartialObjectMeta<Namespace>>::InitDone);
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    pub(super) fn object<K>(namespace: &str, name: &str, text: &str) -> PartialObjectMeta<K> {
        let annotations = match text {
            "" => json!({}),
            text => json!({ANNOTATION: text}),
        };
        let mut object = json!({"metadata": {"name": name, "annotations": annotations}});
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        serde_json::from_value(object).expect("an object's metadata")
    }

    fn left_out(opt_outs: &OptOuts, pods: &[(&str, &str)]) -> Option<Vec<bool>> {
        let pods = pods.iter().map(|(namespace, name)| PodRef {
            namespace: (*namespace).to_owned(),
            name: (*name).to_owned(),
            uid: String::new(),
        });
        opt_outs.left_out(&pods.collect::<Vec<_>>())
    }

    #[test]
    fn a_pods_own_word_counts_before_its_namespaces() {
        let opt_outs = OptOuts::default();
        let all = [
            ("mesh", "a"),
            ("mesh", "b"),
            ("shop", "a"),
            ("shop", "b"),
            ("shop", "c"),
        ];
        assert_eq!(left_out(&opt_outs, &all), None, "nothing is known");
        let pods = [
            ("mesh", "a", "true"),
            ("shop", "a", "false"),
            ("shop", "b", "no"),
            ("shop", "c", ""),
        ];
        opt_outs.list(&pods, &[("mesh", "false"), ("shop", "")]);
        assert_eq!(
            left_out(&opt_outs, &all),
            Some(vec![false, true, true, false, false])
        );
    }

    #[test]
    fn only_what_changes_something_is_told() {
        let opt_outs = OptOuts::default();
        opt_outs.list(&[("shop", "a", "false")], &[]);
        let mut changes = opt_outs.changes();
        let mut follower = Follower::new(&opt_outs);
        follower.step(Event::Apply(object::<Pod>("shop", "a", "false")));
        follower.step(Event::Apply(object::<Pod>("shop", "b", "")));
        assert!(!changes.has_changed().expect("open"));
        follower.step(Event::Apply(object::<Pod>("shop", "a", "")));
        assert!(changes.has_changed().expect("open"));
        changes.mark_unchanged();
        assert_eq!(left_out(&opt_outs, &[("shop", "a")]), Some(vec![false]));
        follower.step(Event::Apply(object::<Pod>("shop", "a", "false")));
        follower.step(Event::Delete(object::<Pod>("shop", "a", "false")));
        assert_eq!(left_out(&opt_outs, &[("shop", "a")]), Some(vec![false]));
        // Gone while the API was away.
        follower.step(Event::Apply(object::<Pod>("shop", "a", "false")));
        changes.mark_unchanged();
        follower.step(Event::<PartialObjectMeta<Pod>>::Init);
        follower.step(Event::<PartialObjectMeta<Pod>>::InitDone);
        assert!(changes.has_changed().expect("open"));
    }
}
