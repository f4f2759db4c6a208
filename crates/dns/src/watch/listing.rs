//! Watch events as changes: what a new list doesn't have any more is gone.

use std::collections::HashSet;

use kube::Resource;
use kube::runtime::watcher::Event;

use crate::object;
use crate::record::Key;

/// The objects of a kind that are known.
#[derive(Debug, Default)]
pub(super) struct Listing {
    known: HashSet<Key>,
    /// Those of a list that is being read.
    listed: Option<HashSet<Key>>,
}

/// What came of an event.
#[derive(Debug)]
pub(super) struct Step<K> {
    pub(super) put: Option<K>,
    pub(super) gone: Vec<Key>,
    /// Whether everything is known now.
    pub(super) whole: bool,
}

impl Listing {
    /// What is known from elsewhere.
    pub(super) fn of(known: impl IntoIterator<Item = Key>) -> Listing {
        Listing {
            known: known.into_iter().collect(),
            listed: None,
        }
    }

    pub(super) fn step<K: Resource>(&mut self, event: Event<K>) -> Step<K> {
        let (mut put, mut gone) = (None, Vec::new());
        match event {
            Event::Init => self.listed = Some(HashSet::new()),
            Event::InitApply(found) => {
                let key = object::key(found.meta());
                self.listed.get_or_insert_default().insert(key.clone());
                self.known.insert(key);
                put = Some(found);
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                gone.extend(self.known.difference(&listed).cloned());
                self.known = listed;
            }
            Event::Apply(found) => {
                self.known.insert(object::key(found.meta()));
                put = Some(found);
            }
            Event::Delete(found) => {
                let key = object::key(found.meta());
                self.known.remove(&key);
                gone.push(key);
            }
        }
        Step {
            put,
            gone,
            whole: self.listed.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;

    use super::*;

    fn named(name: &str) -> Namespace {
        let mut object = Namespace::default();
        object.metadata.name = Some(name.to_owned());
        object
    }

    #[test]
    fn what_a_new_list_lacks_is_gone_when_it_is_complete() {
        let key = |name: &str| (String::new(), name.to_owned());
        let mut listing = Listing::of([key("remembered"), key("kept")]);
        assert!(!listing.step(Event::<Namespace>::Init).whole);
        let step = listing.step(Event::InitApply(named("kept")));
        assert!(step.put.is_some() && step.gone.is_empty() && !step.whole);
        let step = listing.step(Event::<Namespace>::InitDone);
        assert_eq!(step.gone, [key("remembered")]);
        assert!(step.whole);
        assert_eq!(listing.step(Event::Delete(named("kept"))).gone, [key("kept")]);
    }
}
