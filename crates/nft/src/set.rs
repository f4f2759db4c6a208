//! Sets and maps, and their elements.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::Tuple;

/// A set's definition; with data it is a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set {
    /// Name, unique in its table.
    pub name: String,
    /// What it holds: one type, or several that are joined.
    pub key: Vec<KeyType>,
    /// Whether it holds blocks of addresses, which must not overlap, rather than single ones.
    pub interval: bool,
    /// What each element leads to; nothing in a plain set.
    pub data: Vec<KeyType>,
}

impl Set {
    /// A plain set.
    pub fn new(name: impl Into<String>, key: KeyType, interval: bool) -> Set {
        Set {
            name: name.into(),
            key: vec![key],
            interval,
            data: Vec::new(),
        }
    }

    /// A map of single, joined keys.
    pub fn map(name: impl Into<String>, key: &[KeyType], data: &[KeyType]) -> Set {
        Set {
            name: name.into(),
            key: key.to_vec(),
            interval: false,
            data: data.to_vec(),
        }
    }
}

/// A type of keys and data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// Transport protocols.
    Protocol,
    /// Ports.
    Port,
    /// Marks of packets.
    Mark,
}

/// How many bits `nft` gives to each type of a joined one.
const TYPE_BITS: u32 = 6;

impl KeyType {
    const ALL: [KeyType; 5] = [
        KeyType::Ipv4,
        KeyType::Ipv6,
        KeyType::Protocol,
        KeyType::Port,
        KeyType::Mark,
    ];

    /// As in `nft`'s language.
    pub const fn name(self) -> &'static str {
        match self {
            KeyType::Ipv4 => "ipv4_addr",
            KeyType::Ipv6 => "ipv6_addr",
            KeyType::Protocol => "inet_proto",
            KeyType::Port => "inet_service",
            KeyType::Mark => "mark",
        }
    }

    /// `nft`'s own number of the type; the kernel only keeps it.
    const fn number(self) -> u32 {
        match self {
            KeyType::Ipv4 => 7,
            KeyType::Ipv6 => 8,
            KeyType::Protocol => 12,
            KeyType::Port => 13,
            KeyType::Mark => 19,
        }
    }

    /// Length in bytes.
    pub(crate) const fn length(self) -> usize {
        match self {
            KeyType::Ipv4 | KeyType::Mark => 4,
            KeyType::Ipv6 => 16,
            KeyType::Protocol => 1,
            KeyType::Port => 2,
        }
    }

    /// `nft`'s number for types that are joined.
    pub(crate) fn joined(types: &[KeyType]) -> u32 {
        types
            .iter()
            .fold(0, |joined, one| joined << TYPE_BITS | one.number())
    }

    /// The types of a joined number; `None` if one of them isn't used here.
    pub(crate) fn apart(mut joined: u32) -> Option<Vec<KeyType>> {
        let mut types = Vec::new();
        while joined != 0 {
            let number = joined & ((1 << TYPE_BITS) - 1);
            types.push(KeyType::ALL.into_iter().find(|one| one.number() == number)?);
            joined >>= TYPE_BITS;
        }
        types.reverse();
        (!types.is_empty()).then_some(types)
    }

    /// Length of a joined key: in one that has several parts each is padded to four bytes.
    pub(crate) fn total(types: &[KeyType]) -> usize {
        match types {
            [one] => one.length(),
            several => several.iter().map(|one| one.length().next_multiple_of(4)).sum(),
        }
    }

    /// An address from a key's bytes.
    pub(crate) fn address(self, bytes: &[u8]) -> Option<IpAddr> {
        match self {
            KeyType::Ipv4 => <[u8; 4]>::try_from(bytes)
                .ok()
                .map(|bytes| Ipv4Addr::from(bytes).into()),
            KeyType::Ipv6 => <[u8; 16]>::try_from(bytes)
                .ok()
                .map(|bytes| Ipv6Addr::from(bytes).into()),
            KeyType::Protocol | KeyType::Port | KeyType::Mark => None,
        }
    }
}

/// The key of an element.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A block of addresses, or a single one as a block of full length.
    Net(IpNet),
    /// Several values, joined.
    Joined(Tuple),
}

impl Key {
    /// Whether an address is one of those it stands for.
    pub fn covers(&self, address: IpAddr) -> bool {
        matches!(self, Key::Net(net) if net.contains(&address))
    }
}

