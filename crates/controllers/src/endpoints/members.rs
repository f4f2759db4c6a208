//! Who selects whom: the pods of each Service, kept up with every change, so that one pod's change costs the
//! Services that select it and no others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::api::core::v1::{Pod, Service};

use super::{pod, selects};
use crate::informer::{Cache, Change, Key};

type Labels = BTreeMap<String, String>;
/// A namespace, a label and its value.
type Pair = (String, String, String);

/// The index. Clones share it.
#[derive(Clone)]
pub(crate) struct Members {
    pods: Cache<Pod>,
    inner: Arc<Mutex<Index>>,
}

#[derive(Default)]
struct Index {
    selectors: HashMap<Key, Labels>,
    /// Each Service under one pair of its selector: a pod is compared with those of its own labels only.
    by_pair: HashMap<Pair, HashSet<Key>>,
    pods: HashMap<Key, BTreeSet<String>>,
    /// Before that, pods are looked at once for all Services rather than once for each.
    loaded: bool,
}

impl Members {
    pub(crate) fn new(pods: Cache<Pod>) -> Self {
        Self {
            pods,
            inner: Arc::default(),
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.inner
            .lock()
            .expect("no code panics while it holds the index")
    }

    /// Looks at all pods that are there. Before that, no Service has any.
    pub(crate) fn load(&self) {
        // Whoever changes now waits, and is looked at once more.
        let mut index = self.index();
        for pod in self.pods.list() {
            index.add(&pod);
        }
        index.loaded = true;
    }

    pub(super) fn service_changed(&self, change: &Change<Service>) {
        let service = change.object();
        let key = Key::of(&**service);
        let selector = match change {
            Change::Deleted(_) => None,
            _ if !selects(service) => None,
            _ => service.spec.as_ref().and_then(|spec| spec.selector.clone()),
        };
        let mut index = self.index();
        if index.selectors.get(&key) == selector.as_ref() {
            return;
        }
        index.forget(&key);
        let Some(selector) = selector else { return };
        let members = if index.loaded {
            let pods = self.pods.in_namespace(&key.namespace);
            let members = pods.iter().filter(|pod| matches(&selector, pod));
            members.map(|pod| name(pod)).collect()
        } else {
            BTreeSet::new()
        };
        index.insert(key, selector, members);
    }

    /// The Services for which a pod's change matters.
    pub(super) fn pod_changed(&self, change: &Change<Pod>) -> BTreeSet<Key> {
        let mut index = self.index();
        if !index.loaded {
            return BTreeSet::new();
        }
        match change {
            Change::Added(pod) => index.add(pod),
            Change::Deleted(pod) => index.remove(pod),
            Change::Updated { old, new } if old.metadata.labels == new.metadata.labels => {
                if pod::differs(old, new) {
                    index.selecting(new)
                } else {
                    BTreeSet::new()
                }
            }
            Change::Updated { old, new } => {
                let mut services = index.remove(old);
                services.extend(index.add(new));
                services
            }
        }
    }

    /// The pods of a Service, in the order of their names.
    pub(super) fn of(&self, service: &Key) -> Vec<Arc<Pod>> {
        let names: Vec<String> = {
            let index = self.index();
            index.pods.get(service).into_iter().flatten().cloned().collect()
        };
        let pods = names
            .iter()
            .map(|name| self.pods.get(&Key::new(&service.namespace, name)));
        pods.flatten().collect()
    }
}

impl Index {
    fn insert(&mut self, service: Key, selector: Labels, members: BTreeSet<String>) {
        let pairs = selector
            .iter()
            .map(|(label, value)| pair(&service.namespace, label, value));
        // Labels that all have in common tell nothing.
        let rarest = pairs.min_by_key(|pair| self.by_pair.get(pair).map_or(0, HashSet::len));
        if let Some(pair) = rarest {
            self.by_pair.entry(pair).or_default().insert(service.clone());
        }
        if !members.is_empty() {
            self.pods.insert(service.clone(), members);
        }
        self.selectors.insert(service, selector);
    }

    fn forget(&mut self, service: &Key) {
        let Some(selector) = self.selectors.remove(service) else {
            return;
        };
        self.pods.remove(service);
        for (label, value) in &selector {
            let pair = pair(&service.namespace, label, value);
            if let Some(services) = self.by_pair.get_mut(&pair) {
                services.remove(service);
                if services.is_empty() {
                    self.by_pair.remove(&pair);
                }
            }
        }
    }

    fn selecting(&self, pod: &Pod) -> BTreeSet<Key> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let labels = pod.metadata.labels.iter().flatten();
        let candidates = labels.filter_map(|(label, value)| self.by_pair.get(&pair(namespace, label, value)));
        let selects = |service: &&Key| {
            let selector = self.selectors.get(*service);
            selector.is_some_and(|selector| matches(selector, pod))
        };
        candidates.flatten().filter(selects).cloned().collect()
    }

