//! Which other nodes don't answer, long before the API can know.
//!
//! A node that loses its power or its link says nothing, and the API waits 40 seconds before it believes that. Until
//! then its endpoints would be picked, and who is led to one waits in vain. So each node asks the others for an echo
//! now and then; it's their kernels that answer, so that an agent's restart or an API that is away is nobody's
//! silence. What follows is mild: endpoints there are used where there are no others. So is being wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::Snapshot;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{DataPlane, Network};

/// How often each is asked,
const EVERY: Duration = Duration::from_millis(500);
/// and that there are no more than so many questions a second.
const EACH: Duration = Duration::from_millis(2);
/// So many questions without an answer are silence.
const SILENCE: u32 = 3;
/// The API has had its say by then: whose endpoints still count is one that only we don't hear.
const DOUBT: Duration = Duration::from_secs(120);

/// What has been heard of other nodes. Pure.
#[derive(Debug, Default)]
struct Answers {
    nodes: BTreeMap<String, Heard>,
}

/// What has been heard of one.
#[derive(Debug)]
struct Heard {
    address: IpAddr,
    /// Who has never answered may not be able to.
    ever: bool,
    /// Questions since the last answer.
    unanswered: u32,
    silent_since: Option<Instant>,
}

impl Answers {
    /// These are the nodes, and no others.
    fn follow(&mut self, nodes: BTreeMap<String, IpAddr>) {
        let known = &nodes;
        self.nodes
            .retain(|name, heard| known.get(name) == Some(&heard.address));
        for (name, address) in nodes {
            self.nodes.entry(name).or_insert(Heard {
                address,
                ever: false,
                unanswered: 0,
                silent_since: None,
            });
        }
    }

    /// Takes in who has answered, and says who is silent. All that has come must have been read, however late this
    /// is: only questions count, not time.
    fn judge(&mut self, answered: &BTreeSet<IpAddr>, now: Instant) -> BTreeSet<String> {
        for heard in self.nodes.values_mut() {
            if answered.contains(&heard.address) {
                (heard.ever, heard.unanswered, heard.silent_since) = (true, 0, None);
            } else if heard.ever && heard.unanswered >= SILENCE {
                let since = *heard.silent_since.get_or_insert(now);
                if now >= since + DOUBT {
                    (heard.ever, heard.silent_since) = (false, None);
                }
            }
        }
        let silent = self
            .nodes
            .iter()
            .filter(|(_, heard)| heard.silent_since.is_some());
        silent.map(|(name, _)| name.clone()).collect()
    }

    /// Who is to be asked now.
    fn ask(&mut self) -> BTreeSet<IpAddr> {
        let ask = |heard: &mut Heard| {
            heard.unanswered = heard.unanswered.saturating_add(1);
            heard.address
        };
        self.nodes.values_mut().map(ask).collect()
    }

    /// How long an answer may take.
    fn pause(&self) -> Duration {
        EVERY.max(EACH * u32::try_from(self.nodes.len()).unwrap_or(u32::MAX))
    }
}

impl<D: DataPlane> Network<D> {
    /// Listens to the other nodes until `shutdown`.
    pub async fn listen_to_nodes(
        &self,
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        shutdown: CancellationToken,
    ) {
        let mut answers = Answers::default();
        loop {
            let others = self.others(snapshots.borrow().as_deref());
            answers.follow(others);
            let silent = answers.judge(&self.kernel.answers(), Instant::now());
            self.unreachable.send_if_modified(|held| {
                for node in silent.difference(held) {
                    warn!(node, "the node doesn't answer: endpoints elsewhere are preferred");
                }
                for node in held.difference(&silent) {
                    info!(node, "the node's endpoints count as others' do again");
                }
                let differs = *held != silent;
                *held = silent;
                differs
            });
            self.kernel.ask(&answers.ask());
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(answers.pause()) => {}
            }
        }
    }

    /// The other nodes, each with the address that the cluster knows it by first.
    fn others(&self, snapshot: Option<&Snapshot>) -> BTreeMap<String, IpAddr> {
        let nodes = snapshot.into_iter().flat_map(|snapshot| &snapshot.nodes);
        let others = nodes.filter(|(name, _)| **name != self.settings.node);
        others
            .filter_map(|(name, node)| Some((name.clone(), *node.addresses.first()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 4] = [172, 30, 0, 12];
    const B: [u8; 4] = [172, 30, 0, 13];

    fn answers() -> Answers {
        let mut answers = Answers::default();
        let nodes = [("a", A), ("b", B)].map(|(name, address)| (name.to_owned(), address.into()));
        answers.follow(nodes.into());
        answers
    }

    /// Asks all once more; who has answered by the next time is `answered`.
    fn round(answers: &mut Answers, answered: &[[u8; 4]], now: Instant) -> Vec<String> {
        assert_eq!(answers.ask().len(), answers.nodes.len());
        let answered = answered.iter().map(|address| IpAddr::from(*address)).collect();
        answers.judge(&answered, now).into_iter().collect()
    }

    #[test]
    fn who_stops_answering_is_silent_until_an_answer_comes() {
        let (mut answers, now) = (answers(), Instant::now());
        assert!(round(&mut answers, &[A, B], now).is_empty());
        for _ in 1..SILENCE {
            assert!(
                round(&mut answers, &[A], now).is_empty(),
                "one or two may be lost"
            );
        }
        assert_eq!(round(&mut answers, &[A], now), ["b"]);
        assert_eq!(round(&mut answers, &[], now), ["b"]);
        assert!(round(&mut answers, &[A, B], now).is_empty());
    }

    #[test]
    fn who_has_never_answered_is_not_taken_for_silent() {
        let (mut answers, now) = (answers(), Instant::now());
        for _ in 0..2 * SILENCE {
            assert!(round(&mut answers, &[A], now).is_empty());
        }
    }

    #[test]
    fn silence_ends_when_the_api_must_know_better() {
        let (mut answers, start) = (answers(), Instant::now());
        round(&mut answers, &[A, B], start);
        for _ in 0..SILENCE {
            round(&mut answers, &[A], start);
        }
        let almost = start + DOUBT - Duration::from_secs(1);
        assert_eq!(round(&mut answers, &[A], almost), ["b"]);
        for _ in 0..2 * SILENCE {
            assert!(round(&mut answers, &[A], start + DOUBT).is_empty());
        }
        // And once it was heard again it can fall silent again.
        round(&mut answers, &[A, B], start + DOUBT);
        for _ in 1..SILENCE {
            round(&mut answers, &[A], start + DOUBT);
        }
        assert_eq!(round(&mut answers, &[A], start + DOUBT), ["b"]);
    }

    #[test]
    fn a_node_that_leaves_the_cluster_or_moves_is_forgotten() {
        let (mut answers, now) = (answers(), Instant::now());
        round(&mut answers, &[A, B], now);
        for _ in 0..SILENCE {
            round(&mut answers, &[], now);
        }
        answers.follow([("b".to_owned(), A.into())].into());
        assert!(round(&mut answers, &[], now).is_empty());
    }

    #[test]
    fn many_are_asked_less_often() {
        let mut answers = answers();
        assert_eq!(answers.pause(), EVERY);
        let many =
            (0..1000).map(|number: u32| (format!("node-{number}"), IpAddr::from(number.to_be_bytes())));
        answers.follow(many.collect());
        assert_eq!(answers.pause(), Duration::from_secs(2));
    }
}
