//! The rules: what sets allow classes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::compile::{Entry, Ports, Rule, Set, entries};
use super::peers::Class;
use super::registry::Registry;
use super::tables::Tracked;
use super::term::TermId;
use super::{ClassId, RangeKey, RuleId, RuleKey, SetId};

#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) rules: Tracked<RuleKey, RuleId>,
    pub(super) ranges: Tracked<RangeKey, RuleId>,
    sets: BTreeMap<SetId, Indexed>,
    classes: BTreeMap<ClassId, Arc<Class>>,
    /// The classes that have a term, and those that have ports with names.
    by_term: BTreeMap<TermId, BTreeSet<ClassId>>,
    with_ports: BTreeSet<ClassId>,
}

/// A set, with its rules by what they ask for.
#[derive(Debug)]
struct Indexed {
    set: Arc<Set>,
    /// By their places in the set's order.
    by_term: BTreeMap<TermId, Vec<usize>>,
    /// For any peer that has a port of some name.
    any_named: Vec<usize>,
}

impl Indexed {
    fn new(set: Arc<Set>) -> Indexed {
        let mut by_term: BTreeMap<TermId, Vec<usize>> = BTreeMap::new();
        let mut any_named = Vec::new();
        for (place, rule) in set.rules().enumerate() {
            for term in rule.peers.iter().flatten() {
                by_term.entry(*term).or_default().push(place);
            }
            let is_named = |ports: &Ports| matches!(ports, Ports::Named(..));
            if rule.peers.is_none() && rule.ports.iter().any(is_named) {
                any_named.push(place);
            }
        }
        Indexed {
            set,
            by_term,
            any_named,
        }
    }

    /// The rules that say something of a class, in order.
    fn about<'a>(&'a self, class: &'a Class) -> Vec<&'a Rule> {
        let named = self.any_named.iter().filter(|_| !class.ports.is_empty());
        let by_term = class.terms.iter().filter_map(|term| self.by_term.get(term));
        let places: BTreeSet<usize> = by_term.flatten().chain(named).copied().collect();
        if places.is_empty() {
            return Vec::new();
        }
        let rules: Vec<&Rule> = self.set.rules().collect();
        places.into_iter().map(|place| rules[place]).collect()
    }
}

impl Rules {
    /// Writes the rules of sets and classes that are new, then takes out those of what is gone. What
    /// is new is written for what is about to go too: between the two an address may have its new
    /// class and a pod its old set.
    pub(super) fn settle(
        &mut self,
        sets: &mut Registry<SetId, Arc<Set>>,
        classes: &mut Registry<ClassId, Arc<Class>>,
    ) {
        let (sets, gone_sets) = changes(sets, |id| self.sets.get(&id).map(|held| &held.set));
        let (classes, gone_classes) = changes(classes, |id| self.classes.get(&id));
        let new_sets: Vec<SetId> = sets.iter().map(|(id, _)| *id).collect();
        let new_classes: Vec<ClassId> = classes.iter().map(|(id, _)| *id).collect();
        // What has an id that was another's may not be mixed up with it.
        for id in new_sets.iter().filter(|id| gone_sets.contains(id)) {
            self.remove_set(*id);
        }
        for id in new_classes.iter().filter(|id| gone_classes.contains(id)) {
            self.remove_class(*id);
        }
        for (id, set) in sets {
            self.sets.insert(id, Indexed::new(set));
        }
        for (id, class) in classes {
            self.add_class(id, class);
        }
        for set in &new_sets {
            self.write_any(*set);
            for class in self.classes_of(*set) {
                self.write(*set, class);
            }
        }
        let all: Vec<SetId> = self
            .sets
            .keys()
            .copied()
            .filter(|id| !new_sets.contains(id))
            .collect();
        for (set, class) in all
            .iter()
            .flat_map(|set| new_classes.iter().map(move |class| (*set, *class)))
        {
            self.write(set, class);
        }
        for id in gone_sets.into_iter().filter(|id| !new_sets.contains(id)) {
            self.remove_set(id);
        }
        for id in gone_classes.into_iter().filter(|id| !new_classes.contains(id)) {
            self.remove_class(id);
        }
    }

    fn add_class(&mut self, id: ClassId, class: Arc<Class>) {
        for term in &class.terms {
            self.by_term.entry(*term).or_default().insert(id);
        }
        if !class.ports.is_empty() {
            self.with_ports.insert(id);
        }
        self.classes.insert(id, class);
    }

