//! Who has which address. Pure: pools and wishes in, addresses or a reason out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::range::AddressRange;
use super::wish::Wish;
use crate::informer::Key;

/// A pool of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name, for people.
    pub name: String,
    /// Its addresses.
    pub ranges: Vec<AddressRange>,
    /// Whether Services that choose no address get one from here.
    pub automatic: bool,
}

/// Why a Service gets no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another has it; addresses aren't shared.
    Taken(IpAddr, Key),
    /// No pool has it.
    InNoPool(IpAddr),
    /// Chosen for a family that the Service hasn't, or twice for one.
    WrongFamily(IpAddr),
    /// No pool has an address of the family left.
    Exhausted(&'static str),
    /// No pool has any of the family.
    NoPool(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(address, by) => write!(f, "address {address} is taken by Service {by}"),
            Self::InNoPool(address) => write!(f, "address {address} is in no pool"),
            Self::WrongFamily(address) => {
                write!(
                    f,
                    "address {address} is of a family that the Service has not, or has one of already"
                )
            }
            Self::Exhausted(family) => write!(f, "no pool has an {family} address left"),
            Self::NoPool(family) => write!(f, "no pool has {family} addresses"),
        }
    }
}

/// Pools, and who has what.
#[derive(Debug, Default)]
pub(super) struct Table {
    pools: Vec<Pool>,
    holders: BTreeMap<IpAddr, Key>,
    held: BTreeMap<Key, BTreeSet<IpAddr>>,
}

impl Table {
    pub(super) fn new(pools: Vec<Pool>) -> Self {
        Self {
            pools,
            ..Self::default()
        }
    }

    /// Notes what a Service has already; what others have is not its.
    pub(super) fn occupy(&mut self, service: &Key, addresses: &[IpAddr]) {
        for address in addresses {
            let holder = self.holders.entry(*address).or_insert_with(|| service.clone());
            if holder == service {
                self.held.entry(service.clone()).or_default().insert(*address);
            }
        }
    }

    /// Takes everything from a Service. Says whether it had anything.
    pub(super) fn release(&mut self, service: &Key) -> bool {
        let held = self.held.remove(service).unwrap_or_default();
        for address in &held {
            self.holders.remove(address);
        }
        !held.is_empty()
    }

    /// The addresses that a Service is to have: what it has and may keep, what it chose, and others from the
    /// pools. A refusal leaves it what it has.
    pub(super) fn allocate(&mut self, service: &Key, wish: &Wish) -> Result<Vec<IpAddr>, Refusal> {
        self.check_chosen(service, wish)?;
        let mut addresses = Vec::new();
        for family in &wish.families {
            let of_family = |address: &&IpAddr| family_of(**address) == *family;
            let chosen = wish.chosen.iter().find(of_family).copied();
            let had = || {
                self.held
                    .get(service)
                    .into_iter()
                    .flatten()
                    .find(of_family)
                    .copied()
            };
            let address = match chosen.or_else(had) {
                Some(address) => Ok(address),
                None => self.free(family),
            };
            match address {
                Ok(address) => addresses.push(address),
                // One family is enough for those that only prefer two.
                Err(refusal) if wish.needs_all => return Err(refusal),
                Err(_) => {}
            }
        }
        if let (true, Some(first)) = (addresses.is_empty(), wish.families.first()) {
            return Err(self.free(first).err().unwrap_or(Refusal::NoPool(first)));
        }
        self.release(service);
        self.occupy(service, &addresses);
        Ok(addresses)
    }

    fn check_chosen(&self, service: &Key, wish: &Wish) -> Result<(), Refusal> {
        let mut families = BTreeSet::new();
        for address in &wish.chosen {
            let family = family_of(*address);
            if !wish.families.contains(&family) || !families.insert(family) {
                return Err(Refusal::WrongFamily(*address));
            }
            if !self.pools.iter().any(|pool| pool.contains(*address)) {
                return Err(Refusal::InNoPool(*address));
            }
            if let Some(other) = self.holders.get(address).filter(|holder| *holder != service) {
                return Err(Refusal::Taken(*address, other.clone()));
            }
        }
        Ok(())
    }

    fn free(&self, family: &'static str) -> Result<IpAddr, Refusal> {
        let automatic = self.pools.iter().filter(|pool| pool.automatic);
        let mut ranges = automatic
            .flat_map(|pool| &pool.ranges)
            .filter(|range| family_of_range(range) == family)
            .peekable();
        if ranges.peek().is_none() {
            return Err(Refusal::NoPool(family));
        }
        ranges
            .flat_map(AddressRange::iter)
            .find(|address| !self.holders.contains_key(address))
            .ok_or(Refusal::Exhausted(family))
    }

    /// Those of the addresses that are the Service's.
    pub(super) fn held_by(&self, service: &Key, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let own = addresses
            .iter()
            .filter(|address| self.holders.get(address) == Some(service));
        own.copied().collect()
    }

    /// Whether an address is in a pool still.
    pub(super) fn is_in_pool(&self, address: IpAddr) -> bool {
        self.pools.iter().any(|pool| pool.contains(address))
    }
}

impl Pool {
    fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }
}

