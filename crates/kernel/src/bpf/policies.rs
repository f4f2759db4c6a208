//! The maps that say what policies allow, as the plan's tables; and what programs tell of it.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::Pod;
use aya::maps::lpm_trie::{Key as Prefix, LpmTrie};
use aya::maps::{Array, MapData, PerCpuArray, PerCpuHashMap, RingBuf};
use bpf_abi::policy::{self as abi, Id, Pace, RANGE_BITS, setting};
use bpf_abi::{V4, V6};
use ipnet::IpNet;
use plan::{ClassId, Isolation, PolicyTables, RangeKey, RuleId, RuleKey, SetId};

use super::load::Maps;
use super::table::{Plain, Table};
use super::tables::{Shared, failed, ip4, ip6, key4, key6, net, was_there};
use crate::Result;

// SAFETY: numbers without padding between them, as `layouts_have_no_padding` shows.
unsafe impl Plain for V6 {}
// SAFETY: as above.
unsafe impl Plain for Id {}
// SAFETY: as above.
unsafe impl Plain for abi::Isolation {}
// SAFETY: as above.
unsafe impl Plain for abi::RuleKey {}
// SAFETY: as above.
unsafe impl Pod for Shared<abi::RuleKey> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Pace> {}

type Blocks<A> = LpmTrie<MapData, A, Id>;
type Ranges = LpmTrie<MapData, Shared<abi::RuleKey>, Id>;
type Tally = PerCpuHashMap<MapData, u64, u64>;

/// The maps of one family.
struct OfFamily<A> {
    isolation: Table<A, abi::Isolation>,
    classes: Table<A, Id>,
    blocks: Mutex<Blocks<A>>,
}

/// The maps.
pub(crate) struct Policies {
    v4: OfFamily<V4>,
    v6: OfFamily<V6>,
    rules: Table<abi::RuleKey, Id>,
    ranges: Mutex<Ranges>,
    settings: Mutex<Array<MapData, u32>>,
    allowed: Tally,
    denied: Tally,
    pace: PerCpuArray<MapData, Shared<Pace>>,
    events: Mutex<Option<RingBuf<MapData>>>,
}

impl Policies {
    /// Takes them from the loaded or pinned ones.
    pub(super) fn new(maps: &mut Maps) -> Result<Policies> {
        Ok(Policies {
            v4: OfFamily {
                isolation: Table::new(maps.map("isolation4"), "pods' policies")?,
                classes: Table::new(maps.map("classes4"), "addresses that policies know")?,
                blocks: Mutex::new(maps.take("blocks4")?),
            },
            v6: OfFamily {
                isolation: Table::new(maps.map("isolation6"), "pods' policies")?,
                classes: Table::new(maps.map("classes6"), "addresses that policies know")?,
                blocks: Mutex::new(maps.take("blocks6")?),
            },
            rules: Table::new(maps.map("rules"), "policies' rules")?,
            ranges: Mutex::new(maps.take("rule_ranges")?),
            settings: Mutex::new(maps.take("settings")?),
            allowed: maps.take("allowed")?,
            denied: maps.take("denied")?,
            pace: maps.take("pace")?,
            events: Mutex::new(Some(maps.take("events")?)),
        })
    }

    /// Everything that is in them.
    pub(crate) fn read(&self) -> Result<PolicyTables> {
        let mut tables = PolicyTables::default();
        self.v4.read(&mut tables, ip4)?;
        self.v6.read(&mut tables, ip6)?;
        let rules = self.rules.read()?.into_iter();
        tables.rules = rules
            .map(|(key, rule)| (rule_of(&key), RuleId(number(rule))))
            .collect();
        for entry in lock(&self.ranges).iter() {
            let (key, rule) = entry.map_err(failed("read policies' ranges of ports"))?;
            let RuleKey {
                set,
                class,
                protocol,
                port,
            } = rule_of(&key.data().0);
            let bits = key.prefix_len().saturating_sub(RANGE_BITS);
            let range = RangeKey {
                set,
                class,
                protocol,
                port,
                // What others wrote may be nonsense: it's removed as such.
                bits: u8::try_from(bits).unwrap_or(u8::MAX),
            };
            tables.ranges.insert(range, RuleId(number(rule)));
        }
        Ok(tables)
    }

    /// Writes what rules allow.
    pub(crate) fn put_rules(&self, rules: &[(RuleKey, RuleId)]) -> Result<()> {
        let entries = rules.iter().map(|(key, rule)| (key_of(key), id(rule.0)));
        self.rules.put(&entries.collect::<Vec<_>>())
    }

    /// Removes what rules allowed.
    pub(crate) fn remove_rules(&self, rules: &[RuleKey]) -> Result<()> {
        let keys: Vec<_> = rules.iter().map(key_of).collect();
        self.rules.remove(&keys).map(drop)
    }

    /// Writes what rules allow of ranges of ports.
    pub(crate) fn put_ranges(&self, ranges: &[(RangeKey, RuleId)]) -> Result<()> {
        let mut held = lock(&self.ranges);
        for (key, rule) in ranges {
            let put = held.insert(&range_of(key), id(rule.0), 0);
            put.map_err(failed("write a policy's range of ports"))?;
        }
        Ok(())
    }

