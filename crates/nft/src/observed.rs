//! What the kernel says is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::batch::{
    ELEMENT_INTERVAL_END, NEW_CHAIN, NEW_ELEMENTS, NEW_RULE, NEW_SET, NEW_TABLE, SET_INTERVAL, SET_MAP,
    USER_COMMENT, USER_DIGEST, attribute as a,
};
use crate::lower::LIST_ELEMENT;
use crate::set::{end, first};
use crate::wire::{attributes, be32, find, string};
use crate::{Base, ChainKind, Entry, Family, Hook, Key, KeyType, Place, Policy, Set, Tuple};

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
    pub elements: BTreeSet<Entry>,
    /// Whether it also has elements that this crate wouldn't make.
    pub odd: bool,
}

impl RawElement {
    /// What it is in a map; `None` if it isn't one that this crate makes.
    pub fn entry(&self, map: &Set) -> Option<Entry> {
        entry(self, map)
    }
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
    /// Some elements of a set.
    Elements(Place, String, Vec<RawElement>),
}

/// An element as the kernel has it: bytes, whose meaning is in the set's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawElement {
    key: Vec<u8>,
    data: Option<Vec<u8>>,
    /// Whether it is the end of an interval.
    end: bool,
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
                let elements = elements.filter_map(|(_, element)| raw(element)).collect();
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
        let mut elements: BTreeMap<String, Vec<RawElement>> = BTreeMap::new();
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
                    elements.entry(set).or_default().extend(found)
                }
                _ => {}
            }
        }
        for (name, elements) in elements {
            let set = observed.sets.entry(name).or_default();
            (set.elements, set.odd) = match &set.set {
                Some(definition) => entries(&elements, definition),
                None => (BTreeSet::new(), true),
            };
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
    let types = |attribute| find(body, attribute).and_then(be32).and_then(KeyType::apart);
    let flags = find(body, a::SET_FLAGS).and_then(be32).unwrap_or_default();
    let usual = flags & !(SET_INTERVAL | SET_MAP) == 0;
    let data = if flags & SET_MAP == 0 {
        Vec::new()
    } else {
        types(a::SET_DATA_TYPE)?
    };
    let key = types(a::SET_KEY_TYPE)?;
    usual.then(|| Set {
        name: name.to_owned(),
        key,
        interval: flags & SET_INTERVAL != 0,
        data,
    })
}

fn raw(element: &[u8]) -> Option<RawElement> {
    const VALUE: u16 = 1;
    let value = |attribute| find(find(element, attribute)?, VALUE).map(<[u8]>::to_vec);
    let flags = find(element, a::ELEMENT_FLAGS).and_then(be32).unwrap_or_default();
    Some(RawElement {
        key: value(a::ELEMENT_KEY)?,
        data: value(a::ELEMENT_DATA),
        end: flags & ELEMENT_INTERVAL_END != 0,
    })
}

/// What a set's elements mean, and whether any of them is one that this crate wouldn't make.
fn entries(elements: &[RawElement], set: &Set) -> (BTreeSet<Entry>, bool) {
    match set.key.as_slice() {
        [address] if set.data.is_empty() => {
            let (keys, odd) = keys(elements, *address, set.interval);
            (keys.into_iter().map(Entry::from).collect(), odd)
        }
        _ => {
            let mut entries = BTreeSet::new();
            entries.extend(elements.iter().filter_map(|element| entry(element, set)));
            let odd = entries.len() != elements.len();
            (entries, odd)
        }
    }
}

fn entry(element: &RawElement, set: &Set) -> Option<Entry> {
    let key = Key::Joined(Tuple::parse(&set.key, &element.key)?);
    let data = match &element.data {
        Some(data) => Some(Tuple::parse(&set.data, data)?),
        None if set.data.is_empty() => None,
        None => return None,
    };
    Some(Entry { key, data })
}

/// The blocks that a set's elements are, and whether any of them isn't a block.
fn keys(elements: &[RawElement], address: KeyType, interval: bool) -> (BTreeSet<Key>, bool) {
    let read = |element: &RawElement| Some((address.address(&element.key)?, element.end));
    let bounds: Vec<(IpAddr, bool)> = elements.iter().filter_map(read).collect();
    let mut odd = bounds.len() != elements.len();
    if !interval {
        let keys = bounds.into_iter().map(|(address, _)| Key::from(address));
        return (keys.collect(), odd);
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
fn block(start: IpAddr, until: Option<IpAddr>) -> Option<Key> {
    let longest = if start.is_ipv4() { 32 } else { 128 };
    (0..=longest)
        .filter_map(|length| IpNet::new(start, length).ok())
        .find(|net| first(*net) == start && end(*net) == until)
        .map(Key::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::octets;

    fn bounds(texts: &[(&str, bool)]) -> Vec<RawElement> {
        let raw = |(text, end): &(&str, bool)| RawElement {
            key: octets(text.parse().unwrap()),
            data: None,
            end: *end,
        };
        texts.iter().map(raw).collect()
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
        let (found, odd) = keys(&dump, KeyType::Ipv4, true);
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
        let (found, odd) = keys(&bounds(&[("192.0.0.0", false)]), KeyType::Ipv4, true);
        assert_eq!((texts(&found), odd), (vec!["192.0.0.0/2".to_owned()], false));
    }

    #[test]
    fn what_is_no_block_is_odd() {
        let no_block = bounds(&[("10.0.0.1", false), ("10.0.0.9", true)]);
        assert!(keys(&no_block, KeyType::Ipv4, true).1);
        assert!(keys(&bounds(&[("fd00::1", false)]), KeyType::Ipv4, false).1);
    }

    #[test]
    fn a_maps_elements_have_their_data() {
        let map = Set::map(
            "m",
            &[KeyType::Protocol, KeyType::Port],
            &[KeyType::Ipv4, KeyType::Port],
        );
        let element = |data: Option<Vec<u8>>| RawElement {
            key: vec![17, 0, 0, 0, 0, 53, 0, 0],
            data,
            end: false,
        };
        let good = element(Some(vec![10, 0, 0, 1, 0x14, 0xe9, 0, 0]));
        let (found, odd) = entries(std::slice::from_ref(&good), &map);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            (found, odd),
            (vec!["udp . 53 : 10.0.0.1 . 5353".to_owned()], false)
        );
        assert!(entries(&[element(None)], &map).1);
        assert!(entries(&[element(Some(vec![1, 2, 3, 4]))], &map).1);
    }
}