pub(super) fn family_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn family_of_range(range: &AddressRange) -> &'static str {
    if range.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> Table {
        let pool = |name: &str, ranges: &[&str], automatic| Pool {
            name: name.to_owned(),
            ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            automatic,
        };
        Table::new(vec![
            pool("default", &["10.0.0.1-10.0.0.3", "fd00::1-fd00::2"], true),
            pool("chosen", &["10.9.0.0/30"], false),
        ])
    }

    fn wish(families: &[&'static str], chosen: &[&str]) -> Wish {
        Wish {
            families: families.to_vec(),
            needs_all: false,
            chosen: chosen.iter().map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    fn key(name: &str) -> Key {
        Key::new("n", name)
    }

    fn texts(addresses: Result<Vec<IpAddr>, Refusal>) -> String {
        match addresses {
            Ok(addresses) => addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn addresses_are_given_in_order_and_kept() {
        let mut table = table();
        assert_eq!(
            texts(table.allocate(&key("a"), &wish(&["IPv4"], &[]))),
            "10.0.0.1"
        );
        assert_eq!(
            texts(table.allocate(&key("b"), &wish(&["IPv6", "IPv4"], &[]))),
            "fd00::1 10.0.0.2"
        );
        assert_eq!(
            texts(table.allocate(&key("a"), &wish(&["IPv4"], &[]))),
            "10.0.0.1"
        );
        table.release(&key("a"));
        assert_eq!(
            texts(table.allocate(&key("c"), &wish(&["IPv4"], &[]))),
            "10.0.0.1"
        );
    }

    #[test]
    fn what_is_chosen_is_given_or_refused_with_a_reason() {
        let mut table = table();
        assert_eq!(
            texts(table.allocate(&key("a"), &wish(&["IPv4"], &["10.9.0.2"]))),
            "10.9.0.2"
        );
        for (chosen, why) in [
            ("10.9.0.2", "address 10.9.0.2 is taken by Service n/a"),
            ("10.8.0.1", "address 10.8.0.1 is in no pool"),
            (
                "fd00::1",
                "address fd00::1 is of a family that the Service has not, or has one of already",
            ),
        ] {
            assert_eq!(texts(table.allocate(&key("b"), &wish(&["IPv4"], &[chosen]))), why);
        }
        // Another choice moves it.
        assert_eq!(
            texts(table.allocate(&key("a"), &wish(&["IPv4"], &["10.0.0.3"]))),
            "10.0.0.3"
        );
        assert_eq!(
            texts(table.allocate(&key("b"), &wish(&["IPv4"], &["10.9.0.2"]))),
            "10.9.0.2"
        );
    }

    #[test]
    fn a_pool_ends() {
        let mut table = table();
        for name in ["a", "b"] {
            table.allocate(&key(name), &wish(&["IPv4", "IPv6"], &[])).unwrap();
        }
        let mut both = wish(&["IPv4", "IPv6"], &[]);
        assert_eq!(
            texts(table.allocate(&key("c"), &both)),
            "10.0.0.3",
            "one family is enough"
        );
        both.needs_all = true;
        assert_eq!(
            texts(table.allocate(&key("d"), &both)),
            "no pool has an IPv4 address left"
        );
        assert_eq!(
            texts(Table::default().allocate(&key("d"), &both)),
            "no pool has IPv4 addresses"
        );
    }

    #[test]
    fn two_that_say_they_have_one_address_are_told_apart() {
        let mut table = table();
        let address = ["10.0.0.1".parse().unwrap()];
        table.occupy(&key("a"), &address);
        table.occupy(&key("b"), &address);
        assert_eq!(
            texts(table.allocate(&key("b"), &wish(&["IPv4"], &[]))),
            "10.0.0.2"
        );
        assert_eq!(
            texts(table.allocate(&key("a"), &wish(&["IPv4"], &[]))),
            "10.0.0.1"
        );
    }

    proptest! {
        #[test]
        fn no_address_is_shared(steps in prop::collection::vec((0..5u8, 0..4u8, prop::option::of(0..4u8), any::<bool>()), 0..80)) {
            let mut table = table();
            let mut model: BTreeMap<Key, Vec<IpAddr>> = BTreeMap::new();
            for (name, families, chosen, needs_all) in steps {
                let key = key(&name.to_string());
                let families: &[&'static str] = match families { 0 => &["IPv4"], 1 => &["IPv6"], 2 => &["IPv4", "IPv6"], _ => &[] };
                if families.is_empty() {
                    prop_assert_eq!(table.release(&key), model.remove(&key).is_some());
                } else {
                    let chosen: Vec<IpAddr> = chosen.map(|n| IpAddr::from([10, 0, 0, n])).into_iter().collect();
                    let wish = Wish { families: families.to_vec(), needs_all, chosen: chosen.clone() };
                    if let Ok(addresses) = table.allocate(&key, &wish) {
                        prop_assert!(chosen.iter().all(|chosen| addresses.contains(chosen)));
                        prop_assert!(!addresses.is_empty() && (!needs_all || addresses.len() == families.len()));
                        model.insert(key, addresses);
                    }
                }
                let all: Vec<_> = model.values().flatten().collect();
                prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
                prop_assert_eq!(table.holders.len(), all.len());
            }
        }
    }
}