    /// Removes what rules allowed of ranges of ports.
    pub(crate) fn remove_ranges(&self, ranges: &[RangeKey]) -> Result<()> {
        let mut held = lock(&self.ranges);
        for key in ranges {
            was_there(held.remove(&range_of(key))).map_err(failed("remove a policy's range of ports"))?;
        }
        Ok(())
    }

    /// Writes what addresses are.
    pub(crate) fn put_classes(&self, classes: &[(IpAddr, ClassId)]) -> Result<()> {
        let (v4, v6) = by_family(classes, |class| id(class.0));
        self.v4.classes.put(&v4)?;
        self.v6.classes.put(&v6)
    }

    /// Removes what addresses were.
    pub(crate) fn remove_classes(&self, addresses: &[IpAddr]) -> Result<()> {
        let (v4, v6) = keys_by_family(addresses);
        self.v4.classes.remove(&v4)?;
        self.v6.classes.remove(&v6).map(drop)
    }

    /// Writes what blocks of addresses are.
    pub(crate) fn put_blocks(&self, blocks: &[(IpNet, ClassId)]) -> Result<()> {
        let (mut v4, mut v6) = (lock(&self.v4.blocks), lock(&self.v6.blocks));
        for (block, class) in blocks {
            let (length, class) = (u32::from(block.prefix_len()), id(class.0));
            let put = match block.network() {
                IpAddr::V4(address) => v4.insert(&Prefix::new(length, key4(address)), class, 0),
                IpAddr::V6(address) => v6.insert(&Prefix::new(length, key6(address)), class, 0),
            };
            put.map_err(failed("write a policy's block of addresses"))?;
        }
        Ok(())
    }

    /// Removes what blocks of addresses were.
    pub(crate) fn remove_blocks(&self, blocks: &[IpNet]) -> Result<()> {
        let (mut v4, mut v6) = (lock(&self.v4.blocks), lock(&self.v6.blocks));
        for block in blocks {
            let length = u32::from(block.prefix_len());
            let removed = match block.network() {
                IpAddr::V4(address) => v4.remove(&Prefix::new(length, key4(address))),
                IpAddr::V6(address) => v6.remove(&Prefix::new(length, key6(address))),
            };
            was_there(removed).map_err(failed("remove a policy's block of addresses"))?;
        }
        Ok(())
    }

    /// Writes what holds for pods of this node.
    pub(crate) fn put_isolation(&self, pods: &[(IpAddr, Isolation)]) -> Result<()> {
        let (v4, v6) = by_family(pods, |held| abi::Isolation {
            egress: id(held.egress.0),
            ingress: id(held.ingress.0),
        });
        self.v4.isolation.put(&v4)?;
        self.v6.isolation.put(&v6)
    }

    /// Removes what held for pods of this node: nothing is known of them any more.
    pub(crate) fn remove_isolation(&self, addresses: &[IpAddr]) -> Result<()> {
        let (v4, v6) = keys_by_family(addresses);
        self.v4.isolation.remove(&v4)?;
        self.v6.isolation.remove(&v6).map(drop)
    }

    /// Makes a setting so; says whether it was otherwise.
    fn set(&self, which: u32, on: bool) -> Result<bool> {
        let mut settings = lock(&self.settings);
        let held = settings.get(&which, 0).map_err(failed("read a setting"))?;
        if (held != 0) == on {
            return Ok(false);
        }
        let put = settings.set(which, u32::from(on), 0);
        put.map_err(failed("write a setting")).map(|()| true)
    }

    /// Puts policies in force; says whether they weren't.
    pub(crate) fn enforce(&self) -> Result<bool> {
        self.set(setting::ENFORCED, true)
    }

    /// Whether policies are in force.
    pub(crate) fn enforced(&self) -> Result<bool> {
        let held = lock(&self.settings).get(&setting::ENFORCED, 0);
        held.map(|held| held != 0).map_err(failed("read a setting"))
    }

    /// Whether beginnings and ends of conversations are told.
    pub(crate) fn follow(&self, on: bool) -> Result<()> {
        self.set(setting::FOLLOWED, on).map(drop)
    }

    /// What is told, for the first who asks.
    pub(crate) fn take_events(&self) -> Option<RingBuf<MapData>> {
        lock(&self.events).take()
    }

    /// Gives back what was taken.
    pub(crate) fn give_events(&self, events: RingBuf<MapData>) {
        *lock(&self.events) = Some(events);
    }

    /// How many events were never told.
    pub(crate) fn lost(&self) -> Result<u64> {
        let paces = self.pace.get(&0, 0).map_err(failed("read the lost events"))?;
        Ok(paces.iter().map(|Shared(pace)| pace.lost).sum())
    }

    /// How many conversations each rule has allowed.
    pub(crate) fn allowed(&self) -> Result<Vec<(RuleId, u64)>> {
        let counts = read_tally(&self.allowed)?.into_iter();
        Ok(counts.map(|(rule, count)| (RuleId(rule), count)).collect())
    }

