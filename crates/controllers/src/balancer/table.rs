//! Who has which address. Pure: pools and wishes in, addresses or a reason out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::pool::{Claimant, Pool};
use super::range::AddressRange;
use super::wish::Wish;
use crate::informer::Key;

/// Why a Service gets no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another has it; addresses aren't shared.
    Taken(IpAddr, Key),
    /// It is a node's own, or the cluster's.
    Reserved(IpAddr),
    /// No pool has it.
    InNoPool(IpAddr),
    /// The pool that was chosen hasn't the address that was.
    NotInPool(IpAddr, String),
    /// There is no such pool.
    UnknownPool(String),
    /// The pool is for others.
    ForOthers(String),
    /// Chosen for a family that the Service hasn't, or twice for one.
    WrongFamily(IpAddr),
    /// No pool, or not that which was chosen, has an address of the family left.
    Exhausted(&'static str, Option<String>),
    /// No pool, or not that which was chosen, has any of the family.
    NoPool(&'static str, Option<String>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(address, by) => write!(f, "address {address} is taken by Service {by}"),
            Self::Reserved(address) => {
                write!(f, "address {address} is a node's, or the node network's own")
            }
            Self::InNoPool(address) => write!(f, "address {address} is in no pool"),
            Self::NotInPool(address, pool) => write!(f, "address {address} is not in pool {pool}"),
            Self::UnknownPool(pool) => write!(f, "there is no pool {pool}"),
            Self::ForOthers(pool) => write!(
                f,
                "pool {pool} is for others: its namespaces or its serviceSelector leave this Service out"
            ),
            Self::WrongFamily(address) => {
                write!(
                    f,
                    "address {address} is of a family that the Service has not, or has one of already"
                )
            }
            Self::Exhausted(family, None) => write!(f, "no pool has an {family} address left"),
            Self::Exhausted(family, Some(pool)) => write!(f, "pool {pool} has no {family} address left"),
            Self::NoPool(family, None) => write!(f, "no pool for this Service has {family} addresses"),
            Self::NoPool(family, Some(pool)) => write!(f, "pool {pool} has no {family} addresses"),
        }
    }
}

/// Pools, and who has what.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// In the order in which they are gone through.
    pools: Vec<Pool>,
    /// Addresses that no Service gets, whatever a pool says.
    reserved: BTreeSet<IpAddr>,
    holders: BTreeMap<IpAddr, Key>,
    held: BTreeMap<Key, BTreeSet<IpAddr>>,
}

impl Table {
    /// Other pools; who has what has it still.
    pub(super) fn set_pools(&mut self, mut pools: Vec<Pool>) {
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        // Whoever has a pool of his own gets addresses from there.
        pools.sort_by_key(|pool| !pool.is_particular());
        self.pools = pools;
    }

    /// Says whether that is any change.
    pub(super) fn set_reserved(&mut self, reserved: BTreeSet<IpAddr>) -> bool {
        let changed = self.reserved != reserved;
        self.reserved = reserved;
        changed
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
        self.check_pool(wish)?;
        self.check_chosen(service, wish)?;
        let mut addresses = Vec::new();
        for family in &wish.families {
            let of_family = |address: &&IpAddr| family_of(**address) == *family;
            let chosen = wish.chosen.iter().find(of_family).copied();
            let had = || {
                let held = self.held.get(service).into_iter().flatten();
                let mut kept = held.filter(of_family).copied();
                kept.find(|address| self.may_keep(wish, *address))
            };
            let address = match chosen.or_else(had) {
                Some(address) => Ok(address),
                None => self.free(family, wish),
            };
            match address {
                Ok(address) => addresses.push(address),
                // One family is enough for those that only prefer two.
                Err(refusal) if wish.needs_all => return Err(refusal),
                Err(_) => {}
            }
        }
        if let (true, Some(first)) = (addresses.is_empty(), wish.families.first()) {
            let why = self.free(first, wish).err();
            return Err(why.unwrap_or(Refusal::NoPool(first, wish.pool.clone())));
        }
        self.release(service);
        self.occupy(service, &addresses);
        Ok(addresses)
    }

    fn check_pool(&self, wish: &Wish) -> Result<(), Refusal> {
        let Some(name) = &wish.pool else { return Ok(()) };
        let Some(pool) = self.pools.iter().find(|pool| pool.name == *name) else {
            return Err(Refusal::UnknownPool(name.clone()));
        };
        if pool.admits(&wish.claimant) {
            Ok(())
        } else {
            Err(Refusal::ForOthers(name.clone()))
        }
    }

