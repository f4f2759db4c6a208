//! A pod as decisions see it, read once.

use std::collections::{BTreeMap, HashMap};

use controllers::informer::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Affinity, Pod, PodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Expression, Selector, SelectorExt};

use crate::requests::Requests;

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;
/// The labels of every namespace.
pub(crate) type Namespaces = HashMap<String, Labels>;

/// What decisions need to know of a pod, whether it waits for a node or has one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Info {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) labels: Labels,
    pub(crate) priority: i32,
    /// When its kubelet began with it.
    pub(crate) started: Option<Timestamp>,
    pub(crate) requests: Requests,
    /// Pods of the same kin are spread over the nodes.
    pub(crate) kin: Option<String>,
    /// It was deleted, and goes as soon as it has ended.
    pub(crate) leaving: bool,
    /// Pods that must be near.
    pub(crate) affinity: Vec<Term>,
    /// Pods that must not be near.
    pub(crate) anti_affinity: Vec<Term>,
    /// Pods that had better be near, or, of a negative weight, had better not.
    pub(crate) preferred: Vec<(i64, Term)>,
}

impl Info {
    pub(crate) fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
        let mut info = Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            priority: spec.and_then(|spec| spec.priority).unwrap_or(0),
            started: status.and_then(|status| Some(status.start_time.as_ref()?.0)),
            requests: Requests::of(pod),
            kin: kin(pod),
            leaving: meta.deletion_timestamp.is_some(),
            ..Self::default()
        };
        if let Some(affinity) = spec.and_then(|spec| spec.affinity.as_ref()) {
            info.read(affinity);
        }
        info
    }

    fn read(&mut self, affinity: &Affinity) {
        if let Some(near) = &affinity.pod_affinity {
            let required = near.required_during_scheduling_ignored_during_execution.iter();
            self.affinity = required.flatten().map(|term| self.term(term)).collect();
            for term in near
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
            {
                let weighted = (i64::from(term.weight), self.term(&term.pod_affinity_term));
                self.preferred.push(weighted);
            }
        }
        if let Some(far) = &affinity.pod_anti_affinity {
            let required = far.required_during_scheduling_ignored_during_execution.iter();
            self.anti_affinity = required.flatten().map(|term| self.term(term)).collect();
            for term in far
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
            {
                let weighted = (-i64::from(term.weight), self.term(&term.pod_affinity_term));
                self.preferred.push(weighted);
            }
        }
    }

    fn term(&self, term: &PodAffinityTerm) -> Term {
        let mut selector = term.label_selector.as_ref().and_then(selector);
        if let Some(selector) = &mut selector {
            let same = self.values(term.match_label_keys.as_deref());
            selector.extend(same.map(|(key, value)| Expression::In(key, [value].into())));
            let other = self.values(term.mismatch_label_keys.as_deref());
            selector.extend(other.map(|(key, value)| Expression::NotIn(key, [value].into())));
        }
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(self.namespace.clone());
        }
        Term {
            topology_key: term.topology_key.clone(),
            selector,
            namespaces,
            namespace_selector: term.namespace_selector.as_ref().and_then(self::selector),
        }
    }

    /// The pod's own labels of these keys; those that it doesn't have don't count.
    pub(crate) fn values<'a>(
        &'a self,
        keys: Option<&'a [String]>,
    ) -> impl Iterator<Item = (String, String)> + 'a {
        let keys = keys.unwrap_or_default().iter();
        keys.filter_map(|key| Some((key.clone(), self.labels.get(key)?.clone())))
    }

    /// Whether something about other pods decides where this one can be.
    pub(crate) fn looks_at_pods(&self) -> bool {
        !self.affinity.is_empty() || !self.anti_affinity.is_empty()
    }
}

/// Pods, and what counts as being near them.
#[derive(Debug, Clone)]
pub(crate) struct Term {
    /// Nodes with the same value of this label are near each other.
    pub(crate) topology_key: String,
    /// No selector selects no pod.
    selector: Option<Selector>,
    namespaces: Vec<String>,
    namespace_selector: Option<Selector>,
}

