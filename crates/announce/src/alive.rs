//! Which nodes are alive: those whose Leases are renewed, as seen from here and by this node's clock. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::{ANSWERED, EXPIRE};

/// Leases, and when each was seen to be renewed.
#[derive(Debug, Default)]
pub(crate) struct Alive {
    seen: BTreeMap<String, (String, Instant)>,
    /// Those that are alive and don't announce.
    resigned: BTreeSet<String>,
    /// Those whose kernels answer.
    answering: BTreeSet<String>,
}

impl Alive {
    /// Takes a Lease in; `renewal` is whatever changes with each renewal.
    pub(crate) fn observe(&mut self, node: &str, renewal: &str, now: Instant) {
        match self.seen.get_mut(node) {
            Some((last, _)) if last == renewal => {}
            Some(seen) => *seen = (renewal.to_owned(), now),
            None => {
                self.seen.insert(node.to_owned(), (renewal.to_owned(), now));
            }
        }
    }

    /// These nodes' kernels answer, whatever becomes of their agents.
    pub(crate) fn hear(&mut self, answering: &BTreeSet<String>) {
        self.answering.clone_from(answering);
    }

    /// Until when a node is alive, if nothing more is heard of it.
    fn end(&self, node: &str, seen: Instant) -> Instant {
        seen + match self.answering.contains(node) {
            true => ANSWERED,
            false => EXPIRE,
        }
    }

    /// Whose Lease this is doesn't announce.
    pub(crate) fn resign(&mut self, node: &str) {
        self.resigned.insert(node.to_owned());
    }

    /// It announces again.
    pub(crate) fn rejoin(&mut self, node: &str) {
        self.resigned.remove(node);
    }

    pub(crate) fn may(&self, node: &str) -> bool {
        !self.resigned.contains(node)
    }

    /// The Lease is gone: its node left in order.
    pub(crate) fn forget(&mut self, node: &str) {
        self.seen.remove(node);
        self.resigned.remove(node);
    }

    /// A whole list: whoever isn't in it left.
    pub(crate) fn retain(&mut self, listed: &BTreeSet<String>) {
        self.seen.retain(|node, _| listed.contains(node));
        self.resigned.retain(|node| listed.contains(node));
    }

    /// Nobody could be heard until now: silence says nothing.
    pub(crate) fn excuse(&mut self, now: Instant) {
        self.seen.values_mut().for_each(|(_, at)| *at = now);
    }

    pub(crate) fn nodes(&self, now: Instant) -> BTreeSet<String> {
        let alive = self
            .seen
            .iter()
            .filter(|(node, (_, at))| now < self.end(node, *at));
        alive.map(|(node, _)| node.clone()).collect()
    }

    /// When the next one will have been silent for too long.
    pub(crate) fn next_end(&self, now: Instant) -> Option<Instant> {
        let ends = self.seen.iter().map(|(node, (_, at))| self.end(node, *at));
        ends.filter(|end| *end > now).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_renewed_expires() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut alive = Alive::default();
        alive.observe("a", "1", start);
        alive.observe("b", "1", start);
        alive.observe("a", "2", at(1500));
        // The same again is no renewal.
        alive.observe("b", "1", at(1900));
        assert_eq!(alive.nodes(at(1999)).len(), 2);
        assert_eq!(alive.nodes(at(2000)), ["a".to_owned()].into());
        assert_eq!(alive.next_end(at(2000)), Some(at(3500)));
        alive.excuse(at(5000));
        assert_eq!(alive.nodes(at(6000)).len(), 2);
        alive.forget("a");
        assert_eq!(alive.nodes(at(6000)), ["b".to_owned()].into());
    }

    #[tokio::test(start_paused = true)]
    async fn whose_kernel_answers_may_renew_its_lease_late() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut alive = Alive::default();
        alive.observe("a", "1", start);
        alive.observe("b", "1", start);
        alive.hear(&["a".to_owned()].into());
        assert_eq!(alive.nodes(at(4999)), ["a".to_owned()].into());
        assert_eq!(alive.next_end(at(2000)), Some(at(5000)));
        assert!(alive.nodes(at(5000)).is_empty(), "its agent doesn't come back");
        // As soon as it doesn't answer the Lease counts.
        alive.hear(&BTreeSet::new());
        assert!(alive.nodes(at(2000)).is_empty());
        assert_eq!(alive.nodes(at(1999)).len(), 2);
    }
}
