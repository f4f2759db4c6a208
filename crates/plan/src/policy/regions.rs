//! Blocks of addresses, cut into regions of which each is in the same blocks everywhere.
//!
//! The regions are the blocks and their exceptions themselves: an address is in the smallest that
//! has it, as a table of longest matches finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::term::{Term, TermId};

/// The regions, with the terms that hold in each.
#[derive(Debug, Default)]
pub(super) struct Regions {
    blocks: BTreeMap<TermId, Arc<Term>>,
    terms: BTreeMap<IpNet, BTreeSet<TermId>>,
    /// The lengths of prefixes that there are, by family.
    lengths: [BTreeSet<u8>; 2],
    /// Blocks have come or gone since.
    stale: bool,
}

impl Regions {
    pub(super) fn add(&mut self, id: TermId, term: Arc<Term>) {
        self.stale |= self.blocks.insert(id, term).is_none();
    }

    pub(super) fn remove(&mut self, id: TermId) {
        self.stale |= self.blocks.remove(&id).is_some();
    }

    /// Cuts anew, and tells which regions are new, gone or other than they were.
    pub(super) fn refresh(&mut self) -> BTreeSet<IpNet> {
        if !std::mem::take(&mut self.stale) {
            return BTreeSet::new();
        }
        // By the block itself: few blocks of many have a region.
        let mut starting: BTreeMap<IpNet, Vec<TermId>> = BTreeMap::new();
        let mut nets = BTreeSet::new();
        for (id, term) in &self.blocks {
            let Term::Block { net, except } = &**term else {
                continue;
            };
            starting.entry(*net).or_default().push(*id);
            nets.insert(*net);
            nets.extend(except.iter().filter(|one| net.contains(*one)));
        }
        self.lengths = [true, false].map(|v4| {
            let own = nets.iter().filter(|net| net.addr().is_ipv4() == v4);
            own.map(|net| net.prefix_len()).collect()
        });
        let terms: BTreeMap<IpNet, BTreeSet<TermId>> = nets
            .into_iter()
            .map(|net| (net, self.terms_of(net, &starting)))
            .collect();
        let mut changed: BTreeSet<IpNet> = terms
            .iter()
            .filter(|(net, terms)| self.terms.get(*net) != Some(*terms))
            .map(|(net, _)| *net)
            .collect();
        changed.extend(self.terms.keys().filter(|net| !terms.contains_key(*net)));
        self.terms = terms;
        changed
    }

    fn terms_of(&self, region: IpNet, starting: &BTreeMap<IpNet, Vec<TermId>>) -> BTreeSet<TermId> {
        let holders = self.prefixes(region.addr(), region.prefix_len());
        let blocks = holders.filter_map(|net| starting.get(&net)).flatten();
        let holds = |id: &&TermId| match self.blocks.get(id).map(|term| &**term) {
            Some(Term::Block { except, .. }) => !except.iter().any(|one| one.contains(&region)),
            _ => false,
        };
        blocks.filter(holds).copied().collect()
    }

    /// The prefixes of an address that may be regions, the longest first.
    fn prefixes(&self, address: IpAddr, longest: u8) -> impl Iterator<Item = IpNet> {
        let lengths = self.lengths[usize::from(!address.is_ipv4())].range(..=longest);
        lengths
            .rev()
            .filter_map(move |length| Some(IpNet::new(address, *length).ok()?.trunc()))
    }

    /// The region of an address, and what holds there.
    pub(super) fn of(&self, address: IpAddr) -> Option<(IpNet, &BTreeSet<TermId>)> {
        let mut nets = self.prefixes(address, u8::MAX);
        nets.find_map(|net| self.terms.get_key_value(&net))
            .map(|(net, terms)| (*net, terms))
    }

    pub(super) fn nets(&self) -> impl Iterator<Item = IpNet> {
        self.terms.keys().copied()
    }

    /// What holds in a region; none if it isn't one any more.
    pub(super) fn terms(&self, region: IpNet) -> Option<&BTreeSet<TermId>> {
        self.terms.get(&region)
    }

    /// The smallest region around another.
    pub(super) fn around(&self, region: IpNet) -> Option<IpNet> {
        let length = region.prefix_len().checked_sub(1)?;
        let mut nets = self.prefixes(region.addr(), length);
        nets.find(|net| self.terms.contains_key(net))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::super::id::Digests;
    use super::*;

    fn net() -> impl Strategy<Value = IpNet> {
        let v4 = (0..4_u8, 0..4_u8, 0..=32_u8).prop_filter_map("a net", |(a, b, length)| {
            Some(IpNet::new([10, a, 0, b].into(), length).ok()?.trunc())
        });
        let v6 = (0..4_u16, 0..4_u16, 0..=128_u8).prop_filter_map("a net", |(a, b, length)| {
            Some(
                IpNet::new([0xfd00, a, 0, 0, 0, 0, 0, b].into(), length)
                    .ok()?
                    .trunc(),
            )
        });
        prop_oneof![v4, v6]
    }

    fn block() -> impl Strategy<Value = Term> {
        (net(), btree_set(net(), 0..4)).prop_map(|(net, except)| Term::Block { net, except })
    }

    proptest! {
        #[test]
        fn an_address_is_in_the_blocks_of_its_region(
            before in vec(block(), 0..6), after in vec(block(), 0..6), addresses in vec(net(), 1..8),
        ) {
            let id = |term: &Term| term.id(Digests::default());
            let mut regions = Regions::default();
            for term in &before {
                regions.add(id(term), Arc::new(term.clone()));
            }
            regions.refresh();
            for term in &before {
                regions.remove(id(term));
            }
            for term in &after {
                regions.add(id(term), Arc::new(term.clone()));
            }
            regions.refresh();
            for address in addresses.iter().map(IpNet::addr) {
                let found = regions.of(address).map(|(_, terms)| terms.clone()).unwrap_or_default();
                let meant = after.iter().filter(|term| term.contains(address)).map(id).collect();
                prop_assert_eq!(found, meant, "{}", address);
            }
        }
    }
}
