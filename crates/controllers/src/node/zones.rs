//! How fast nodes may be given up: where many are lost at once, it is more likely that something between
//! them and us failed than that all of them did, and pods that are driven out find no place elsewhere.
//!
//! The rules and figures are those of Kubernetes' node lifecycle controller (`--node-eviction-rate`,
//! `--secondary-node-eviction-rate`, `--unhealthy-zone-threshold`, `--large-cluster-size-threshold`).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;

/// Between two nodes of a zone.
const INTERVAL: Duration = Duration::from_secs(10);
/// The same, in a large zone of which a large part is lost.
const SLOW_INTERVAL: Duration = Duration::from_secs(100);
/// The share of a zone, in percent, that is a large part …
const LARGE_PART: usize = 55;
/// … if it is more nodes than these.
const FEW: usize = 2;
/// A zone of more nodes than these is large.
const LARGE_ZONE: usize = 50;

/// How a zone fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Normal,
    /// A large part is lost.
    Partial,
    /// All of it is lost.
    Full,
}

/// Nodes that are likely to be lost together: those with the same region and zone.
pub(super) type Zone = (String, String);

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    ready: usize,
    lost: usize,
}

impl Count {
    fn state(self) -> State {
        let all = self.ready + self.lost;
        if self.ready == 0 && self.lost > 0 {
            State::Full
        } else if self.lost > FEW && self.lost * 100 >= all * LARGE_PART {
            State::Partial
        } else {
            State::Normal
        }
    }
}

/// All zones, and when their last node was given up.
#[derive(Debug, Default)]
pub(super) struct Zones {
    counts: HashMap<Zone, Count>,
    /// By any clock that the caller likes.
    last: HashMap<Zone, Duration>,
    /// Nodes that were given up: to write that down may take more than one try.
    given_up: HashSet<String>,
    cut_off: bool,
}

/// Whether pods may be driven from one more node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    /// Now.
    Granted,
    /// Ask again after this time.
    After(Duration),
    /// Not while things are as they are.
    Refused,
}

impl Zones {
    /// Looks at all nodes. Says whether everything was lost until now and isn't any longer.
    pub(super) fn look<'a>(&mut self, nodes: impl Iterator<Item = &'a Node>) -> bool {
        self.counts.clear();
        for node in nodes {
            let count = self.counts.entry(zone(node)).or_default();
            match super::is_ready(node) {
                true => count.ready += 1,
                false => count.lost += 1,
            }
        }
        let states = || self.counts.values().map(|count| count.state());
        let was_cut_off = self.cut_off;
        self.cut_off = !self.counts.is_empty() && states().all(|state| state == State::Full);
        was_cut_off && !self.cut_off
    }

    /// Whether not one node is ready: it is rather us who are cut off.
    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    /// A node is no longer lost, or gone.
    pub(super) fn forget(&mut self, node: &str) {
        self.given_up.remove(node);
    }

    /// Asks to drive pods from a node, at this time.
    pub(super) fn ask(&mut self, node: &Node, now: Duration) -> Permit {
        let zone = zone(node);
        let count = self.counts.get(&zone).copied().unwrap_or_default();
        let interval = match count.state() {
            _ if self.cut_off => return Permit::Refused,
            _ if self.given_up.contains(super::name(node)) => return Permit::Granted,
            // The zone is lost, and pods can go to another.
            State::Full | State::Normal => INTERVAL,
            State::Partial if count.ready + count.lost > LARGE_ZONE => SLOW_INTERVAL,
            State::Partial => return Permit::Refused,
        };
        let next = self.last.get(&zone).map(|last| *last + interval);
        match next.and_then(|next| next.checked_sub(now)) {
            Some(wait) if !wait.is_zero() => Permit::After(wait),
            _ => {
                self.last.insert(zone, now);
                self.given_up.insert(super::name(node).to_owned());
                Permit::Granted
            }
        }
    }
}

fn zone(node: &Node) -> Zone {
    let label = |key| {
        let labels = node.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(key))
            .cloned()
            .unwrap_or_default()
    };
    (
        label("topology.kubernetes.io/region"),
        label("topology.kubernetes.io/zone"),
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn node(zone: &str, is_ready: bool) -> Node {
        named("a", zone, is_ready)
    }

    fn named(name: &str, zone: &str, is_ready: bool) -> Node {
        let ready = if is_ready { "True" } else { "Unknown" };
        serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": zone } },
            "status": { "conditions": [{ "type": "Ready", "status": ready }] },
        }))
        .unwrap()
    }

    /// Zones with so many nodes that are ready, and so many that are lost.
    fn zones(zones: &mut Zones, counts: &[(&str, usize, usize)]) -> bool {
        let nodes: Vec<Node> = counts
            .iter()
            .flat_map(|(zone, ready, lost)| {
                let ready = (0..*ready).map(|_| node(zone, true));
                ready
                    .chain((0..*lost).map(|_| node(zone, false)))
                    .collect::<Vec<_>>()
            })
            .collect();
        zones.look(nodes.iter())
    }

    const START: Duration = Duration::from_secs(1000);

    #[rstest]
    #[case::one_of_three(&[("z", 2, 1)], Permit::After(Duration::from_secs(10)))]
    #[case::two_are_few(&[("z", 1, 2)], Permit::After(Duration::from_secs(10)))]
    #[case::a_large_part_of_a_small_zone(&[("z", 2, 3)], Permit::Refused)]
    #[case::a_large_part_of_a_large_zone(&[("z", 20, 40)], Permit::After(Duration::from_secs(100)))]
    #[case::a_zone_among_others(&[("z", 0, 5), ("y", 1, 0)], Permit::After(Duration::from_secs(10)))]
    #[case::everything(&[("z", 0, 5), ("y", 0, 1)], Permit::Refused)]
    fn the_more_are_lost_the_slower_they_are_given_up(
        #[case] counts: &[(&str, usize, usize)],
        #[case] second: Permit,
    ) {
        let mut all = Zones::default();
        zones(&mut all, counts);
        let first = all.ask(&node("z", false), START);
        let expected = match second {
            Permit::Refused => Permit::Refused,
            _ => Permit::Granted,
        };
        assert_eq!(first, expected);
        let other = named("b", "z", false);
        assert_eq!(all.ask(&other, START), second);
        if let Permit::After(wait) = second {
            assert_eq!(all.ask(&other, START + wait), Permit::Granted);
        }
    }

    #[test]
    fn a_node_that_was_given_up_is_until_it_comes_back() {
        let mut all = Zones::default();
        zones(&mut all, &[("z", 2, 1)]);
        assert_eq!(all.ask(&node("z", false), START), Permit::Granted);
        assert_eq!(
            all.ask(&node("z", false), START),
            Permit::Granted,
            "the write failed"
        );
        all.forget("a");
        assert_eq!(all.ask(&node("z", false), START), Permit::After(INTERVAL));
    }

    #[test]
    fn zones_do_not_wait_for_each_other() {
        let mut all = Zones::default();
        zones(&mut all, &[("z", 1, 1), ("y", 1, 1)]);
        assert_eq!(all.ask(&node("z", false), START), Permit::Granted);
        assert_eq!(all.ask(&named("b", "y", false), START), Permit::Granted);
    }

    #[test]
    fn it_is_told_when_the_first_node_is_back() {
        let mut all = Zones::default();
        assert!(!zones(&mut all, &[("z", 0, 2)]));
        assert!(all.is_cut_off());
        assert!(zones(&mut all, &[("z", 1, 1)]));
        assert!(!zones(&mut all, &[("z", 1, 1)]));
    }
}
