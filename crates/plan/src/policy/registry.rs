//! What ids stand for, and how often it's used.
//!
//! Two things with one id are both taken for nothing: what is allowed because of an id must be what
//! was meant by it.

use std::collections::{BTreeMap, BTreeSet};

/// Things by their ids.
#[derive(Debug)]
pub(super) struct Registry<I, T> {
    entries: BTreeMap<I, Vec<(T, usize)>>,
    touched: BTreeSet<I>,
}

impl<I, T> Default for Registry<I, T> {
    fn default() -> Self {
        Registry {
            entries: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
    }
}

impl<I: Ord + Copy, T: PartialEq> Registry<I, T> {
    /// One more uses the thing.
    pub(super) fn add(&mut self, id: I, thing: T) {
        self.touched.insert(id);
        let entry = self.entries.entry(id).or_default();
        match entry.iter_mut().find(|(held, _)| *held == thing) {
            Some((_, users)) => *users += 1,
            None => entry.push((thing, 1)),
        }
    }

    /// One less uses it. It's forgotten when it's settled.
    pub(super) fn release(&mut self, id: I, thing: &T) {
        self.touched.insert(id);
        let entry = self.entries.get_mut(&id).into_iter().flatten();
        if let Some((_, users)) = entry.into_iter().find(|(held, _)| held == thing) {
            *users = users.saturating_sub(1);
        }
    }

    /// Forgets what nobody uses, and tells which ids may stand for something else than before.
    pub(super) fn settle(&mut self) -> BTreeSet<I> {
        let touched = std::mem::take(&mut self.touched);
        for id in &touched {
            let is_empty = self.entries.get_mut(id).is_some_and(|entry| {
                entry.retain(|(_, users)| *users > 0);
                entry.is_empty()
            });
            if is_empty {
                self.entries.remove(id);
            }
        }
        touched
    }

    /// What an id stands for; none if it's nothing, or not one thing alone.
    pub(super) fn get(&self, id: I) -> Option<&T> {
        match self.entries.get(&id)?.as_slice() {
            [(thing, _)] => Some(thing),
            _ => None,
        }
    }

    /// All that stand for one thing.
    pub(super) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        let entries = self.entries.iter();
        entries.filter_map(|(id, entry)| match entry.as_slice() {
            [(thing, _)] => Some((*id, thing)),
            _ => None,
        })
    }

    /// Those that don't.
    pub(super) fn collisions(&self) -> impl Iterator<Item = I> {
        let entries = self.entries.iter().filter(|(_, entry)| entry.len() > 1);
        entries.map(|(id, _)| *id)
    }
}
