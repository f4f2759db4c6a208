//! A set in the maps: its slots, and the sources that its frontends take traffic from.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use bpf_abi::service::SlotKey;
use ipnet::IpNet;

use crate::Result;
use crate::bpf::service::ServiceMaps;

/// A set, as the maps hold it.
#[derive(Debug, Default)]
pub(super) struct Set {
    /// Its id.
    pub(super) id: u32,
    /// The ids of the backends in its slots.
    slots: Vec<u32>,
    /// The ranges of sources.
    sources: Vec<IpNet>,
    /// The backends that it holds in the maps, in order.
    pub(super) members: Vec<SocketAddr>,
    /// How many slots choices are made among. There may be more for a moment.
    pub(super) count: u32,
}

impl Set {
    /// A set that is found in the maps, or a new one.
    pub(super) fn found(id: u32, slots: Vec<u32>, sources: Vec<IpNet>) -> Set {
        Set {
            id,
            slots,
            sources,
            ..Set::default()
        }
    }

    /// Where any backend will do, the slots that differ least from those that are there.
    pub(super) fn arranged(&self, mut wanted: Vec<u32>) -> Vec<u32> {
        let mut lacking: HashSet<u32> = wanted.iter().copied().collect();
        let held = self.slots.iter();
        let mut arranged: Vec<Option<u32>> = held.map(|id| lacking.remove(id).then_some(*id)).collect();
        // In the order of backends, so that nodes are alike.
        wanted.retain(|id| lacking.contains(id));
        let mut new = wanted.into_iter();
        for gap in arranged.iter_mut().filter(|slot| slot.is_none()) {
            *gap = new.next();
        }
        arranged.extend(new.map(Some));
        // Gaps that nothing new fills get what is last.
        let mut at = 0;
        while at < arranged.len() {
            if arranged[at].is_none() {
                arranged.swap_remove(at);
            } else {
                at += 1;
            }
        }
        arranged.into_iter().flatten().collect()
    }

    /// Writes the slots that differ. Those beyond the last stay until [`Set::trim`].
    pub(super) fn write(&mut self, maps: &impl ServiceMaps, wanted: &[u32]) -> Result<usize> {
        let mut writes = 0;
        for (slot, id) in (0_u32..).zip(wanted) {
            let at = usize::try_from(slot).expect("slots are few");
            if self.slots.get(at) == Some(id) {
                continue;
            }
            maps.put_slot(SlotKey { set: self.id, slot }, *id)?;
            writes += 1;
            match self.slots.get_mut(at) {
                Some(held) => *held = *id,
                None => self.slots.push(*id),
            }
        }
        self.count = u32::try_from(wanted.len()).expect("slots are few");
        Ok(writes)
    }

    /// Removes the slots that no choice is made among any more.
    pub(super) fn trim(&mut self, maps: &impl ServiceMaps) -> Result<usize> {
        let mut writes = 0;
        while self.slots.len() > usize::try_from(self.count).expect("slots are few") {
            let slot = u32::try_from(self.slots.len() - 1).expect("slots are few");
            maps.remove_slot(SlotKey { set: self.id, slot })?;
            self.slots.pop();
            writes += 1;
        }
        Ok(writes)
    }

    /// Writes the ranges of sources that it lacks.
    pub(super) fn admit(&mut self, maps: &impl ServiceMaps, wanted: &[IpNet]) -> Result<usize> {
        let mut writes = 0;
        for net in wanted {
            if !self.sources.contains(net) {
                maps.put_source(self.id, *net)?;
                self.sources.push(*net);
                writes += 1;
            }
        }
        Ok(writes)
    }

    /// Removes the ranges of sources that it should lack.
    pub(super) fn bar(&mut self, maps: &impl ServiceMaps, wanted: &[IpNet]) -> Result<usize> {
        let mut writes = 0;
        let surplus: Vec<IpNet> = self
            .sources
            .iter()
            .filter(|net| !wanted.contains(net))
            .copied()
            .collect();
        for net in surplus {
            maps.remove_source(self.id, net)?;
            self.sources.retain(|held| *held != net);
            writes += 1;
        }
        Ok(writes)
    }
}

/// Sets that are in the maps and nobody's yet: at the start.
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    slots: HashMap<u32, HashMap<u32, u32>>,
    sources: HashMap<u32, Vec<IpNet>>,
}

impl Unclaimed {
    pub(super) fn new(slots: Vec<(SlotKey, u32)>, sources: Vec<(u32, IpNet)>) -> Unclaimed {
        let mut unclaimed = Unclaimed::default();
        for (SlotKey { set, slot }, id) in slots {
            unclaimed.slots.entry(set).or_default().insert(slot, id);
        }
        for (set, net) in sources {
            unclaimed.sources.entry(set).or_default().push(net);
        }
        unclaimed
    }

    /// Whether anything of a set is there.
    pub(super) fn has(&self, id: u32) -> bool {
        self.slots.contains_key(&id) || self.sources.contains_key(&id)
    }

    /// The set of that id, as it is there.
    pub(super) fn claim(&mut self, id: u32) -> Set {
        let found = self.slots.remove(&id).unwrap_or_default();
        let end = found.keys().max().map_or(0, |last| last + 1);
        // Where there's a gap, nobody's id.
        let slots = (0..end).map(|slot| found.get(&slot).copied().unwrap_or_default());
        Set::found(id, slots.collect(), self.sources.remove(&id).unwrap_or_default())
    }

    /// Removes everything that nobody has claimed.
    pub(super) fn clear(&mut self, maps: &impl ServiceMaps) -> Result<usize> {
        let mut writes = 0;
        for (set, slots) in &self.slots {
            for slot in slots.keys() {
                maps.remove_slot(SlotKey {
                    set: *set,
                    slot: *slot,
                })?;
                writes += 1;
            }
        }
        self.slots.clear();
        for (set, nets) in &self.sources {
            for net in nets {
                maps.remove_source(*set, *net)?;
                writes += 1;
            }
        }
        self.sources.clear();
        Ok(writes)
    }
}
