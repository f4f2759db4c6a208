//! Who has which address: pure, so that replaying the journal and serving calls are the same code.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use model::{Attachment, AttachmentId, HostPort};

use super::block::Block;
use super::{Error, Millis};

/// How many released addresses are remembered beyond their cool-down.
///
/// More than a node's block usually has, so that there the order of reuse is exact.
const REMEMBERED: usize = 1 << 16;

/// How many owners an error names.
const NAMED_OWNERS: usize = 3;

/// No address of a family could be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// The node has no blocks.
    #[error(
        "the node has no block of pod addresses yet (spec.podCIDRs is empty): something must allocate one to it"
    )]
    NoBlocks,
    /// Every address is a pod's, or was until just now.
    #[error(
        "no free address in {blocks}: {detail}; delete pods of this node, or give it another block (spec.podCIDRs)"
    )]
    Full {
        /// The blocks that were tried.
        blocks: String,
        /// Who has the addresses.
        detail: String,
    },
}

/// How full a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The block.
    pub block: IpNet,
    /// How many addresses pods may have.
    pub capacity: u128,
    /// How many they have.
    pub used: usize,
    /// How many were released so lately that they wait.
    pub cooling: usize,
}

/// The state that the journal records.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    blocks: Vec<Block>,
    attachments: BTreeMap<AttachmentId, Attachment>,
    owners: HashMap<IpAddr, AttachmentId>,
    released: Released,
    reuse_after: Millis,
}

/// Released addresses, in the order of their release.
#[derive(Debug, Clone, Default)]
struct Released {
    order: BTreeSet<(Millis, u64, IpAddr)>,
    at: HashMap<IpAddr, (Millis, u64)>,
    sequence: u64,
}

impl Pool {
    pub(super) fn new(reuse_after: Duration) -> Pool {
        Pool {
            blocks: Vec::new(),
            attachments: BTreeMap::new(),
            owners: HashMap::new(),
            released: Released::default(),
            reuse_after: Millis::try_from(reuse_after.as_millis()).unwrap_or(Millis::MAX),
        }
    }

    /// Replaces the blocks that new addresses come from. Addresses outside them stay with their
    /// pods until these are detached.
    pub(super) fn set_blocks(&mut self, nets: &[IpNet]) {
        self.blocks = nets.iter().copied().map(Block::new).collect();
        for block in &mut self.blocks {
            let remembered = self.owners.keys().chain(self.released.at.keys());
            remembered.for_each(|address| block.used(*address));
        }
    }

    pub(super) fn attachments(&self) -> &BTreeMap<AttachmentId, Attachment> {
        &self.attachments
    }

    /// Released addresses with the time of their release, oldest first.
    pub(super) fn released(&self) -> impl Iterator<Item = (Millis, IpAddr)> {
        self.released.order.iter().map(|(at, _, address)| (*at, *address))
    }

    /// Refuses ports of the node that lead to another attachment.
    pub(super) fn ports_free(&self, id: &AttachmentId, ports: &[HostPort]) -> Result<(), Error> {
        if ports.is_empty() {
            return Ok(());
        }
        for (other, attachment) in self.attachments.iter().filter(|(other, _)| *other != id) {
            let taken = |port: &&HostPort| attachment.host_ports.iter().any(|held| held.conflicts(port));
            if let Some(port) = ports.iter().find(taken) {
                return Err(Error::PortTaken {
                    port: *port,
                    owner: owner_name(other, attachment),
                });
            }
        }
        Ok(())
    }

    pub(super) fn owner(&self, address: IpAddr) -> Option<&AttachmentId> {
        self.owners.get(&address)
    }