    /// How many packets each set has denied.
    pub(crate) fn denied(&self) -> Result<Vec<(SetId, u64)>> {
        let counts = read_tally(&self.denied)?.into_iter();
        Ok(counts.map(|(set, count)| (SetId(set), count)).collect())
    }
}

impl<A: Copy + Pod + Plain> OfFamily<A> {
    fn read(&self, tables: &mut PolicyTables, address: impl Fn(A) -> IpAddr) -> Result<()> {
        for (key, held) in self.isolation.read()? {
            let isolation = Isolation {
                egress: SetId(number(held.egress)),
                ingress: SetId(number(held.ingress)),
            };
            tables.isolation.insert(address(key), isolation);
        }
        for (key, class) in self.classes.read()? {
            tables.classes.insert(address(key), ClassId(number(class)));
        }
        for entry in lock(&self.blocks).iter() {
            let (key, class) = entry.map_err(failed("read policies' blocks of addresses"))?;
            let block = net(address(key.data()), key.prefix_len());
            tables.blocks.insert(block, ClassId(number(class)));
        }
        Ok(())
    }
}

fn read_tally(tally: &Tally) -> Result<Vec<(u64, u64)>> {
    let mut counts = Vec::new();
    for key in tally.keys() {
        let key = key.map_err(failed("read what policies have counted"))?;
        // It may have been forgotten meanwhile.
        if let Ok(values) = tally.get(&key, 0) {
            counts.push((key, values.iter().sum()));
        }
    }
    Ok(counts)
}

type ByFamily<T> = (Vec<(V4, T)>, Vec<(V6, T)>);

fn by_family<T, U>(entries: &[(IpAddr, T)], value: impl Fn(&T) -> U) -> ByFamily<U> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (address, held) in entries {
        match address {
            IpAddr::V4(address) => v4.push((key4(*address), value(held))),
            IpAddr::V6(address) => v6.push((key6(*address), value(held))),
        }
    }
    (v4, v6)
}

fn keys_by_family(addresses: &[IpAddr]) -> (Vec<V4>, Vec<V6>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            IpAddr::V4(address) => v4.push(key4(*address)),
            IpAddr::V6(address) => v6.push(key6(*address)),
        }
    }
    (v4, v6)
}

/// A digest in words.
fn id(number: u64) -> Id {
    let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

fn number([low, high]: Id) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn key_of(key: &RuleKey) -> abi::RuleKey {
    abi::RuleKey {
        set: id(key.set.0),
        class: id(key.class.0),
        protocol: key.protocol.into(),
        port: key.port.to_be(),
    }
}

fn rule_of(key: &abi::RuleKey) -> RuleKey {
    RuleKey {
        set: SetId(number(key.set)),
        class: ClassId(number(key.class)),
        // What others wrote may be nonsense: it's removed as whatever it looks like.
        protocol: u8::try_from(key.protocol).unwrap_or(u8::MAX),
        port: u16::from_be(key.port),
    }
}

fn range_of(key: &RangeKey) -> Prefix<Shared<abi::RuleKey>> {
    let rule = RuleKey {
        set: key.set,
        class: key.class,
        protocol: key.protocol,
        port: key.port,
    };
    Prefix::new(RANGE_BITS + u32::from(key.bits), Shared(key_of(&rule)))
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bpf_abi::policy::{Event, Judged, PieceKey, hint};

    use super::*;

    #[test]
    fn layouts_have_no_padding() {
        assert_eq!(size_of::<abi::Isolation>(), 8 + 8);
        assert_eq!(size_of::<abi::RuleKey>(), 8 + 8 + 2 + 2);
        assert_eq!(size_of::<Pace>(), 8 + 8 + 8);
        assert_eq!(size_of::<Judged<V4>>(), 4 + 4 + 4 + 2 + 2);
        assert_eq!(size_of::<Judged<V6>>(), 4 + 4 + 16 + 2 + 2);
        assert_eq!(size_of::<PieceKey<V4>>(), 4 + 4 + 4 + 2 + 2);
        assert_eq!(size_of::<PieceKey<V6>>(), 16 + 16 + 4 + 2 + 2);
        assert_eq!(size_of::<Event>(), 8 + 3 * 16 + 3 * 16 + 3 * 2 + 2 + 4 + 4);
    }

    #[test]
    fn the_programs_read_the_plans_hints() {
        let hints = [
            (hint::ANY_PEER, SetId::ANY_PEER),
            (hint::PEERS, SetId::PEERS),
            (hint::EVERYTHING, SetId::EVERYTHING),
            (hint::PROTOCOLS, SetId::PROTOCOLS),
            (hint::PORTS, SetId::PORTS),
            (hint::RANGES, SetId::RANGES),
        ];
        for (theirs, planned) in hints {
            assert_eq!(u64::from(theirs), planned);
        }
        assert_eq!(number(id(0x0123_4567_89ab_cdef)), 0x0123_4567_89ab_cdef);
        assert_eq!(id(SetId::ANY_PEER)[0], hint::ANY_PEER);
    }
}
