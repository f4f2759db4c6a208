//! Nodes that don't answer, as the node's agent has heard: their pods are no answer for a headless Service while
//! others are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Heard;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::resolver::Resolver;

/// How soon a change is noticed.
const LOOK: Duration = Duration::from_millis(500);
/// The agent itself doesn't say so for longer: if this is older, nobody is there to take it back.
const DOUBT: Duration = Duration::from_secs(120);

/// What the agent said last.
#[derive(Debug, Default)]
struct Silence {
    text: String,
    /// Since when it has been known of each.
    since: BTreeMap<String, Instant>,
}

impl Silence {
    /// Takes in what the agent says, and tells which nodes are silent.
    fn look(&mut self, text: String, now: Instant) -> BTreeSet<String> {
        if text != self.text {
            let heard: Heard = serde_json::from_str(&text).unwrap_or_default();
            let mut before = std::mem::take(&mut self.since);
            let silent = heard.silent().into_iter();
            self.since = silent
                .map(|name| {
                    let since = before.remove(&name).unwrap_or(now);
                    (name, since)
                })
                .collect();
            self.text = text;
        }
        let holds = self.since.iter().filter(|(_, since)| now < **since + DOUBT);
        holds.map(|(name, _)| name.clone()).collect()
    }
}

/// Follows the agent's file, until `shutdown`.
pub(crate) async fn follow(path: Option<PathBuf>, resolver: &Resolver, shutdown: &CancellationToken) {
    let Some(path) = path else {
        return shutdown.cancelled().await;
    };
    let (mut silence, mut known) = (Silence::default(), BTreeSet::new());
    loop {
        let silent = silence.look(read(&path), Instant::now());
        if silent != known {
            tracing::info!(nodes = ?silent, "these nodes don't answer: pods elsewhere are preferred");
            resolver.change(|table| table.set_silent(silent.clone()));
            known = silent;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// A few hundred bytes; none before the agent has written any.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(silent: &[&str]) -> String {
        let nodes: serde_json::Map<String, serde_json::Value> = ["a", "b"]
            .into_iter()
            .map(|name| {
                let mut node = serde_json::json!({"address": "172.30.0.12"});
                if silent.contains(&name) {
                    node["silentSince"] = 7.into();
                }
                (name.to_owned(), node)
            })
            .collect();
        serde_json::json!({"boot": "one", "nodes": nodes}).to_string()
    }

    #[test]
    fn a_silence_holds_until_it_is_taken_back_or_nobody_is_there_to_do_so() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        let mut look = |text: &str, after| {
            let silent = silence.look(text.to_owned(), start + Duration::from_secs(after));
            silent.into_iter().collect::<String>()
        };
        assert_eq!(look("", 0), "");
        assert_eq!(look(&heard(&["b"]), 1), "b");
        assert_eq!(look(&heard(&["a", "b"]), 100), "ab");
        assert_eq!(look(&heard(&["a", "b"]), 121), "a", "that of b is too old");
        assert_eq!(look(&heard(&["b"]), 122), "", "and stays so");
        assert_eq!(look(&heard(&[]), 123), "");
        assert_eq!(look(&heard(&["b"]), 124), "b");
        assert_eq!(look("{", 125), "");
    }
}