    /// Chooses an address for each family that the node has blocks of. It stays free until
    /// [`Pool::assign`].
    pub(super) fn pick(&self, now: Millis) -> Result<Vec<IpAddr>, NoAddress> {
        let mut picked = Vec::new();
        for is_ipv4 in [true, false] {
            let blocks: Vec<&Block> = self
                .blocks
                .iter()
                .filter(|block| block.is_ipv4() == is_ipv4)
                .collect();
            if !blocks.is_empty() {
                picked.push(
                    self.pick_in(&blocks, now)
                        .ok_or_else(|| self.full(&blocks, now))?,
                );
            }
        }
        if picked.is_empty() {
            Err(NoAddress::NoBlocks)
        } else {
            Ok(picked)
        }
    }

    /// An address that no pod has had, else the one released longest ago, else one that was
    /// forgotten because very many were released since.
    fn pick_in(&self, blocks: &[&Block], now: Millis) -> Option<IpAddr> {
        let known = |address| self.owners.contains_key(&address) || self.released.at.contains_key(&address);
        let fresh = || blocks.iter().find_map(|block| block.fresh(known));
        let cooled = || {
            let mut cooled = self
                .released
                .order
                .iter()
                .take_while(|(at, ..)| self.has_cooled(*at, now));
            cooled
                .find(|(.., address)| blocks.iter().any(|block| block.has(*address)))
                .map(|(.., address)| *address)
        };
        let forgotten = || blocks.iter().find_map(|block| block.lowest(known));
        fresh().or_else(cooled).or_else(forgotten)
    }

    fn has_cooled(&self, at: Millis, now: Millis) -> bool {
        now.saturating_sub(at) >= self.reuse_after
    }

    /// Gives an attachment its addresses; an earlier state of it ends. An address of somebody
    /// else's is refused: that can only come from a journal that isn't ours.
    pub(super) fn assign(&mut self, id: AttachmentId, attachment: Attachment) -> Result<(), AttachmentId> {
        let foreign = attachment
            .addresses
            .iter()
            .find_map(|address| self.owner(*address).filter(|owner| **owner != id));
        if let Some(owner) = foreign {
            return Err(owner.clone());
        }
        self.forget_owner(&id);
        for address in &attachment.addresses {
            self.owners.insert(*address, id.clone());
            self.released.remove(*address);
            self.blocks.iter_mut().for_each(|block| block.used(*address));
        }
        self.attachments.insert(id, attachment);
        Ok(())
    }

    /// Takes an attachment's addresses back, to be reused after the cool-down.
    pub(super) fn release(&mut self, id: &AttachmentId, at: Millis) -> Option<Attachment> {
        let attachment = self.forget_owner(id)?;
        for address in &attachment.addresses {
            self.remember_release(*address, at);
        }
        Some(attachment)
    }

    /// Notes a release, as a compacted journal has it.
    pub(super) fn remember_release(&mut self, address: IpAddr, at: Millis) {
        if !self.owners.contains_key(&address) {
            self.released.insert(address, at);
            self.blocks.iter_mut().for_each(|block| block.used(address));
            self.released
                .trim(|released_at| at.saturating_sub(released_at) >= self.reuse_after);
        }
    }

    fn forget_owner(&mut self, id: &AttachmentId) -> Option<Attachment> {
        let attachment = self.attachments.remove(id)?;
        for address in &attachment.addresses {
            self.owners.remove(address);
        }
        Some(attachment)
    }

    pub(super) fn usage(&self, now: Millis) -> Vec<Usage> {
        self.blocks
            .iter()
            .map(|block| self.usage_of(block, now))
            .collect()
    }

    fn usage_of(&self, block: &Block, now: Millis) -> Usage {
        let hot = self
            .released
            .order
            .iter()
            .rev()
            .take_while(|(at, ..)| !self.has_cooled(*at, now));
        Usage {
            block: block.net(),
            capacity: block.capacity(),
            used: self.owners.keys().filter(|address| block.has(**address)).count(),
            cooling: hot.filter(|(.., address)| block.has(*address)).count(),
        }
    }

