//! How what the kernel holds for a pod differs from what is to hold.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{PolicyTables, SetId};

impl PolicyTables {
    /// What of these tables, the kernel's, isn't as it is to be for a pod of this node that has these
    /// addresses, for people; nothing if all is well. Other pods' matters are left out.
    pub fn differ_for(&self, wanted: &PolicyTables, addresses: &[IpAddr]) -> Vec<String> {
        let mut found = Vec::new();
        let mut sets = BTreeSet::new();
        for address in addresses {
            let Some(isolation) = wanted.isolation.get(address) else {
                continue;
            };
            match self.isolation.get(address) {
                Some(held) if held == isolation => {}
                Some(_) => found.push(format!("another isolation of {address} than its policies say")),
                None => found.push(format!("no isolation of {address}: nothing reaches it")),
            }
            sets.extend([isolation.ingress, isolation.egress]);
        }
        sets.retain(|set: &SetId| !set.is_free());
        if sets.is_empty() {
            return found;
        }
        let change = PolicyTables::diff(self, wanted);
        let of_pod = |set: &SetId| sets.contains(set);
        let (rules, ranges) = (&change.rules, &change.ranges);
        let put = rules.put.iter().filter(|(key, _)| of_pod(&key.set)).count();
        let put = put + ranges.put.iter().filter(|(key, _)| of_pod(&key.set)).count();
        let removed = rules.removed.iter().filter(|key| of_pod(&key.set)).count();
        let removed = removed + ranges.removed.iter().filter(|key| of_pod(&key.set)).count();
        if put > 0 {
            found.push(format!("rules of its policies that aren't there: {put}"));
        }
        if removed > 0 {
            found.push(format!("rules that none of its policies says: {removed}"));
        }
        match change.classes.len() + change.blocks.len() {
            0 => {}
            count => found.push(format!(
                "addresses and blocks taken for other peers than they are: {count}"
            )),
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{ClassId, Isolation, RuleId, RuleKey};

    const POD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 1, 5));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 1, 6));

    /// One isolated pod, whom one peer may ask, and one that is free.
    fn tables() -> PolicyTables {
        let isolation = Isolation {
            ingress: SetId(7),
            ..Isolation::default()
        };
        let key = RuleKey {
            set: SetId(7),
            class: ClassId(3),
            protocol: 6,
            port: 80,
        };
        PolicyTables {
            isolation: [(POD, isolation), (OTHER, Isolation::default())].into(),
            classes: [(OTHER, ClassId(3))].into(),
            rules: [(key, RuleId(9))].into(),
            ..PolicyTables::default()
        }
    }

    fn found(spoil: impl FnOnce(&mut PolicyTables), pod: IpAddr) -> Vec<String> {
        let mut held = tables();
        spoil(&mut held);
        held.differ_for(&tables(), &[pod])
    }

    #[test]
    fn what_is_as_planned_is_no_difference() {
        assert!(found(|_| {}, POD).is_empty());
        assert!(found(|_| {}, OTHER).is_empty());
    }

    #[test]
    fn isolation_that_is_gone_or_another_is_said() {
        let gone = found(|held| assert!(held.isolation.remove(&POD).is_some()), POD);
        assert_eq!(gone, ["no isolation of 10.244.1.5: nothing reaches it"]);
        let open = found(
            |held| assert!(held.isolation.insert(POD, Isolation::default()).is_some()),
            POD,
        );
        assert_eq!(open, ["another isolation of 10.244.1.5 than its policies say"]);
    }

    #[test]
    fn rules_and_peers_are_the_isolated_pods_matter_alone() {
        let without = |held: &mut PolicyTables| {
            held.rules.clear();
            held.classes.clear();
        };
        let [rules, peers] = found(without, POD).try_into().expect("two differences");
        assert_eq!(rules, "rules of its policies that aren't there: 1");
        assert_eq!(
            peers,
            "addresses and blocks taken for other peers than they are: 1"
        );
        assert!(found(without, OTHER).is_empty());
        let more = |held: &mut PolicyTables| {
            let rules = held.rules.clone().into_iter();
            held.rules
                .extend(rules.map(|(key, rule)| (RuleKey { port: 81, ..key }, rule)));
        };
        assert_eq!(found(more, POD), ["rules that none of its policies says: 1"]);
    }
}
