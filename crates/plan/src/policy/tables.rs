//! The kernel's tables, and what changes in them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{ClassId, RuleId, SetId};

/// What the kernel holds for policies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyTables {
    /// By the address of each pod of this node. One that isn't here is kept from everything.
    pub isolation: BTreeMap<IpAddr, Isolation>,
    /// What addresses are, of those that aren't as the block around them.
    pub classes: BTreeMap<IpAddr, ClassId>,
    /// What blocks of addresses are: the longest match counts.
    pub blocks: BTreeMap<IpNet, ClassId>,
    /// What is allowed.
    pub rules: BTreeMap<RuleKey, RuleId>,
    /// What is allowed of ranges of ports: the longest match counts.
    pub ranges: BTreeMap<RangeKey, RuleId>,
}

/// What holds for a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Isolation {
    /// Of what comes to it.
    pub ingress: SetId,
    /// Of what it sends.
    pub egress: SetId,
}

/// What a rule is looked up by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleKey {
    /// The pod's set in that direction.
    pub set: SetId,
    /// The peer's class, or [`ClassId::ANY`] for any peer.
    pub class: ClassId,
    /// The protocol's number; 0 with port 0 is everything.
    pub protocol: u8,
    /// The receiver's port; 0 is all.
    pub port: u16,
}

/// What a rule for a range of ports is looked up by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeKey {
    /// The pod's set in that direction.
    pub set: SetId,
    /// The peer's class, or [`ClassId::ANY`] for any peer.
    pub class: ClassId,
    /// The protocol's number.
    pub protocol: u8,
    /// The first of the ports.
    pub port: u16,
    /// How many of the port's bits count.
    pub bits: u8,
}

/// What to write so that the kernel's tables become what they are to be.
///
/// In this order each step is safe: rules and ranges are put, then classes and blocks, then
/// isolation; then conversations are judged anew; then isolation, classes, blocks, rules and ranges
/// are removed. A rule may be put and removed by one change: it's needed between the steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyChange {
    /// Of `isolation`.
    pub isolation: Delta<IpAddr, Isolation>,
    /// Of `classes`.
    pub classes: Delta<IpAddr, ClassId>,
    /// Of `blocks`.
    pub blocks: Delta<IpNet, ClassId>,
    /// Of `rules`.
    pub rules: Delta<RuleKey, RuleId>,
    /// Of `ranges`.
    pub ranges: Delta<RangeKey, RuleId>,
}

/// What changes in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta<K, V> {
    /// Entries to write, over others of the same key.
    pub put: Vec<(K, V)>,
    /// Entries to remove, after all that is put anywhere.
    pub removed: Vec<K>,
}

impl<K, V> Default for Delta<K, V> {
    fn default() -> Self {
        Delta {
            put: Vec::new(),
            removed: Vec::new(),
        }
    }
}

impl<K, V> Delta<K, V> {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.removed.is_empty()
    }

    /// How many entries change.
    pub fn len(&self) -> usize {
        self.put.len() + self.removed.len()
    }
}

impl PolicyChange {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries change.
    pub fn len(&self) -> usize {
        self.isolation.len() + self.classes.len() + self.blocks.len() + self.rules.len() + self.ranges.len()
    }
}

impl PolicyTables {
    /// What leads from what the kernel holds to what it's to hold.
    pub fn diff(held: &PolicyTables, wanted: &PolicyTables) -> PolicyChange {
        PolicyChange {
            isolation: delta(&held.isolation, &wanted.isolation),
            classes: delta(&held.classes, &wanted.classes),
            blocks: delta(&held.blocks, &wanted.blocks),
            rules: delta(&held.rules, &wanted.rules),
            ranges: delta(&held.ranges, &wanted.ranges),
        }
    }

    /// Writes a change.
    pub fn apply(&mut self, change: &PolicyChange) {
        apply(&mut self.isolation, &change.isolation);
        apply(&mut self.classes, &change.classes);
        apply(&mut self.blocks, &change.blocks);
        apply(&mut self.rules, &change.rules);
        apply(&mut self.ranges, &change.ranges);
    }
}

fn delta<K: Ord + Copy, V: PartialEq + Copy>(held: &BTreeMap<K, V>, wanted: &BTreeMap<K, V>) -> Delta<K, V> {
    let put = wanted.iter().filter(|(key, value)| held.get(key) != Some(value));
    let removed = held.keys().filter(|key| !wanted.contains_key(key));
    Delta {
        put: put.map(|(key, value)| (*key, *value)).collect(),
        removed: removed.copied().collect(),
    }
}

fn apply<K: Ord + Copy, V: Copy>(table: &mut BTreeMap<K, V>, delta: &Delta<K, V>) {
    table.extend(delta.put.iter().copied());
    for key in &delta.removed {
        table.remove(key);
    }
}

/// A table that knows what has changed in it since it was last asked.
#[derive(Debug)]
pub(super) struct Tracked<K, V> {
    now: BTreeMap<K, V>,
    put: BTreeMap<K, V>,
    removed: BTreeSet<K>,
}

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Tracked {
            now: BTreeMap::new(),
            put: BTreeMap::new(),
            removed: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy, V: PartialEq + Copy> Tracked<K, V> {
    pub(super) fn put(&mut self, key: K, value: V) {
        if self.now.insert(key, value) != Some(value) || self.removed.contains(&key) {
            self.removed.remove(&key);
            self.put.insert(key, value);
        }
    }

    pub(super) fn remove(&mut self, key: K) {
        if self.now.remove(&key).is_some() {
            self.removed.insert(key);
        }
    }

    pub(super) fn set(&mut self, key: K, value: Option<V>) {
        match value {
            Some(value) => self.put(key, value),
            None => self.remove(key),
        }
    }

    pub(super) fn now(&self) -> &BTreeMap<K, V> {
        &self.now
    }

    pub(super) fn take(&mut self) -> Delta<K, V> {
        Delta {
            put: std::mem::take(&mut self.put).into_iter().collect(),
            removed: std::mem::take(&mut self.removed).into_iter().collect(),
        }
    }
}
