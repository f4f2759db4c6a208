//! Writes slices, and remembers which writes the cache doesn't show yet: who packs endpoints by an old view puts
//! them into two slices.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::owner_of;
use super::pack::Action;
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Change, Informer, Key};

/// Writes, and what is known of slices. Clones share it.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
    /// The label that says whose slices these are.
    manager: &'static str,
    slices: Cache<EndpointSlice>,
    inner: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// The slices of each owner, as the cache has them.
    slices: HashMap<Key, Vec<Key>>,
    /// By slice: what is still to be seen.
    unseen: HashMap<Key, Unseen>,
    /// Owners that somebody wanted to look at too early.
    waiting: HashSet<Key>,
}

struct Unseen {
    owner: Key,
    /// Of this generation or a later one; `None` for gone.
    generation: Option<i64>,
}

impl Writer {
    pub(super) fn new(
        client: Client,
        manager: &'static str,
        slices: &mut Informer<EndpointSlice>,
        changed: impl Fn(Key) + Send + Sync + 'static,
    ) -> Self {
        let writer = Self {
            client,
            manager,
            slices: slices.cache(),
            inner: Arc::default(),
        };
        let this = writer.clone();
        slices.on_change(move |change| {
            if let Some(owner) = this.slice_changed(change) {
                changed(owner);
            }
        });
        writer
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner
            .lock()
            .expect("no code panics while it holds the index")
    }

    /// The owner whose slices somebody else changed, or about whom it can be decided again.
    fn slice_changed(&self, change: &Change<EndpointSlice>) -> Option<Key> {
        let slice = change.object();
        let key = Key::of(&**slice);
        let mut known = self.known();
        let owners = match change {
            Change::Updated { old, new } => [self.owned(old), self.owned(new)],
            _ => [None, self.owned(slice)],
        };
        let [before, now] = owners;
        if let Some(before) = before.filter(|before| Some(before) != now.as_ref()) {
            known.forget(&before, &key);
        }
        let owner = now?;
        let seen = match change {
            Change::Deleted(_) => {
                known.forget(&owner, &key);
                None
            }
            _ => {
                let slices = known.slices.entry(owner.clone()).or_default();
                if !slices.contains(&key) {
                    slices.push(key.clone());
                }
                slice.metadata.generation
            }
        };
        let expected = known.unseen.get(&key).map(|unseen| unseen.generation);
        match (expected, seen) {
            (None, _) => return Some(owner),
            // A state from before.
            (Some(None), Some(_)) => return None,
            (Some(expected), Some(_)) if seen < expected => return None,
            // What was written, or deleted meanwhile.
            _ => {}
        }
        known.unseen.remove(&key);
        let lags = known.lags(&owner);
        (!lags && known.waiting.remove(&owner)).then_some(owner)
    }

    fn owned(&self, slice: &EndpointSlice) -> Option<Key> {
        owner_of(slice)
            .filter(|(_, manager)| *manager == self.manager)
            .map(|(owner, _)| owner)
    }

    /// The owner's slices; nothing, as long as the cache lags behind what was written: the owner is woken then.
    pub(super) fn slices_of(&self, owner: &Key) -> Option<Vec<Arc<EndpointSlice>>> {
        let mut known = self.known();
        if known.lags(owner) {
            known.waiting.insert(owner.clone());
            return None;
        }
        let slices = known.slices.get(owner).into_iter().flatten();
        let mut slices: Vec<_> = slices.filter_map(|key| self.slices.get(key)).collect();
        slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Some(slices)
    }

    /// Every owner that has slices.
    pub(super) fn owners(&self) -> Vec<Key> {
        self.known().slices.keys().cloned().collect()
    }

    /// Does the writes; those that make endpoints known come first.
    pub(super) async fn apply(&self, owner: &Key, actions: Vec<Action>) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &owner.namespace);
        for action in actions {
            match action {
                Action::Create(slice) => {
                    let made = api.create(&PostParams::default(), &slice).await;
                    let made = made.doing(|| format!("create an EndpointSlice of {owner}"))?;
                    self.expect(owner, &made);
                }
                Action::Update(slice) => {
                    let name = slice.metadata.name.clone().unwrap_or_default();
                    let written = api.replace(&name, &PostParams::default(), &slice).await;
                    let written =
                        written.doing(|| format!("update EndpointSlice {}/{name}", owner.namespace))?;
                    self.expect(owner, &written);
                }
                Action::Delete(slice) => self.delete(&api, owner, &slice).await?,
            }
        }
        Ok(())
    }

    async fn delete(
        &self,
        api: &Api<EndpointSlice>,
        owner: &Key,
        slice: &EndpointSlice,
    ) -> Result<(), Error> {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let same = Preconditions {
            uid: slice.metadata.uid.clone(),
            resource_version: None,
        };
        let deleted = api
            .delete(name, &DeleteParams::default().preconditions(same))
            .await;
        let deleted = deleted.doing(|| format!("delete EndpointSlice {}/{name}", owner.namespace));
        if ignore_missing(deleted)?.is_some() {
            let key = Key::of(slice);
            let mut known = self.known();
            if self.slices.get(&key).is_some() {
                known.expect(owner, key, None);
            }
        }
        Ok(())
    }

    fn expect(&self, owner: &Key, written: &EndpointSlice) {
        let (key, generation) = (Key::of(written), written.metadata.generation);
        let mut known = self.known();
        let cached = self
            .slices
            .get(&key)
            .filter(|slice| slice.metadata.uid == written.metadata.uid);
        if cached.and_then(|slice| slice.metadata.generation) < generation {
            known.expect(owner, key, generation);
        }
    }
}

impl Known {
    fn expect(&mut self, owner: &Key, slice: Key, generation: Option<i64>) {
        let owner = owner.clone();
        self.unseen.insert(slice, Unseen { owner, generation });
    }

    fn lags(&self, owner: &Key) -> bool {
        self.unseen.values().any(|unseen| unseen.owner == *owner)
    }

    fn forget(&mut self, owner: &Key, slice: &Key) {
        if let Some(slices) = self.slices.get_mut(owner) {
            slices.retain(|known| known != slice);
            if slices.is_empty() {
                self.slices.remove(owner);
            }
        }
    }
}
