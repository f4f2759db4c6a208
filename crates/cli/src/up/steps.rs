//! The steps of a start, one line a kind: what is done on every node is one thing to a person.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use supervisor::protocol::Step;

use crate::progress::Progress;

/// Steps that are shown as they come.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) progress: Progress,
    /// How many nodes will do the same.
    nodes: usize,
    /// When the first of a kind began, and how many are done.
    kinds: BTreeMap<String, (Instant, usize)>,
}

impl Steps {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            progress: Progress::new(),
            nodes,
            kinds: BTreeMap::new(),
        }
    }

    /// Shows that a step began or is done.
    pub(super) fn show(&mut self, step: &Step) {
        let (kind, of_node) = match step.name.split_once(' ') {
            Some((kind, _)) => (kind, true),
            None => (step.name.as_str(), false),
        };
        let (began, done) = self
            .kinds
            .entry(kind.to_owned())
            .or_insert_with(|| (Instant::now(), 0));
        let Some(millis) = step.millis else {
            self.progress.begin(kind);
            return;
        };
        *done += 1;
        if !of_node {
            self.progress.done_as(kind, kind, Duration::from_millis(millis));
        } else if *done == self.nodes {
            // Steps may have been done before anybody watched.
            let took = began.elapsed().max(Duration::from_millis(millis));
            self.progress.done_as(kind, &label(kind, self.nodes), took);
        }
    }
}

fn label(kind: &str, nodes: usize) -> String {
    let plural = if nodes == 1 { "" } else { "s" };
    match kind {
        "node" => format!("{nodes} node{plural}"),
        _ => format!("{kind} on {nodes} node{plural}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_on_every_node_is_one_line() {
        assert_eq!(label("node", 3), "3 nodes");
        assert_eq!(label("containerd", 3), "containerd on 3 nodes");
        assert_eq!(label("images", 1), "images on 1 node");
    }
}