    fn check_chosen(&self, service: &Key, wish: &Wish) -> Result<(), Refusal> {
        let mut families = BTreeSet::new();
        for address in &wish.chosen {
            let family = family_of(*address);
            if !wish.families.contains(&family) || !families.insert(family) {
                return Err(Refusal::WrongFamily(*address));
            }
            self.check_offered(*address, wish)?;
            if self.reserved.contains(address) {
                return Err(Refusal::Reserved(*address));
            }
            if let Some(other) = self.holders.get(address).filter(|holder| *holder != service) {
                return Err(Refusal::Taken(*address, other.clone()));
            }
        }
        Ok(())
    }

    /// Whether a pool offers the address to the Service.
    fn check_offered(&self, address: IpAddr, wish: &Wish) -> Result<(), Refusal> {
        let mut pools = self.pools.iter().filter(|pool| pool.contains(address));
        if let Some(name) = &wish.pool {
            let found = pools.any(|pool| pool.name == *name);
            return found
                .then_some(())
                .ok_or(Refusal::NotInPool(address, name.clone()));
        }
        let Some(first) = pools.clone().next() else {
            return Err(Refusal::InNoPool(address));
        };
        if pools.any(|pool| pool.admits(&wish.claimant)) {
            Ok(())
        } else {
            Err(Refusal::ForOthers(first.name.clone()))
        }
    }

    /// What a Service has it keeps while a pool has it, and its choice of a pool is met.
    fn may_keep(&self, wish: &Wish, address: IpAddr) -> bool {
        let chosen = |pool: &&Pool| wish.pool.as_ref().is_none_or(|name| pool.name == *name);
        let mut pools = self.pools.iter().filter(chosen);
        !self.reserved.contains(&address) && pools.any(|pool| pool.contains(address))
    }

    /// The pools that a Service gets addresses from without naming them.
    fn offered<'a>(
        &'a self,
        pool: Option<&'a String>,
        claimant: &'a Claimant,
    ) -> impl Iterator<Item = &'a Pool> {
        self.pools.iter().filter(move |candidate| match pool {
            Some(name) => candidate.name == *name,
            None => candidate.automatic && candidate.admits(claimant),
        })
    }

    fn free(&self, family: &'static str, wish: &Wish) -> Result<IpAddr, Refusal> {
        let pools = self.offered(wish.pool.as_ref(), &wish.claimant);
        let mut ranges = pools
            .flat_map(|pool| &pool.ranges)
            .filter(|range| family_of_range(range) == family)
            .peekable();
        if ranges.peek().is_none() {
            return Err(Refusal::NoPool(family, wish.pool.clone()));
        }
        ranges
            .flat_map(AddressRange::iter)
            .find(|address| !self.holders.contains_key(address) && !self.reserved.contains(address))
            .ok_or_else(|| Refusal::Exhausted(family, wish.pool.clone()))
    }

    /// Leaves a Service those of the addresses that are its, and that a pool has; it gives back all others.
    pub(super) fn keep(&mut self, service: &Key, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let own: Vec<IpAddr> = addresses
            .iter()
            .filter(|address| self.holders.get(address) == Some(service) && self.is_in_pool(**address))
            .copied()
            .collect();
        self.release(service);
        self.occupy(service, &own);
        own
    }

    /// Whether a Service may have an address still.
    pub(super) fn is_in_pool(&self, address: IpAddr) -> bool {
        !self.reserved.contains(&address) && self.pools.iter().any(|pool| pool.contains(address))
    }

    /// The pool of this name.
    pub(super) fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// Another pool, and the first address that both have.
    pub(super) fn overlap(&self, pool: &Pool) -> Option<(&str, IpAddr)> {
        let mut others = self.pools.iter().filter(|other| other.name != pool.name);
        others.find_map(|other| Some((other.name.as_str(), pool.shares_with(other)?)))
    }

    /// How many of the pool's addresses of a family Services have, and how many are left.
    pub(super) fn count(&self, pool: &Pool, ipv4: bool) -> (u128, u128) {
        let of_pool = |address: &&IpAddr| address.is_ipv4() == ipv4 && pool.contains(**address);
        let used = self.holders.keys().filter(of_pool).count() as u128;
        let free_for_none = |address: &&IpAddr| !self.holders.contains_key(*address);
        let reserved = self.reserved.iter().filter(of_pool).filter(free_for_none).count() as u128;
        (used, pool.size(ipv4).saturating_sub(used + reserved))
    }
}

pub(super) fn family_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn family_of_range(range: &AddressRange) -> &'static str {
    if range.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests;