    fn full(&self, blocks: &[&Block], now: Millis) -> NoAddress {
        let usage: Vec<Usage> = blocks.iter().map(|block| self.usage_of(block, now)).collect();
        let capacity = usage
            .iter()
            .fold(0u128, |sum, usage| sum.saturating_add(usage.capacity));
        let used: usize = usage.iter().map(|usage| usage.used).sum();
        let cooling: usize = usage.iter().map(|usage| usage.cooling).sum();
        let mut detail = format!("{used} of {capacity} in use");
        let in_blocks = |attachment: &Attachment| {
            attachment
                .addresses
                .iter()
                .any(|address| blocks.iter().any(|block| block.has(*address)))
        };
        let owners: Vec<String> = self
            .attachments
            .iter()
            .filter(|(_, attachment)| in_blocks(attachment))
            .take(NAMED_OWNERS)
            .map(|(id, attachment)| owner_name(id, attachment))
            .collect();
        if !owners.is_empty() {
            let _ = write!(detail, " by {}", owners.join(", "));
            if used > owners.len() {
                let _ = write!(detail, " and {} more", used - owners.len());
            }
        }
        if cooling > 0 {
            let seconds = self.reuse_after.div_ceil(1000);
            let _ = write!(
                detail,
                ", {cooling} released less than {seconds} s ago and not reused yet"
            );
        }
        let nets: Vec<String> = usage.iter().map(|usage| usage.block.to_string()).collect();
        NoAddress::Full {
            blocks: nets.join(" or "),
            detail,
        }
    }
}

impl Released {
    fn insert(&mut self, address: IpAddr, at: Millis) {
        self.remove(address);
        self.sequence += 1;
        self.order.insert((at, self.sequence, address));
        self.at.insert(address, (at, self.sequence));
    }

    fn remove(&mut self, address: IpAddr) {
        if let Some((at, sequence)) = self.at.remove(&address) {
            self.order.remove(&(at, sequence, address));
        }
    }

    /// Forgets the oldest beyond [`REMEMBERED`], if they have cooled down.
    fn trim(&mut self, has_cooled: impl Fn(Millis) -> bool) {
        while self.order.len() > REMEMBERED {
            let Some(&(.., address)) = self.order.first().filter(|(at, ..)| has_cooled(*at)) else {
                return;
            };
            self.remove(address);
        }
    }
}