impl Term {
    /// Whether the term is about this pod.
    pub(crate) fn selects(&self, pod: &Info, namespaces: &Namespaces) -> bool {
        let by_namespace = || {
            let selector = self.namespace_selector.as_ref()?;
            Some(selector.matches(namespaces.get(&pod.namespace)?))
        };
        (self.namespaces.contains(&pod.namespace) || by_namespace() == Some(true))
            && self
                .selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&pod.labels))
    }
}

/// A selector that the API server has checked.
pub(crate) fn selector(selector: &LabelSelector) -> Option<Selector> {
    selector.clone().try_into().ok()
}

/// What a pod is one of many of: its controller's, or, without one, those with its labels.
fn kin(pod: &Pod) -> Option<String> {
    let meta = &pod.metadata;
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    if let Some(controller) = owners.iter().find(|owner| owner.controller == Some(true)) {
        return Some(controller.uid.clone());
    }
    let labels = meta.labels.as_ref().filter(|labels| !labels.is_empty())?;
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    Some(format!("{namespace}/{}", labels.join(",")))
}

/// The place of a pod.
impl From<&Info> for Key {
    fn from(info: &Info) -> Self {
        Self::new(&info.namespace, &info.name)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn info(namespace: &str, labels: Value, affinity: Value) -> Info {
        let pod = json!({
            "metadata": { "name": "p", "namespace": namespace, "labels": labels },
            "spec": { "containers": [], "affinity": affinity },
        });
        Info::of(&serde_json::from_value(pod).unwrap())
    }

    /// The one term of a pod of namespace `here` with the labels `app=web` and `version=2`.
    fn term(term: Value) -> Term {
        let mut whole = json!({ "topologyKey": "zone" });
        json_patch::merge(&mut whole, &term);
        let required = json!({ "podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [whole] } });
        let mut info = info("here", json!({ "app": "web", "version": "2" }), required);
        info.affinity.remove(0)
    }

    #[rstest]
    #[case::labels(json!({ "labelSelector": { "matchLabels": { "app": "db" } } }), true)]
    #[case::other_labels(json!({ "labelSelector": { "matchLabels": { "app": "web" } } }), false)]
    #[case::every_pod(json!({ "labelSelector": {} }), true)]
    #[case::no_selector(json!({}), false)]
    #[case::same_version(json!({ "labelSelector": {}, "matchLabelKeys": ["version"] }), false)]
    #[case::another_version(json!({ "labelSelector": {}, "mismatchLabelKeys": ["version"] }), true)]
    #[case::a_key_that_the_pod_lacks(json!({ "labelSelector": {}, "matchLabelKeys": ["x"] }), true)]
    #[case::elsewhere(json!({ "labelSelector": {}, "namespaces": ["there"] }), false)]
    #[case::every_namespace(json!({ "labelSelector": {}, "namespaceSelector": {} }), true)]
    #[case::namespaces_of_a_team(json!({ "labelSelector": {},
        "namespaceSelector": { "matchLabels": { "team": "a" } } }), true)]
    #[case::namespaces_of_another(json!({ "labelSelector": {},
        "namespaceSelector": { "matchLabels": { "team": "b" } } }), false)]
    #[case::either(json!({ "labelSelector": {}, "namespaces": ["here"],
        "namespaceSelector": { "matchLabels": { "team": "b" } } }), true)]
    fn a_term_selects_pods(#[case] changes: Value, #[case] expected: bool) {
        let other = info("here", json!({ "app": "db", "version": "1" }), json!({}));
        let namespaces = [("here".to_owned(), [("team".to_owned(), "a".to_owned())].into())].into();
        assert_eq!(term(changes).selects(&other, &namespaces), expected);
    }

    #[test]
    fn preferences_have_signs() {
        let weighted = |weight: i64| {
            json!({ "preferredDuringSchedulingIgnoredDuringExecution": [
                { "weight": weight, "podAffinityTerm": { "topologyKey": "zone" } } ] })
        };
        let affinity = json!({ "podAffinity": weighted(3), "podAntiAffinity": weighted(5) });
        let info = info("here", json!({}), affinity);
        let weights: Vec<_> = info.preferred.iter().map(|(weight, _)| *weight).collect();
        assert_eq!(weights, [3, -5]);
    }
}