    /// The classes that a set says something of.
    fn classes_of(&self, set: SetId) -> BTreeSet<ClassId> {
        let Some(set) = self.sets.get(&set) else {
            return BTreeSet::new();
        };
        let named = self.with_ports.iter().filter(|_| !set.any_named.is_empty());
        let by_term = set.by_term.keys().filter_map(|term| self.by_term.get(term));
        by_term.flatten().chain(named).copied().collect()
    }

    /// What a set allows a class by more than what it allows anybody.
    fn write(&mut self, set: SetId, class: ClassId) {
        let (Some(indexed), Some(content)) = (self.sets.get(&set), self.classes.get(&class)) else {
            return;
        };
        let key = RuleKey {
            set,
            class,
            ..RuleKey::default()
        };
        let mut found: BTreeMap<Entry, RuleId> = BTreeMap::new();
        for rule in indexed.about(content) {
            let mut put = |entry| {
                found.entry(entry).or_insert(rule.id);
            };
            for ports in &rule.ports {
                if let Ports::Named(protocol, name) = ports {
                    let ports = content.ports.iter();
                    let ports = ports.filter(|port| port.name == *name && port.protocol == *protocol);
                    ports.for_each(|port| entries(&Ports::One(*protocol, port.port), key, &mut put));
                } else if rule.peers.is_some() {
                    entries(ports, key, &mut put);
                }
            }
        }
        self.put(found);
    }

    /// What a set allows anybody.
    fn write_any(&mut self, set: SetId) {
        let Some(indexed) = self.sets.get(&set) else {
            return;
        };
        let key = RuleKey {
            set,
            ..RuleKey::default()
        };
        let mut found: BTreeMap<Entry, RuleId> = BTreeMap::new();
        for rule in indexed.set.rules().filter(|rule| rule.peers.is_none()) {
            for ports in &rule.ports {
                entries(ports, key, |entry| {
                    found.entry(entry).or_insert(rule.id);
                });
            }
        }
        self.put(found);
    }

    fn put(&mut self, found: BTreeMap<Entry, RuleId>) {
        for (entry, rule) in found {
            match entry {
                Entry::Rule(key) => self.rules.put(key, rule),
                Entry::Range(key) => self.ranges.put(key, rule),
            }
        }
    }

    fn remove_set(&mut self, id: SetId) {
        self.sets.remove(&id);
        self.remove(id, ClassId(0), ClassId(u64::MAX));
    }

    fn remove_class(&mut self, id: ClassId) {
        if let Some(class) = self.classes.remove(&id) {
            for term in &class.terms {
                let Some(classes) = self.by_term.get_mut(term) else {
                    continue;
                };
                classes.remove(&id);
                if classes.is_empty() {
                    self.by_term.remove(term);
                }
            }
        }
        self.with_ports.remove(&id);
        let sets: Vec<SetId> = self.sets.keys().copied().collect();
        for set in sets {
            self.remove(set, id, id);
        }
    }

    /// Takes out what a set allows some classes.
    fn remove(&mut self, set: SetId, first: ClassId, last: ClassId) {
        let rule = |class, protocol, port| RuleKey {
            set,
            class,
            protocol,
            port,
        };
        let keys = rule(first, 0, 0)..=rule(last, u8::MAX, u16::MAX);
        let keys: Vec<RuleKey> = self.rules.now().range(keys).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.rules.remove(key));
        let range = |class, protocol, port, bits| RangeKey {
            set,
            class,
            protocol,
            port,
            bits,
        };
        let keys = range(first, 0, 0, 0)..=range(last, u8::MAX, u16::MAX, u8::MAX);
        let keys: Vec<RangeKey> = self.ranges.now().range(keys).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.ranges.remove(key));
    }
}

/// What is new in a registry, and what is gone or another.
fn changes<'a, I: Ord + Copy, T: PartialEq + 'a>(
    registry: &mut Registry<I, Arc<T>>,
    held: impl Fn(I) -> Option<&'a Arc<T>>,
) -> (Vec<(I, Arc<T>)>, BTreeSet<I>) {
    let (mut new, mut gone) = (Vec::new(), BTreeSet::new());
    for id in registry.settle() {
        let now = registry.get(id);
        let was = held(id);
        if now == was {
            continue;
        }
        if was.is_some() {
            gone.insert(id);
        }
        new.extend(now.map(|thing| (id, thing.clone())));
    }
    (new, gone)
}
