//! What the kernel says is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::batch::{
    ELEMENT_INTERVAL_END, NEW_CHAIN, NEW_ELEMENTS, NEW_RULE, NEW_SET, NEW_TABLE, SET_INTERVAL, USER_COMMENT,
    USER_DIGEST, attribute as a,
};
use crate::lower::LIST_ELEMENT;
use crate::wire::{attributes, be32, find, string};
use crate::{Base, ChainKind, Family, Hook, Key, KeyType, Place, Policy, Set};

/// A table as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Chains by name.
    pub chains: BTreeMap<String, ObservedChain>,
    /// Sets by name.
    pub sets: BTreeMap<String, ObservedSet>,
}

/// A chain as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedChain {
    /// Where packets enter it.
    pub base: Option<Base>,
    /// Rules, in order.
    pub rules: Vec<ObservedRule>,
}

/// A rule as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedRule {
    /// The kernel's number for it.
    pub handle: u64,
    /// Its note, as in `nft list`.
    pub comment: Option<String>,
    /// The digest that its maker gave it; `None` if that wasn't this crate.
    pub digest: Option<u64>,
}

/// A set as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedSet {
    /// Its definition; `None` if it isn't one that this crate makes.
    pub set: Option<Set>,
    /// Its elements.
    pub elements: BTreeSet<Key>,
    /// Whether it also has elements that this crate wouldn't make.
    pub odd: bool,
}

/// One object of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A table, and whether only the process that made it may change it.
    Table(Place, bool),
    /// A chain.
    Chain(Place, String, Option<Base>),
    /// A rule of a chain.
    Rule(Place, String, ObservedRule),
    /// A set without its elements, by name; `None` if this crate wouldn't make it.
    Set(Place, String, Option<Set>),
    /// Some elements of a set: addresses, and whether each is the end of an interval. `None` where
    /// the element isn't an address.
    Elements(Place, String, Vec<Option<(IpAddr, bool)>>),
}

impl Object {
    /// Reads one message of a dump: the low byte of its type, and what follows netlink's header.
    /// `None` if it's something else or cut short.
    pub fn parse(kind: u8, message: &[u8]) -> Option<Object> {
        let (header, body) = message.split_at_checked(4)?;
        let table = find(body, a::TABLE_NAME).map(string)?;
        let place = Place::new(Family::from_number(header[0]), table);
        match kind {
            NEW_TABLE => {
                const OWNED: u32 = 2;
                let flags = find(body, a::TABLE_FLAGS).and_then(be32).unwrap_or_default();
                Some(Object::Table(place, flags & OWNED != 0))
            }
            NEW_CHAIN => Some(Object::Chain(
                place,
                find(body, a::CHAIN_NAME).map(string)?,
                base(body),
            )),
            NEW_RULE => Some(Object::Rule(
                place,
                find(body, a::RULE_CHAIN).map(string)?,
                rule(body)?,
            )),
            NEW_SET => {
                let name = find(body, a::SET_NAME).map(string)?;
                let definition = set(body, &name);
                Some(Object::Set(place, name, definition))
            }
            NEW_ELEMENTS => {
                let list = find(body, a::ELEMENTS).unwrap_or_default();
                let elements = attributes(list)
                    .flatten()
                    .filter(|(kind, _)| *kind == LIST_ELEMENT);
                let elements = elements.map(|(_, element)| bound(element)).collect();
                Some(Object::Elements(
                    place,
                    find(body, a::ELEMENTS_SET).map(string)?,
                    elements,
                ))
            }
            _ => None,
        }
    }
}

impl Observed {
    /// The table at `place` from a dump of chains, rules, sets and elements; what belongs to other
    /// tables is left out.
    pub fn collect(place: &Place, objects: Vec<Object>) -> Observed {
        let mut observed = Observed::default();
        let mut bounds: BTreeMap<String, Vec<Option<(IpAddr, bool)>>> = BTreeMap::new();
        for object in objects {
            match object {
                Object::Chain(at, name, base) if at == *place => {
                    observed.chains.entry(name).or_default().base = base
                }
                Object::Rule(at, chain, rule) if at == *place => {
                    observed.chains.entry(chain).or_default().rules.push(rule);
                }
                Object::Set(at, name, set) if at == *place => {
                    observed.sets.entry(name).or_default().set = set
                }
                Object::Elements(at, set, found) if at == *place => {
                    bounds.entry(set).or_default().extend(found)
                }
                _ => {}
            }
        }
        for (name, bounds) in bounds {
            let set = observed.sets.entry(name).or_default();
            let interval = set.set.as_ref().is_some_and(|set| set.interval);
            (set.elements, set.odd) = keys(bounds, interval);
        }
        observed
    }
}

