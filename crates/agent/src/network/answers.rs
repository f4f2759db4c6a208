//! Which other nodes don't answer, long before the API can know.
//!
//! A node that loses its power or its link says nothing, and the API waits 40 seconds before it believes that. Until
//! then its endpoints would be picked, and who is led to one waits in vain. So each node asks the others for an echo
//! now and then; it's their kernels that answer, so that an agent's restart or an API that is away is nobody's
//! silence. What follows is mild: endpoints there are used where there are no others. So is being wrong.
//!
//! What was heard is kept in a file: an agent that starts while a node is dead knows at once that it's silent, or that
//! it could have answered. The node's DNS reads it, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::{Heard, HeardOf, Snapshot};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{DataPlane, Network, blocking};
use crate::clock;
use crate::file;
use crate::ipam::Millis;

/// In the folder of what the agent last knew.
const HEARD_FILE: &str = "heard.json";
/// How often each is asked,
const EVERY: Duration = Duration::from_millis(200);
/// and that there are no more than so many questions a second.
const EACH: Duration = Duration::from_millis(2);
/// So many questions without an answer are silence: before a second has passed, after which whoever wasn't answered
/// tries to connect once more.
const SILENCE: u32 = 3;
/// In milliseconds: the API has had its say by then, and whose endpoints still count is one that only we don't hear.
const DOUBT: Millis = 120_000;

/// What has been heard of other nodes. Pure.
#[derive(Debug, Default)]
struct Answers {
    nodes: BTreeMap<String, Known>,
}

/// What is known of one.
#[derive(Debug)]
struct Known {
    address: IpAddr,
    /// Who has never answered may not be able to.
    ever: bool,
    /// Questions since the last answer.
    unanswered: u32,
    silent_since: Option<Millis>,
}

impl Answers {
    /// Goes on with what was heard before.
    fn recalled(heard: &Heard) -> Answers {
        let known = |of: &HeardOf| Known {
            address: of.address,
            ever: true,
            unanswered: if of.silent_since.is_some() { SILENCE } else { 0 },
            silent_since: of.silent_since,
        };
        let nodes = heard.nodes.iter().map(|(name, of)| (name.clone(), known(of)));
        Answers {
            nodes: nodes.collect(),
        }
    }

    /// What has been heard, of those that have ever answered.
    fn heard(&self, boot: &str) -> Heard {
        let ever = self.nodes.iter().filter(|(_, known)| known.ever);
        let heard = ever.map(|(name, known)| {
            let of = HeardOf {
                address: known.address,
                silent_since: known.silent_since,
            };
            (name.clone(), of)
        });
        Heard {
            boot: boot.to_owned(),
            nodes: heard.collect(),
        }
    }

    /// These are the nodes, and no others.
    fn follow(&mut self, nodes: BTreeMap<String, IpAddr>) {
        let wanted = &nodes;
        self.nodes
            .retain(|name, known| wanted.get(name) == Some(&known.address));
        for (name, address) in nodes {
            self.nodes.entry(name).or_insert(Known {
                address,
                ever: false,
                unanswered: 0,
                silent_since: None,
            });
        }
    }

    /// Takes in who has answered. All that has come must have been read, however late this is: only questions
    /// count, not time.
    fn judge(&mut self, answered: &BTreeSet<IpAddr>, now: Millis) {
        for known in self.nodes.values_mut() {
            if answered.contains(&known.address) {
                (known.ever, known.unanswered, known.silent_since) = (true, 0, None);
            } else if known.ever && known.unanswered >= SILENCE {
                let since = *known.silent_since.get_or_insert(now);
                if now >= since + DOUBT {
                    (known.ever, known.silent_since) = (false, None);
                }
            }
        }
    }

    /// Who is to be asked now.
    fn ask(&mut self) -> BTreeSet<IpAddr> {
        let ask = |known: &mut Known| {
            known.unanswered = known.unanswered.saturating_add(1);
            known.address
        };
        self.nodes.values_mut().map(ask).collect()
    }

    /// How long an answer may take.
    fn pause(&self) -> Duration {
        EVERY.max(EACH * u32::try_from(self.nodes.len()).unwrap_or(u32::MAX))
    }
}

/// What was heard, in a file.
#[derive(Debug)]
pub(super) struct Notes {
    path: PathBuf,
    held: Heard,
}

impl Notes {
    /// The notes in a folder, as far as they hold in that boot.
    pub(super) fn open(dir: &Path, boot: &str) -> Notes {
        let path = dir.join(HEARD_FILE);
        let read = fs::read(&path).ok();
        // What can't be read is heard anew.
        let heard = read.and_then(|bytes| serde_json::from_slice::<Heard>(&bytes).ok());
        Notes {
            path,
            held: heard.unwrap_or_default().in_boot(boot),
        }
    }

    /// Who was silent.
    pub(super) fn silent(&self) -> BTreeSet<String> {
        self.held.silent()
    }

    /// Keeps it, if it's new. Failing costs no more than asking anew after the next start.
    async fn keep(&mut self, heard: Heard) {
        if self.held == heard {
            return;
        }
        self.held = heard.clone();
        let path = self.path.clone();
        if let Ok(Err(error)) = blocking(move || file::replace(&path, &heard)).await {
            warn!(path = %self.path.display(), %error, "what was heard of other nodes can't be kept for the next start");
        }
    }
}

