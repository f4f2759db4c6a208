//! Sets and their elements.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A set's definition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set {
    /// Name, unique in its table.
    pub name: String,
    /// What it holds.
    pub key: KeyType,
    /// Whether it holds blocks of addresses, which must not overlap, rather than single ones.
    pub interval: bool,
}

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
}

impl KeyType {
    /// As in `nft`'s language.
    pub const fn name(self) -> &'static str {
        match self {
            KeyType::Ipv4 => "ipv4_addr",
            KeyType::Ipv6 => "ipv6_addr",
        }
    }

    /// `nft`'s own number of the type; the kernel only keeps it.
    pub const fn number(self) -> u32 {
        match self {
            KeyType::Ipv4 => 7,
            KeyType::Ipv6 => 8,
        }
    }

    /// Length in bytes.
    pub const fn length(self) -> u32 {
        match self {
            KeyType::Ipv4 => 4,
            KeyType::Ipv6 => 16,
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
        }
    }
}

/// An element of a set: a block of addresses, or a single one as a block of full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(IpNet);

impl Key {
    /// The addresses it stands for.
    pub fn net(self) -> IpNet {
        self.0
    }

    /// The first address.
    pub fn first(self) -> IpAddr {
        self.0.network()
    }

    /// The address after the last one; `None` if the block reaches to the end of all addresses.
    pub fn end(self) -> Option<IpAddr> {
        match self.0.broadcast() {
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
}

impl From<IpNet> for Key {
    fn from(net: IpNet) -> Key {
        Key(net.trunc())
    }
}

impl From<IpAddr> for Key {
    fn from(address: IpAddr) -> Key {
        Key(address.into())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            self.0.addr().fmt(f)
        } else {
            self.0.fmt(f)
        }
    }
}

/// The elements of a table's sets, by set name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elements(BTreeMap<String, BTreeSet<Key>>);

impl Elements {
    /// No elements.
    pub fn new() -> Elements {
        Elements::default()
    }

    /// Adds one.
    pub fn insert(&mut self, set: &str, key: Key) {
        self.0.entry(set.to_owned()).or_default().insert(key);
    }

    /// Those of one set.
    pub fn of<'a>(&'a self, set: &str) -> impl Iterator<Item = Key> + use<'a> {
        self.0.get(set).into_iter().flatten().copied()
    }

    /// Whether the set has this one.
    pub fn contains(&self, set: &str, key: Key) -> bool {
        self.0.get(set).is_some_and(|keys| keys.contains(&key))
    }

    /// Whether an address is within an element of the set.
    pub fn matches(&self, set: &str, address: IpAddr) -> bool {
        self.of(set).any(|key| key.net().contains(&address))
    }
}

impl<'a> FromIterator<(&'a str, Key)> for Elements {
    fn from_iter<I: IntoIterator<Item = (&'a str, Key)>>(pairs: I) -> Elements {
        let mut elements = Elements::new();
        for (set, key) in pairs {
            elements.insert(set, key);
        }
        elements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::from(text.parse::<IpNet>().unwrap())
    }

    #[test]
    fn a_block_ends_where_the_next_begins() {
        assert_eq!(
            key("10.244.1.7/24").first(),
            "10.244.1.0".parse::<IpAddr>().unwrap()
        );
        assert_eq!(key("10.244.1.7/24").end(), Some("10.244.2.0".parse().unwrap()));
        assert_eq!(key("fd00::/64").end(), Some("fd00:0:0:1::".parse().unwrap()));
        assert_eq!(key("192.0.0.0/2").end(), None);
        assert_eq!(key("::/0").end(), None);
    }

    #[test]
    fn single_addresses_print_without_a_length() {
        assert_eq!(key("10.0.0.1/32").to_string(), "10.0.0.1");
        assert_eq!(key("10.0.0.0/8").to_string(), "10.0.0.0/8");
    }
}
