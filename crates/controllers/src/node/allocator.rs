//! Divides ranges of addresses into blocks, each given once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Error;

/// A range has 2^16 blocks at most; a cluster has fewer nodes by far.
const MOST_BITS: u8 = 16;

/// Checks that ranges can be divided as asked for.
pub(crate) fn check_ranges(cidrs: &[IpNet], mask_v4: u8, mask_v6: u8) -> Result<(), Error> {
    let bad = |reason: String| Err(Error::Config(reason));
    for (n, net) in cidrs.iter().enumerate() {
        let mask = if net.addr().is_ipv4() { mask_v4 } else { mask_v6 };
        if mask < net.prefix_len() || mask > net.max_prefix_len() {
            return bad(format!(
                "the pod range {net} cannot be divided into blocks of /{mask}"
            ));
        }
        let of_same_family = |other: &&IpNet| other.addr().is_ipv4() == net.addr().is_ipv4();
        if let Some(other) = cidrs[..n].iter().find(of_same_family) {
            return bad(format!("{other} and {net} are pod ranges of the same family"));
        }
    }
    if cidrs.is_empty() {
        return bad("there is no range of pod addresses".to_owned());
    }
    Ok(())
}

/// The blocks of all ranges, and who has them.
#[derive(Debug)]
pub(super) struct Allocator {
    ranges: Vec<Range>,
    owners: HashMap<String, Vec<IpNet>>,
}

#[derive(Debug)]
struct Range {
    net: IpNet,
    mask: u8,
    /// Block number to owners. More than one is a mistake of somebody else's; it takes all of them to
    /// be gone until the block is free.
    taken: BTreeMap<u32, BTreeSet<String>>,
    /// Where to look first: blocks that were just freed are given again last, for somebody may
    /// still send to their addresses.
    next: u32,
}

impl Allocator {
    pub(super) fn new(cidrs: &[IpNet], mask_v4: u8, mask_v6: u8) -> Self {
        let range = |net: &IpNet| Range {
            net: net.trunc(),
            mask: if net.addr().is_ipv4() { mask_v4 } else { mask_v6 },
            taken: BTreeMap::new(),
            next: 0,
        };
        Self {
            ranges: cidrs.iter().map(range).collect(),
            owners: HashMap::new(),
        }
    }

    /// The blocks that an owner has.
    pub(super) fn of(&self, owner: &str) -> Option<&[IpNet]> {
        self.owners.get(owner).map(Vec::as_slice)
    }

    /// Notes blocks that an owner has already. Says who else has one of them, if anybody does.
    pub(super) fn occupy(&mut self, owner: &str, blocks: &[IpNet]) -> Result<(), String> {
        if self.of(owner) == Some(blocks) {
            return Ok(());
        }
        self.release(owner);
        let mut other = None;
        for block in blocks {
            for range in &mut self.ranges {
                other = range.occupy(owner, block).or(other);
            }
        }
        self.owners.insert(owner.to_owned(), blocks.to_vec());
        other.map_or(Ok(()), Err)
    }

    /// Gives an owner a block of each range. Nothing is given when one range has none left; that
    /// range is the error.
    pub(super) fn allocate(&mut self, owner: &str) -> Result<Vec<IpNet>, IpNet> {
        if let Some(blocks) = self.of(owner) {
            return Ok(blocks.to_vec());
        }
        let mut numbers = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            numbers.push(range.free().ok_or(range.net)?);
        }
        let mut blocks = Vec::with_capacity(numbers.len());
        for (range, number) in self.ranges.iter_mut().zip(numbers) {
            range.taken.entry(number).or_default().insert(owner.to_owned());
            range.next = (number + 1) % range.count();
            blocks.push(range.block(number));
        }
        self.owners.insert(owner.to_owned(), blocks.clone());
        Ok(blocks)
    }

    /// Takes an owner's blocks back.
    pub(super) fn release(&mut self, owner: &str) {
        self.owners.remove(owner);
        for range in &mut self.ranges {
            range.taken.retain(|_, owners| {
                owners.remove(owner);
                !owners.is_empty()
            });
        }
    }
}

impl Range {
    fn count(&self) -> u32 {
        1 << (self.mask - self.net.prefix_len()).min(MOST_BITS)
    }

    fn free(&self) -> Option<u32> {
        let mut numbers = (self.next..self.count()).chain(0..self.next);
        numbers.find(|number| !self.taken.contains_key(number))
    }

    fn block(&self, number: u32) -> IpNet {
        match self.net {
            IpNet::V4(net) => {
                // A /0 block is the whole range, whose only number is 0.
                let offset = number.checked_shl(u32::from(32 - self.mask)).unwrap_or(0);
                let address = (net.addr().to_bits() | offset).into();
                Ipv4Net::new_assert(address, self.mask).into()
            }
            IpNet::V6(net) => {
                let shift = u32::from(128 - self.mask);
                let offset = u128::from(number).checked_shl(shift).unwrap_or(0);
                let address = (net.addr().to_bits() | offset).into();
                Ipv6Net::new_assert(address, self.mask).into()
            }
        }
    }

    /// Marks everything that a block touches; says who had some of it.
    fn occupy(&mut self, owner: &str, block: &IpNet) -> Option<String> {
        let (first, last) = if block.contains(&self.net) {
            (0, self.count() - 1)
        } else {
            (self.number(block.network())?, self.number(block.broadcast())?)
        };
        let mut other = None;
        for number in first..=last {
            let owners = self.taken.entry(number).or_default();
            other = owners.iter().find(|had| *had != owner).cloned().or(other);
            owners.insert(owner.to_owned());
        }
        other
    }

