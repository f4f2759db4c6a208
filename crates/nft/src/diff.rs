//! From what is there to what should be.

use std::collections::BTreeSet;

use crate::batch::digest;
use crate::{Chain, Change, Elements, Entry, Observed, ObservedChain, Table};

/// The changes that lead from what is observed (`None`: no such table) to `table` with `elements`;
/// none if all is as it should be. They belong into one batch.
pub fn diff(observed: Option<&Observed>, table: &Table, elements: &Elements) -> Vec<Change> {
    match observed {
        None => create(table, elements),
        Some(observed) if !compatible(observed, table) => {
            let mut changes = vec![Change::DeleteTable];
            changes.extend(create(table, elements));
            changes
        }
        Some(observed) => update(observed, table, elements),
    }
}

/// Whether the table can be changed piece by piece: sets and base chains can't change their nature.
fn compatible(observed: &Observed, table: &Table) -> bool {
    let sets = table.sets.iter().all(|set| match observed.sets.get(&set.name) {
        Some(found) => found.set.as_ref() == Some(set),
        None => true,
    });
    let chains = table
        .chains
        .iter()
        .all(|chain| match observed.chains.get(&chain.name) {
            Some(found) => found.base == chain.base,
            None => true,
        });
    sets && chains
}

fn create(table: &Table, elements: &Elements) -> Vec<Change> {
    let mut changes = vec![Change::AddTable];
    changes.extend(update(&Observed::default(), table, elements));
    changes
}

fn update(observed: &Observed, table: &Table, elements: &Elements) -> Vec<Change> {
    let mut changes = Vec::new();
    for set in &table.sets {
        let found = observed.sets.get(&set.name);
        if found.is_none() {
            changes.push(Change::AddSet(set.clone()));
        }
        let wanted: BTreeSet<Entry> = elements.of(&set.name);
        let mut held = found.map(|found| found.elements.clone()).unwrap_or_default();
        if found.is_some_and(|found| found.odd) {
            changes.push(Change::FlushSet(set.name.clone()));
            held.clear();
        }
        // Removals first: a new block may cover what an old one does, and a key of a map may lead
        // elsewhere.
        let (remove, add): (Vec<Entry>, Vec<Entry>) = (
            held.difference(&wanted).cloned().collect(),
            wanted.difference(&held).cloned().collect(),
        );
        changes.extend((!remove.is_empty()).then(|| Change::DeleteElements(set.clone(), remove)));
        changes.extend((!add.is_empty()).then(|| Change::AddElements(set.clone(), add)));
    }
    let missing = table
        .chains
        .iter()
        .filter(|chain| !observed.chains.contains_key(&chain.name));
    changes.extend(missing.map(|chain| Change::AddChain(chain.name.clone(), chain.base)));
    for chain in &table.chains {
        rules(&mut changes, observed.chains.get(&chain.name), chain, table);
    }
    remove_surplus(&mut changes, observed, table);
    changes
}

fn rules(changes: &mut Vec<Change>, found: Option<&ObservedChain>, chain: &Chain, table: &Table) {
    let held: Vec<Option<u64>> = found
        .iter()
        .flat_map(|found| &found.rules)
        .map(|rule| rule.digest)
        .collect();
    let wanted: Vec<Option<u64>> = chain
        .rules
        .iter()
        .map(|rule| Some(digest(rule, table.family)))
        .collect();
    if held == wanted {
        return;
    }
    if !held.is_empty() {
        changes.push(Change::FlushChain(chain.name.clone()));
    }
    changes.extend(
        chain
            .rules
            .iter()
            .map(|rule| Change::AddRule(chain.name.clone(), rule.clone())),
    );
}

/// Removes chains and sets that shouldn't be there, once no rule refers to them.
fn remove_surplus(changes: &mut Vec<Change>, observed: &Observed, table: &Table) {
    let surplus: Vec<&String> = observed
        .chains
        .keys()
        .filter(|name| !table.chains.iter().any(|chain| chain.name == **name))
        .collect();
    changes.extend(surplus.iter().map(|name| Change::FlushChain((*name).clone())));
    changes.extend(surplus.iter().map(|name| Change::DeleteChain((*name).clone())));
    let sets = observed
        .sets
        .keys()
        .filter(|name| !table.sets.iter().any(|set| set.name == **name));
    changes.extend(sets.map(|name| Change::DeleteSet(name.clone())));
}