    fn add(&mut self, pod: &Pod) -> BTreeSet<Key> {
        let services = self.selecting(pod);
        for service in &services {
            self.pods.entry(service.clone()).or_default().insert(name(pod));
        }
        services
    }

    fn remove(&mut self, pod: &Pod) -> BTreeSet<Key> {
        let services = self.selecting(pod);
        for service in &services {
            if let Some(pods) = self.pods.get_mut(service) {
                pods.remove(&name(pod));
                if pods.is_empty() {
                    self.pods.remove(service);
                }
            }
        }
        services
    }
}

fn pair(namespace: &str, label: &str, value: &str) -> Pair {
    (namespace.to_owned(), label.to_owned(), value.to_owned())
}

fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

fn matches(selector: &Labels, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    let mut pairs = selector.iter();
    pairs.all(|(label, value)| labels.and_then(|labels| labels.get(label)) == Some(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn service(name: u8, selector: &[(u8, u8)]) -> Arc<Service> {
        let selector: Labels = selector
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        let object = json!({ "metadata": { "namespace": "n", "name": name.to_string() },
            "spec": { "selector": selector } });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn labelled(name: u8, labels: &[(u8, u8)]) -> Arc<Pod> {
        let labels: Labels = labels
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        let object = json!({ "metadata": { "namespace": "n", "name": name.to_string(), "labels": labels } });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[derive(Debug, Clone)]
    enum Step {
        Service(u8, Vec<(u8, u8)>),
        NoService(u8),
        Pod(u8, Vec<(u8, u8)>),
        NoPod(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let labels = || prop::collection::vec((0..3u8, 0..2u8), 0..3);
        prop_oneof![
            (0..5u8, labels()).prop_map(|(name, labels)| Step::Service(name, labels)),
            (0..5u8).prop_map(Step::NoService),
            (0..8u8, labels()).prop_map(|(name, labels)| Step::Pod(name, labels)),
            (0..8u8).prop_map(Step::NoPod),
        ]
    }

    fn change<K>(old: Option<Arc<K>>, new: Option<Arc<K>>) -> Option<Change<K>> {
        match (old, new) {
            (None, None) => None,
            (None, Some(new)) => Some(Change::Added(new)),
            (Some(old), None) => Some(Change::Deleted(old)),
            (Some(old), Some(new)) => Some(Change::Updated { old, new }),
        }
    }

    proptest! {
        #[test]
        fn a_service_has_the_pods_that_it_selects(steps in prop::collection::vec(step(), 0..60), load in 0..60usize) {
            let mut services: BTreeMap<u8, Arc<Service>> = BTreeMap::new();
            let mut pods: BTreeMap<u8, Arc<Pod>> = BTreeMap::new();
            let mut index = Index::default();
            for (number, step) in steps.iter().enumerate() {
                if number == load {
                    for pod in pods.values() { index.add(pod); }
                    index.loaded = true;
                }
                match step {
                    Step::Service(name, selector) => { services.insert(*name, service(*name, selector)); }
                    Step::NoService(name) => { services.remove(name); }
                    Step::Pod(..) | Step::NoPod(_) => {}
                }
                if let Step::Service(name, _) | Step::NoService(name) = step {
                    let key = Key::new("n", &name.to_string());
                    index.forget(&key);
                    if let Some(service) = services.get(name).filter(|service| selects(service)) {
                        let selector = service.spec.clone().unwrap().selector.unwrap();
                        let members = if index.loaded {
                            pods.values().filter(|pod| matches(&selector, pod)).map(|pod| super::name(pod)).collect()
                        } else {
                            BTreeSet::new()
                        };
                        index.insert(key, selector, members);
                    }
                }
                if let Step::Pod(name, _) | Step::NoPod(name) = step {
                    let new = match step {
                        Step::Pod(name, labels) => Some(labelled(*name, labels)),
                        _ => None,
                    };
                    let old: Option<Arc<Pod>> = match new.clone() {
                        Some(new) => pods.insert(*name, new),
                        None => pods.remove(name),
                    };
                    if index.loaded {
                        match change(old, new) {
                            Some(Change::Added(pod)) => { index.add(&pod); }
                            Some(Change::Deleted(pod)) => { index.remove(&pod); }
                            Some(Change::Updated { old, new }) => { index.remove(&old); index.add(&new); }
                            None => {}
                        }
                    }
                }
                if index.loaded {
                    for service in services.values().filter(|service| selects(service)) {
                        let selector = service.spec.as_ref().unwrap().selector.as_ref().unwrap();
                        let expected: BTreeSet<_> = pods.values().filter(|pod| matches(selector, pod)).map(|pod| super::name(pod)).collect();
                        let found = index.pods.get(&Key::of(&**service)).cloned().unwrap_or_default();
                        prop_assert_eq!(found, expected);
                    }
                    let known: usize = index.by_pair.values().map(HashSet::len).sum();
                    prop_assert_eq!(known, services.values().filter(|service| selects(service)).count());
                }
            }
        }
    }
}