/// A pod's name, or what else tells people whose address it is.
fn owner_name(id: &AttachmentId, attachment: &Attachment) -> String {
    let pod = &attachment.pod;
    if pod.name.is_empty() {
        format!("container {}", id.container)
    } else {
        format!("{}/{}", pod.namespace, pod.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(container: &str) -> AttachmentId {
        AttachmentId {
            container: container.to_owned(),
            interface: "eth0".to_owned(),
        }
    }

    fn attachment(name: &str, addresses: Vec<IpAddr>) -> Attachment {
        Attachment {
            pod: model::PodRef {
                namespace: "shop".to_owned(),
                name: name.to_owned(),
                uid: String::new(),
            },
            netns: String::new(),
            host_link: format!("rip-{name}"),
            addresses,
            mtu: 1500,
            ..Attachment::default()
        }
    }

    fn pool(blocks: &[&str]) -> Pool {
        let mut pool = Pool::new(Duration::from_secs(10));
        let nets: Vec<IpNet> = blocks.iter().map(|text| text.parse().expect("a block")).collect();
        pool.set_blocks(&nets);
        pool
    }

    fn add(pool: &mut Pool, name: &str, now: Millis) -> Vec<String> {
        let addresses = pool.pick(now).expect("a free address");
        pool.assign(id(name), attachment(name, addresses.clone()))
            .expect("free");
        addresses.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn each_family_of_the_node_gives_one_address() {
        let mut pool = pool(&["10.244.1.0/24", "fd00:10:244:1::/64"]);
        assert_eq!(add(&mut pool, "a", 0), ["10.244.1.1", "fd00:10:244:1::1"]);
        assert_eq!(add(&mut pool, "b", 0), ["10.244.1.2", "fd00:10:244:1::2"]);
    }

    #[test]
    fn never_used_addresses_come_first_then_the_one_released_longest_ago() {
        let mut pool = pool(&["10.0.0.0/29"]); // .1 to .6
        for name in ["a", "b", "c", "z"] {
            add(&mut pool, name, 0);
        }
        pool.release(&id("b"), 1);
        pool.release(&id("a"), 2);
        assert_eq!(add(&mut pool, "d", 20_000), ["10.0.0.5"]);
        assert_eq!(add(&mut pool, "e", 20_000), ["10.0.0.6"]);
        assert_eq!(add(&mut pool, "f", 20_000), ["10.0.0.2"]);
        assert_eq!(add(&mut pool, "g", 20_000), ["10.0.0.1"]);
    }

    #[test]
    fn a_released_address_cools_down_before_it_is_reused() {
        let mut pool = pool(&["10.0.0.2/32"]);
        add(&mut pool, "a", 0);
        pool.release(&id("a"), 1_000);
        let error = pool.pick(10_999).expect_err("cooling").to_string();
        assert_eq!(
            error,
            "no free address in 10.0.0.2/32: 0 of 1 in use, 1 released less than 10 s ago and not reused yet; delete pods of this node, or give it another block (spec.podCIDRs)"
        );
        assert_eq!(add(&mut pool, "b", 11_000), ["10.0.0.2"]);
    }

    #[test]
    fn a_second_block_is_used_when_the_first_is_full() {
        let mut pool = pool(&["10.0.0.2/32", "10.9.0.2/32"]);
        assert_eq!(add(&mut pool, "a", 0), ["10.0.0.2"]);
        assert_eq!(add(&mut pool, "b", 0), ["10.9.0.2"]);
        let error = pool.pick(0).expect_err("full").to_string();
        assert_eq!(
            error,
            "no free address in 10.0.0.2/32 or 10.9.0.2/32: 2 of 2 in use by shop/a, shop/b; delete pods of this node, or give it another block (spec.podCIDRs)"
        );
    }

    #[test]
    fn a_full_block_names_who_has_its_addresses() {
        let mut pool = pool(&["10.244.1.0/24"]);
        for number in 0..254 {
            add(&mut pool, &format!("web-{number:03}"), 0);
        }
        assert_eq!(
            pool.pick(0).expect_err("full").to_string(),
            "no free address in 10.244.1.0/24: 254 of 254 in use by shop/web-000, shop/web-001, shop/web-002 and 251 more; delete pods of this node, or give it another block (spec.podCIDRs)"
        );
    }

    #[test]
    fn a_node_without_blocks_says_so() {
        assert_eq!(pool(&[]).pick(0), Err(NoAddress::NoBlocks));
    }

    #[test]
    fn addresses_outside_the_new_blocks_stay_with_their_pods() {
        let mut pool = pool(&["10.0.0.0/30"]);
        add(&mut pool, "a", 0);
        pool.set_blocks(&["10.9.0.0/29".parse().expect("a block")]);
        assert_eq!(add(&mut pool, "b", 0), ["10.9.0.1"]);
        assert_eq!(pool.owner([10, 0, 0, 1].into()), Some(&id("a")));
    }

    #[test]
    fn an_address_is_never_assigned_to_two() {
        let mut pool = pool(&["10.0.0.0/29"]);
        add(&mut pool, "a", 0);
        let stolen = attachment("b", vec![[10, 0, 0, 1].into()]);
        assert_eq!(pool.assign(id("b"), stolen), Err(id("a")));
    }

    #[test]
    fn a_block_that_comes_back_remembers_who_has_what() {
        let mut pool = pool(&["10.0.0.0/29"]);
        add(&mut pool, "a", 0);
        pool.set_blocks(&[]);
        pool.set_blocks(&["10.0.0.0/29".parse().expect("a block")]);
        assert_eq!(add(&mut pool, "b", 0), ["10.0.0.2"]);
    }
}
