//! What holds for every cluster's policies.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::{Direction, PolicySnapshot, Transport};
use proptest::prelude::*;

use super::id::Digests;
use super::naive::{self, Judgement};
use super::random::{addresses, snapshot, transports};
use super::{PolicyIndex, PolicyPlan, PolicyTables, RuleId};

/// What the tables say of a pod of the node.
#[derive(Debug, PartialEq, Eq)]
enum Looked {
    Free,
    Allowed(RuleId),
    Denied,
}

fn look(
    tables: &PolicyTables,
    direction: Direction,
    own: IpAddr,
    peer: IpAddr,
    transport: Transport,
) -> Looked {
    let Some(isolation) = tables.isolation.get(&own) else {
        return Looked::Denied;
    };
    let set = match direction {
        Direction::Ingress => isolation.ingress,
        Direction::Egress => isolation.egress,
    };
    if set.is_free() {
        return Looked::Free;
    }
    let allowed = tables.allows(set, tables.class(peer), transport);
    allowed.map_or(Looked::Denied, Looked::Allowed)
}

/// Calls `check` with what is meant and what is planned, of everything that can be asked.
fn each(
    snapshot: &PolicySnapshot,
    tables: &PolicyTables,
    mut check: impl FnMut(Judgement, Looked, String) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let own: BTreeSet<IpAddr> = snapshot
        .attachments
        .values()
        .flat_map(|one| one.addresses.iter().copied())
        .collect();
    for (own, peer) in own
        .iter()
        .flat_map(|own| addresses().into_iter().map(move |peer| (*own, peer)))
    {
        for transport in transports() {
            for direction in Direction::ALL {
                let meant = naive::judge(snapshot, direction, own, peer, transport);
                let looked = look(tables, direction, own, peer, transport);
                check(
                    meant,
                    looked,
                    format!("{direction} of {own}, peer {peer}, {transport}"),
                )?;
            }
        }
    }
    Ok(())
}

/// Leads an index from one cluster to another, as watches would.
fn lead(index: &mut PolicyIndex, from: &PolicySnapshot, to: &PolicySnapshot) {
    for id in from
        .attachments
        .keys()
        .filter(|id| !to.attachments.contains_key(id))
    {
        index.detach(id);
    }
    for name in from
        .policies
        .keys()
        .filter(|name| !to.policies.contains_key(name))
    {
        index.remove_policy(name);
    }
    for name in from.pods.keys().filter(|name| !to.pods.contains_key(name)) {
        index.remove_pod(name);
    }
    for name in from
        .namespaces
        .keys()
        .filter(|name| !to.namespaces.contains_key(*name))
    {
        index.remove_namespace(name);
    }
    index.load(to);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_tables_say_what_the_api_says(snapshot in snapshot()) {
        let plan = PolicyPlan::new(&snapshot);
        each(&snapshot, &plan.tables, |meant, looked, what| {
            match (&meant, &looked) {
                (Judgement::Free, Looked::Free) | (Judgement::Denied, Looked::Denied) => {}
                (Judgement::Allowed(rules), Looked::Allowed(id)) => {
                    let named = plan.rules.get(id);
                    prop_assert!(named.is_some_and(|rule| rules.contains(rule)), "{}: {:?} of {:?}", what, named, rules);
                }
                _ => prop_assert!(false, "{}: {:?} is meant, {:?} planned\n{}", what, meant, looked, plan),
            }
            Ok(())
        })?;
    }

    #[test]
    fn what_is_kept_up_is_what_is_planned_from_scratch(steps in proptest::collection::vec((snapshot(), any::<bool>()), 1..5)) {
        let mut index = PolicyIndex::new("here");
        let mut held = PolicyTables::default();
        let mut before = PolicySnapshot::default();
        for (snapshot, is_taken) in &steps {
            lead(&mut index, &before, snapshot);
            before = snapshot.clone();
            if *is_taken {
                held.apply(&index.take_change());
                prop_assert_eq!(&held, &PolicyPlan::new(snapshot).tables);
            }
        }
        prop_assert_eq!(index.plan(), PolicyPlan::new(&before));
        held.apply(&index.take_change());
        prop_assert_eq!(held, PolicyPlan::new(&before).tables);
        prop_assert!(index.take_change().is_empty());
    }

    #[test]
    fn digests_that_collide_open_nothing(snapshot in snapshot(), bits in 1..6_u32) {
        let mut index = PolicyIndex::new("here");
        index.digests = Digests { mask: (1 << bits) - 1 };
        index.load(&snapshot);
        let tables = index.plan().tables;
        each(&snapshot, &tables, |meant, looked, what| {
            let is_open = looked != Looked::Denied;
            prop_assert!(!is_open || meant != Judgement::Denied, "{}: {:?}", what, looked);
            Ok(())
        })?;
    }

    #[test]
    fn half_of_a_change_opens_nothing_that_neither_state_allows(before in snapshot(), after in snapshot()) {
        let mut index = PolicyIndex::of(&before);
        let mut tables = PolicyTables::default();
        tables.apply(&index.take_change());
        lead(&mut index, &before, &after);
        let change = index.take_change();
        let whole = { let mut whole = tables.clone(); whole.apply(&change); whole };
        prop_assert_eq!(&whole, &PolicyPlan::new(&after).tables);
        // All that is to be there and all that isn't any more: what is between is a part of it.
        tables.rules.extend(change.rules.put.iter().copied());
        tables.ranges.extend(change.ranges.put.iter().copied());
        each(&before, &tables, |meant, looked, what| {
            prop_assert!(looked == Looked::Denied || meant != Judgement::Denied, "{}: {:?}", what, looked);
            Ok(())
        })?;
    }
}