/// The first address of a block.
pub(crate) fn first(net: IpNet) -> IpAddr {
    net.network()
}

/// The address after the last one of a block; `None` if it reaches to the end of all addresses.
pub(crate) fn end(net: IpNet) -> Option<IpAddr> {
    match net.broadcast() {
        IpAddr::V4(last) => last
            .to_bits()
            .checked_add(1)
            .map(|next| Ipv4Addr::from_bits(next).into()),
        IpAddr::V6(last) => last
            .to_bits()
            .checked_add(1)
            .map(|next| Ipv6Addr::from_bits(next).into()),
    }
}

impl From<IpNet> for Key {
    fn from(net: IpNet) -> Key {
        Key::Net(net.trunc())
    }
}

impl From<IpAddr> for Key {
    fn from(address: IpAddr) -> Key {
        Key::Net(address.into())
    }
}

impl From<Tuple> for Key {
    fn from(tuple: Tuple) -> Key {
        Key::Joined(tuple)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Key::Net(net) => net.fmt(f),
            Key::Joined(tuple) => tuple.fmt(f),
        }
    }
}

/// An element: a key, and in a map what it leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// What it leads to; none in a plain set.
    pub data: Option<Tuple>,
}

impl From<Key> for Entry {
    fn from(key: Key) -> Entry {
        Entry { key, data: None }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)?;
        self.data.as_ref().map_or(Ok(()), |data| write!(f, " : {data}"))
    }
}

/// The elements of a table's sets and maps, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elements(BTreeMap<String, BTreeMap<Key, Option<Tuple>>>);

impl Elements {
    /// No elements.
    pub fn new() -> Elements {
        Elements::default()
    }

    /// Adds one, in place of another of the same key.
    pub fn insert(&mut self, set: &str, entry: impl Into<Entry>) {
        let Entry { key, data } = entry.into();
        self.0.entry(set.to_owned()).or_default().insert(key, data);
    }

    /// Those of one set.
    pub fn of(&self, set: &str) -> BTreeSet<Entry> {
        let entries = self.0.get(set).into_iter().flatten();
        entries
            .map(|(key, data)| Entry {
                key: key.clone(),
                data: data.clone(),
            })
            .collect()
    }

    /// Whether the set has this one.
    pub fn contains(&self, set: &str, key: &Key) -> bool {
        self.0.get(set).is_some_and(|keys| keys.contains_key(key))
    }

    /// Whether an address is within an element of the set.
    pub fn matches(&self, set: &str, address: IpAddr) -> bool {
        let mut keys = self.0.get(set).into_iter().flatten();
        keys.any(|(key, _)| key.covers(address))
    }

    /// What a key leads to in a map.
    pub fn get(&self, map: &str, key: &Tuple) -> Option<&Tuple> {
        self.0.get(map)?.get(&Key::Joined(key.clone()))?.as_ref()
    }
}

impl<'a, E: Into<Entry>> FromIterator<(&'a str, E)> for Elements {
    fn from_iter<I: IntoIterator<Item = (&'a str, E)>>(pairs: I) -> Elements {
        let mut elements = Elements::new();
        for (set, entry) in pairs {
            elements.insert(set, entry);
        }
        elements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_block_ends_where_the_next_begins() {
        assert_eq!(
            first(net("10.244.1.7/24")),
            "10.244.1.0".parse::<IpAddr>().unwrap()
        );
        assert_eq!(end(net("10.244.1.7/24")), Some("10.244.2.0".parse().unwrap()));
        assert_eq!(end(net("fd00::/64")), Some("fd00:0:0:1::".parse().unwrap()));
        assert_eq!(end(net("192.0.0.0/2")), None);
        assert_eq!(end(net("::/0")), None);
    }

    #[test]
    fn single_addresses_print_without_a_length() {
        assert_eq!(Key::from(net("10.0.0.1/32")).to_string(), "10.0.0.1");
        assert_eq!(Key::from(net("10.0.0.0/8")).to_string(), "10.0.0.0/8");
    }

    #[test]
    fn joined_types_come_apart_again() {
        for types in [
            vec![KeyType::Ipv6],
            vec![KeyType::Ipv4, KeyType::Protocol, KeyType::Port],
            vec![KeyType::Port, KeyType::Port],
        ] {
            assert_eq!(KeyType::apart(KeyType::joined(&types)), Some(types));
        }
        assert_eq!(KeyType::apart(0), None);
        assert_eq!(KeyType::apart(63), None);
    }
}