    /// The number of the block that an address is in; nothing outside the range.
    fn number(&self, address: IpAddr) -> Option<u32> {
        if !self.net.contains(&address) {
            return None;
        }
        let number = match (address, self.net) {
            (IpAddr::V4(address), IpNet::V4(net)) => {
                let offset = address.to_bits() ^ net.addr().to_bits();
                u128::from(offset.checked_shr(u32::from(32 - self.mask)).unwrap_or(0))
            }
            (IpAddr::V6(address), IpNet::V6(net)) => {
                let offset = address.to_bits() ^ net.addr().to_bits();
                offset.checked_shr(u32::from(128 - self.mask)).unwrap_or(0)
            }
            _ => return None,
        };
        u32::try_from(number).ok().filter(|&number| number < self.count())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn dual() -> Allocator {
        Allocator::new(&nets(&["10.244.0.0/16", "fd00:10:244::/56"]), 24, 64)
    }

    #[test]
    fn each_node_gets_a_block_of_each_family() {
        let mut allocator = dual();
        let first = allocator.allocate("a").unwrap();
        assert_eq!(first, nets(&["10.244.0.0/24", "fd00:10:244::/64"]));
        assert_eq!(allocator.allocate("a").unwrap(), first);
        let second = allocator.allocate("b").unwrap();
        assert_eq!(second, nets(&["10.244.1.0/24", "fd00:10:244:1::/64"]));
    }

    #[test]
    fn what_a_node_has_after_a_restart_is_its_own() {
        let mut allocator = dual();
        let blocks = nets(&["10.244.0.0/24", "fd00:10:244:5::/64"]);
        allocator.occupy("a", &blocks).unwrap();
        assert_eq!(allocator.allocate("a").unwrap(), blocks);
        assert_eq!(
            allocator.allocate("b").unwrap(),
            nets(&["10.244.1.0/24", "fd00:10:244::/64"])
        );
    }

    #[test]
    fn a_block_that_another_has_is_told() {
        let mut allocator = dual();
        allocator.allocate("a").unwrap();
        let other = allocator.occupy("b", &nets(&["10.244.0.128/25"])).unwrap_err();
        assert_eq!(other, "a");
        allocator.release("b");
        assert_eq!(allocator.allocate("c").unwrap()[0], nets(&["10.244.1.0/24"])[0]);
    }

    #[test]
    fn a_block_that_two_have_is_free_when_both_are_gone() {
        let mut allocator = dual();
        let shared = allocator.allocate("a").unwrap();
        assert!(allocator.occupy("b", &shared).is_err());
        allocator.release("a");
        // b still has it, and its pods.
        assert_eq!(allocator.occupy("a", &shared).unwrap_err(), "b");
        allocator.release("a");
        let mut wanted = (0..256).map(|n| allocator.allocate(&n.to_string()));
        assert!(
            wanted
                .by_ref()
                .take(255)
                .all(|given| given.is_ok_and(|given| given != shared))
        );
        assert!(wanted.next().is_some_and(|given| given.is_err()));
        drop(wanted);
        allocator.release("b");
        assert_eq!(allocator.allocate("last").unwrap(), shared);
    }

    #[test]
    fn wider_and_foreign_blocks_are_understood() {
        let mut allocator = dual();
        allocator.occupy("wide", &nets(&["10.244.0.0/22"])).unwrap();
        allocator.occupy("foreign", &nets(&["192.168.0.0/24"])).unwrap();
        assert_eq!(allocator.allocate("a").unwrap()[0], nets(&["10.244.4.0/24"])[0]);
        assert!(allocator.occupy("all", &nets(&["10.0.0.0/8"])).is_err());
        assert!(allocator.allocate("b").is_err(), "nothing is left of the range");
    }

    #[test]
    fn an_exhausted_range_is_named_and_what_is_freed_is_given_again() {
        let mut allocator = Allocator::new(&nets(&["10.0.0.0/30", "fd00::/64"]), 31, 66);
        allocator.allocate("a").unwrap();
        allocator.allocate("b").unwrap();
        assert_eq!(allocator.allocate("c").unwrap_err(), nets(&["10.0.0.0/30"])[0]);
        allocator.release("a");
        let freed = allocator.allocate("c").unwrap();
        assert_eq!(freed, nets(&["10.0.0.0/31", "fd00:0:0:0:8000::/66"]));
    }

    #[test]
    fn ranges_are_checked() {
        assert!(check_ranges(&nets(&["10.244.0.0/16", "fd00::/56"]), 24, 64).is_ok());
        assert!(check_ranges(&nets(&["10.244.0.0/25"]), 24, 64).is_err());
        assert!(check_ranges(&nets(&["10.0.0.0/16", "10.1.0.0/16"]), 24, 64).is_err());
        assert!(check_ranges(&[], 24, 64).is_err());
    }

    proptest! {
        #[test]
        fn no_two_nodes_ever_share_an_address(steps in prop::collection::vec((0u8..20, any::<bool>()), 0..200)) {
            let mut allocator = Allocator::new(&nets(&["10.0.0.0/28"]), 31, 64);
            for (node, stays) in steps {
                let node = node.to_string();
                if stays {
                    let _ = allocator.allocate(&node);
                } else {
                    allocator.release(&node);
                }
                let blocks: Vec<_> = allocator.owners.values().flatten().collect();
                for (n, a) in blocks.iter().enumerate() {
                    for b in &blocks[..n] {
                        prop_assert!(!a.contains(*b) && !b.contains(*a));
                    }
                }
            }
        }
    }
}
