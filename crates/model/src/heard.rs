//! What a node has heard of the others: kept by its agent, for its next start and for the node's DNS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What one node has heard of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heard {
    /// Which boot of the machine its times are of.
    pub boot: String,
    /// Those that have ever answered, by name.
    pub nodes: BTreeMap<String, HeardOf>,
}

/// What was heard of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeardOf {
    /// Where it was asked.
    pub address: IpAddr,
    /// Since when it has been silent, in milliseconds since the boot; none if it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<u64>,
}

impl Heard {
    /// Those that don't answer.
    pub fn silent(&self) -> BTreeSet<String> {
        let silent = self.nodes.iter().filter(|(_, one)| one.silent_since.is_some());
        silent.map(|(name, _)| name.clone()).collect()
    }

    /// Those that do.
    pub fn answering(&self) -> BTreeSet<String> {
        let answering = self.nodes.iter().filter(|(_, one)| one.silent_since.is_none());
        answering.map(|(name, _)| name.clone()).collect()
    }

    /// What of it still holds in that boot: who has ever answered can do so, but silence is of its time.
    #[must_use]
    pub fn in_boot(mut self, boot: &str) -> Heard {
        if self.boot != boot {
            boot.clone_into(&mut self.boot);
            self.nodes.values_mut().for_each(|one| one.silent_since = None);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_ends_with_the_boot() {
        let of = |silent_since| HeardOf {
            address: [172, 30, 0, 12].into(),
            silent_since,
        };
        let heard = Heard {
            boot: "one".to_owned(),
            nodes: [("a".to_owned(), of(None)), ("b".to_owned(), of(Some(7)))].into(),
        };
        assert_eq!(heard.silent(), ["b".to_owned()].into());
        assert_eq!(heard.answering(), ["a".to_owned()].into());
        assert_eq!(heard.clone().in_boot("one"), heard);
        let later = heard.clone().in_boot("two");
        assert!(later.silent().is_empty());
        assert_eq!(later.nodes.len(), 2);
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let text = r#"{"boot":"one","nodes":{"a":{"address":"172.30.0.12"},"b":{"address":"fd00::13","silentSince":7}}}"#;
        let heard: Heard = serde_json::from_str(text).expect("what was heard");
        assert_eq!(serde_json::to_string(&heard).expect("plain data"), text);
    }
}
