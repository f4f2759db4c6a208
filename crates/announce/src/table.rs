//! The decision. Pure: the same in every node that knows the same.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// A Service whose addresses are to be announced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    /// Who announces it, as its condition says.
    pub(crate) current: Option<String>,
    /// The nodes with a ready endpoint, where only they may (`externalTrafficPolicy: Local`).
    pub(crate) only: Option<BTreeSet<String>>,
}

/// Who announces the Service's addresses. Nobody, if nobody may.
pub(crate) fn announcer<'a>(candidate: &Candidate, alive: &'a BTreeSet<String>) -> Option<&'a str> {
    let may = |node: &&String| candidate.only.as_ref().is_none_or(|only| only.contains(*node));
    let mut nodes = alive.iter().filter(may);
    let current = candidate.current.as_ref();
    if let Some(node) = nodes.clone().find(|node| Some(*node) == current) {
        return Some(node);
    }
    // Services spread over the nodes, and one node's end moves only what it had.
    let first = nodes.next()?;
    let best = nodes.fold((weight(candidate, first), first), |best, node| {
        best.max((weight(candidate, node), node))
    });
    Some(best.1)
}

/// FNV-1a, with its bits mixed: the same in every process and version.
fn weight(candidate: &Candidate, node: &str) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let text = [candidate.namespace.as_str(), "/", &candidate.name, "/", node];
    let bytes = text.iter().flat_map(|part| part.bytes());
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<String> {
        numbers
            .into_iter()
            .map(|number| format!("node-{number}"))
            .collect()
    }

    fn candidate(number: u32, current: Option<u8>) -> Candidate {
        Candidate {
            namespace: "default".to_owned(),
            name: format!("web-{number}"),
            current: current.map(|number| format!("node-{number}")),
            ..Candidate::default()
        }
    }

    #[test]
    fn who_announces_goes_on() {
        let alive = nodes(1..=3);
        for number in 1..=3 {
            let expected = format!("node-{number}");
            assert_eq!(announcer(&candidate(1, Some(number)), &alive), Some(&*expected));
        }
        assert_ne!(announcer(&candidate(1, Some(9)), &alive), None);
        assert_eq!(announcer(&candidate(1, None), &BTreeSet::new()), None);
    }

    #[test]
    fn only_nodes_with_an_endpoint_announce_what_stays_local() {
        let mut local = candidate(1, Some(1));
        local.only = Some(nodes([2]));
        assert_eq!(announcer(&local, &nodes(1..=3)), Some("node-2"));
        local.only = Some(BTreeSet::new());
        assert_eq!(announcer(&local, &nodes(1..=3)), None);
    }

    #[test]
    fn services_spread_over_nodes() {
        let alive = nodes(1..=3);
        for node in &alive {
            let count = (0..300)
                .filter(|number| announcer(&candidate(*number, None), &alive) == Some(node))
                .count();
            assert!((60..=140).contains(&count), "{node} has {count} of 300");
        }
    }

    proptest! {
        #[test]
        fn the_end_of_a_node_moves_only_what_it_had(numbers in prop::collection::btree_set(0..20u8, 2..10), service: u32) {
            let alive = nodes(numbers.iter().copied());
            let candidate = candidate(service, None);
            let before = announcer(&candidate, &alive).unwrap().to_owned();
            for node in &alive {
                let mut fewer = alive.clone();
                fewer.remove(node);
                let after = announcer(&candidate, &fewer).unwrap();
                prop_assert!(*node == before || after == before);
            }
        }
    }
}