impl<D: DataPlane> Network<D> {
    /// Listens to the other nodes until `shutdown`.
    pub async fn listen_to_nodes(
        &self,
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        shutdown: CancellationToken,
    ) {
        let mut notes = self.notes.lock().await;
        let boot = notes.held.boot.clone();
        let mut answers = Answers::recalled(&notes.held);
        loop {
            // Before any nodes are known those of before may be all there are.
            if let Some(snapshot) = snapshots.borrow().as_deref() {
                answers.follow(self.others(snapshot));
            }
            answers.judge(&self.kernel.answers(), clock::since_boot());
            let heard = answers.heard(&boot);
            self.answering.send_if_modified(|held| {
                let answering = heard.answering();
                let differs = *held != answering;
                *held = answering;
                differs
            });
            self.tell_unreachable(heard.silent());
            notes.keep(heard).await;
            self.kernel.ask(&answers.ask());
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(answers.pause()) => {}
            }
        }
    }

    /// The nodes whose kernels answer.
    pub(crate) fn answering(&self) -> watch::Receiver<BTreeSet<String>> {
        self.answering.subscribe()
    }

    fn tell_unreachable(&self, silent: BTreeSet<String>) {
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
    }

    /// The other nodes, each with the address that the cluster knows it by first.
    fn others(&self, snapshot: &Snapshot) -> BTreeMap<String, IpAddr> {
        let others = snapshot
            .nodes
            .iter()
            .filter(|(name, _)| **name != self.settings.node);
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
    fn round(answers: &mut Answers, answered: &[[u8; 4]], now: Millis) -> Vec<String> {
        assert_eq!(answers.ask().len(), answers.nodes.len());
        hear(answers, answered, now)
    }

    fn hear(answers: &mut Answers, answered: &[[u8; 4]], now: Millis) -> Vec<String> {
        let answered = answered.iter().map(|address| IpAddr::from(*address)).collect();
        answers.judge(&answered, now);
        answers.heard("boot").silent().into_iter().collect()
    }

    const NOW: Millis = 1_000_000;

    #[test]
    fn who_stops_answering_is_silent_until_an_answer_comes() {
        let (mut answers, now) = (answers(), NOW);
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
        let (mut answers, now) = (answers(), NOW);
        for _ in 0..2 * SILENCE {
            assert!(round(&mut answers, &[A], now).is_empty());
        }
    }

    #[test]
    fn silence_ends_when_the_api_must_know_better() {
        let (mut answers, start) = (answers(), NOW);
        round(&mut answers, &[A, B], start);
        for _ in 0..SILENCE {
            round(&mut answers, &[A], start);
        }
        let almost = start + DOUBT - 1000;
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
        let (mut answers, now) = (answers(), NOW);
        round(&mut answers, &[A, B], now);
        for _ in 0..SILENCE {
            round(&mut answers, &[], now);
        }
        answers.follow([("b".to_owned(), A.into())].into());
        assert!(round(&mut answers, &[], now).is_empty());
    }

    #[test]
    fn who_was_silent_still_is_after_a_restart_until_an_answer_comes() {
        let mut before = answers();
        round(&mut before, &[A, B], NOW);
        for _ in 0..SILENCE {
            round(&mut before, &[A], NOW);
        }
        let nodes = || [("a".to_owned(), A.into()), ("b".to_owned(), B.into())].into();
        let restarted = || {
            let mut answers = Answers::recalled(&before.heard("boot"));
            answers.follow(nodes());
            answers
        };
        let mut answers = restarted();
        assert_eq!(hear(&mut answers, &[], NOW), ["b"], "nobody was asked yet");
        assert!(round(&mut answers, &[A, B], NOW).is_empty());
        // Its doubt is as old as its silence.
        let mut answers = restarted();
        assert!(hear(&mut answers, &[], NOW + DOUBT).is_empty());
        // Who died meanwhile could have answered.
        let mut answers = restarted();
        for _ in 1..SILENCE {
            assert_eq!(round(&mut answers, &[], NOW), ["b"]);
        }
        assert_eq!(round(&mut answers, &[], NOW), ["a", "b"]);
    }

    #[tokio::test]
    async fn what_was_heard_is_kept_and_what_cannot_be_read_is_not_missed() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = &dir.path().join("cni");
        let mut notes = Notes::open(dir, "one");
        assert!(notes.silent().is_empty());
        let mut answers = answers();
        round(&mut answers, &[B], NOW);
        for _ in 0..SILENCE {
            round(&mut answers, &[], NOW);
        }
        notes.keep(answers.heard("one")).await;
        assert_eq!(Notes::open(dir, "one").silent(), ["b".to_owned()].into());
        let later = Notes::open(dir, "two");
        assert!(later.silent().is_empty() && later.held.nodes.contains_key("b"));
        fs::write(dir.join(HEARD_FILE), "{").expect("written");
        assert_eq!(Notes::open(dir, "one").held.nodes.len(), 0);
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