fn base(body: &[u8]) -> Option<Base> {
    let hook = find(body, a::CHAIN_HOOK)?;
    let kind = match string(find(body, a::CHAIN_TYPE)?).as_str() {
        "filter" => ChainKind::Filter,
        "nat" => ChainKind::Nat,
        "route" => ChainKind::Route,
        _ => return None,
    };
    Some(Base {
        kind,
        hook: Hook::from_number(find(hook, a::HOOK_NUMBER).and_then(be32)?)?,
        priority: find(hook, a::HOOK_PRIORITY).and_then(be32)?.cast_signed(),
        policy: Policy::from_number(find(body, a::CHAIN_POLICY).and_then(be32).unwrap_or(1))?,
    })
}

fn rule(body: &[u8]) -> Option<ObservedRule> {
    let handle = find(body, a::RULE_HANDLE)?
        .try_into()
        .ok()
        .map(u64::from_be_bytes)?;
    let mut rule = ObservedRule {
        handle,
        comment: None,
        digest: None,
    };
    let mut user = find(body, a::RULE_USERDATA).unwrap_or_default();
    while let [kind, length, rest @ ..] = user {
        let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else {
            break;
        };
        match *kind {
            USER_COMMENT => rule.comment = Some(string(value)),
            USER_DIGEST => rule.digest = value.try_into().ok().map(u64::from_be_bytes),
            _ => {}
        }
        user = rest;
    }
    Some(rule)
}

fn set(body: &[u8], name: &str) -> Option<Set> {
    let number = find(body, a::SET_KEY_TYPE).and_then(be32)?;
    let key = [KeyType::Ipv4, KeyType::Ipv6]
        .into_iter()
        .find(|key| key.number() == number)?;
    let flags = find(body, a::SET_FLAGS).and_then(be32).unwrap_or_default();
    let usual = flags & !SET_INTERVAL == 0;
    usual.then(|| Set {
        name: name.to_owned(),
        key,
        interval: flags & SET_INTERVAL != 0,
    })
}

fn bound(element: &[u8]) -> Option<(IpAddr, bool)> {
    const VALUE: u16 = 1;
    let bytes = find(find(element, a::ELEMENT_KEY)?, VALUE)?;
    let address = [KeyType::Ipv4, KeyType::Ipv6]
        .into_iter()
        .find_map(|key| key.address(bytes))?;
    let flags = find(element, a::ELEMENT_FLAGS).and_then(be32).unwrap_or_default();
    Some((address, flags & ELEMENT_INTERVAL_END != 0))
}

/// The blocks that a set's elements are, and whether any of them isn't a block.
fn keys(bounds: Vec<Option<(IpAddr, bool)>>, interval: bool) -> (BTreeSet<Key>, bool) {
    let mut odd = bounds.contains(&None);
    let bounds: Vec<(IpAddr, bool)> = bounds.into_iter().flatten().collect();
    if !interval {
        return (
            bounds
                .into_iter()
                .map(|(address, _)| Key::from(address))
                .collect(),
            odd,
        );
    }
    let ends: BTreeSet<IpAddr> = bounds
        .iter()
        .filter(|(_, end)| *end)
        .map(|(address, _)| *address)
        .collect();
    let mut keys = BTreeSet::new();
    for (start, _) in bounds.iter().filter(|(_, end)| !end) {
        // Intervals don't overlap, so the next end is this one's.
        let end = ends.range(start..).find(|end| *end > start).copied();
        match block(*start, end) {
            Some(key) => drop(keys.insert(key)),
            None => odd = true,
        }
    }
    (keys, odd)
}

/// The block from `start` to before `end`, if it is one.
fn block(start: IpAddr, end: Option<IpAddr>) -> Option<Key> {
    let longest = if start.is_ipv4() { 32 } else { 128 };
    (0..=longest)
        .filter_map(|length| IpNet::new(start, length).ok())
        .find_map(|net| {
            let key = Key::from(net);
            (key.first() == start && key.end() == end).then_some(key)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(texts: &[(&str, bool)]) -> Vec<Option<(IpAddr, bool)>> {
        texts
            .iter()
            .map(|(text, end)| Some((text.parse().unwrap(), *end)))
            .collect()
    }

    fn texts(keys: &BTreeSet<Key>) -> Vec<String> {
        keys.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn adjacent_blocks_are_told_apart() {
        let dump = bounds(&[
            ("10.244.2.0", true),
            ("10.244.1.0", false),
            ("10.244.1.0", true),
            ("10.244.0.0", false),
        ]);
        let (found, odd) = keys(dump, true);
        assert_eq!(
            (texts(&found), odd),
            (
                vec!["10.244.0.0/24".to_owned(), "10.244.1.0/24".to_owned()],
                false
            )
        );
    }

    #[test]
    fn a_block_at_the_end_of_all_addresses_has_no_end() {
        let (found, odd) = keys(bounds(&[("192.0.0.0", false)]), true);
        assert_eq!((texts(&found), odd), (vec!["192.0.0.0/2".to_owned()], false));
    }

    #[test]
    fn what_is_no_block_is_odd() {
        assert!(keys(bounds(&[("10.0.0.1", false), ("10.0.0.9", true)]), true).1);
        assert!(keys(vec![None], false).1);
    }
}
