//! What happens to conversations on this node: kept for a while, and told to whoever asks.
//!
//! ```text
//! kernel ──events──► Reader ──names──► Flows ──► /flows: the last ones, then those that come
//!                                        │       (asked by the kubelet part, or by a socket of the node's)
//!                                        ├─────► metrics
//!                                        └─────► an Event on a pod whose packets are dropped
//! ```
//!
//! Everything is bounded: the kernel tells so many a second, the last [`KEPT`] are kept, and whoever reads too
//! slowly is told how many were lost.

mod query;
mod reader;
mod socket;
mod warn;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use model::Flow;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

pub(crate) use query::Query;
pub(crate) use reader::Clocks;
pub(crate) use reader::Names;
pub(crate) use socket::FlowSocket;
pub(crate) use warn::warn_pods;

/// How many are kept.
const KEPT: usize = 4096;
/// How many wait for a reader that is slow.
const QUEUE: usize = 1024;

/// What is told of conversations.
#[derive(Debug)]
pub(crate) struct Flows {
    kept: Mutex<VecDeque<Arc<Flow>>>,
    live: broadcast::Sender<Arc<Flow>>,
    /// How many follow: conversations that begin and end are told only then.
    followers: watch::Sender<usize>,
}

/// Counts as one of the followers until it's dropped.
struct Following(Arc<Flows>);

impl Default for Flows {
    fn default() -> Flows {
        Flows {
            kept: Mutex::default(),
            live: broadcast::Sender::new(QUEUE),
            followers: watch::Sender::new(0),
        }
    }
}

impl Flows {
    /// Takes one in.
    pub(crate) fn push(&self, flow: Flow) {
        let flow = Arc::new(flow);
        // Under the lock, so that whoever begins to follow has each exactly once.
        let mut kept = self.kept();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(flow.clone());
        // Without followers there is nobody to tell.
        let _ = self.live.send(flow);
    }

    /// How many follow, as it changes.
    pub(crate) fn followers(&self) -> watch::Receiver<usize> {
        self.followers.subscribe()
    }

    /// The last ones, and those that come if that is asked for; a line of JSON each.
    pub(crate) fn lines(self: &Arc<Self>, query: Query) -> BoxStream<'static, Bytes> {
        let (kept, live) = {
            let kept = self.kept();
            (kept.iter().cloned().collect::<Vec<_>>(), self.live.subscribe())
        };
        let filter = query.filter;
        let wanted = kept
            .into_iter()
            .filter(|flow| filter.matches(flow))
            .collect::<Vec<_>>();
        let first = wanted.len().saturating_sub(query.last.unwrap_or(usize::MAX));
        let before = stream::iter(wanted.into_iter().skip(first).map(|flow| line(&flow)));
        if !query.follow {
            return before.boxed();
        }
        let following = Following::new(self.clone());
        let after = stream::unfold((live, following), |(mut live, following)| async move {
            let told = match live.recv().await {
                Ok(flow) => Ok(flow),
                Err(RecvError::Lagged(lost)) => Err(lost),
                Err(RecvError::Closed) => return None,
            };
            Some((told, (live, following)))
        });
        let after = after.filter_map(move |told| {
            let line = match told {
                Ok(flow) => filter.matches(&flow).then(|| line(&flow)),
                Err(lost) => Some(text(&json!({"lost": lost}))),
            };
            std::future::ready(line)
        });
        before.chain(after).boxed()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Flow>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Following {
    fn new(flows: Arc<Flows>) -> Following {
        flows.followers.send_modify(|count| *count += 1);
        Following(flows)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.followers.send_modify(|count| *count -= 1);
    }
}

fn line(flow: &Flow) -> Bytes {
    text(&serde_json::to_value(flow).expect("a flow becomes JSON"))
}

fn text(value: &serde_json::Value) -> Bytes {
    format!("{value}\n").into()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use model::{FlowEnd, FlowEvent};

    use super::*;

    pub(crate) fn flow(port: u16) -> Flow {
        let end = |port| FlowEnd {
            address: Ipv4Addr::LOCALHOST.into(),
            port,
            pod: None,
            service: None,
            node: None,
        };
        Flow {
            time: String::new(),
            node: "a".to_owned(),
            event: FlowEvent::Dropped,
            protocol: "tcp".to_owned(),
            source: end(40000),
            destination: end(port),
            endpoint: None,
            denied: None,
            policies: Vec::new(),
        }
    }

    fn query(text: &str) -> Query {
        text.parse().expect("a query")
    }

    async fn ports(lines: &mut BoxStream<'static, Bytes>, count: usize) -> Vec<u64> {
        let lines: Vec<Bytes> = lines.take(count).collect().await;
        let port = |line: &Bytes| {
            let value: serde_json::Value = serde_json::from_slice(line).expect("JSON");
            value["destination"]["port"].as_u64().unwrap_or_default()
        };
        lines.iter().map(port).collect()
    }

    #[tokio::test]
    async fn the_last_ones_come_first_and_then_what_happens() {
        let flows = Arc::new(Flows::default());
        (1..=3).for_each(|port| flows.push(flow(port)));
        let mut lines = flows.lines(query("last=2&follow=true"));
        flows.push(flow(4));
        assert_eq!(ports(&mut lines, 3).await, [2, 3, 4]);
        let mut all = flows.lines(query(""));
        assert_eq!(ports(&mut all, 10).await, [1, 2, 3, 4]);
        let mut one = flows.lines(query("port=3"));
        assert_eq!(ports(&mut one, 10).await, [3]);
    }

    #[tokio::test]
    async fn followers_are_counted_while_they_listen() {
        let flows = Arc::new(Flows::default());
        let followers = flows.followers();
        let lines = flows.lines(query("follow=true"));
        drop(flows.lines(query("")));
        assert_eq!(*followers.borrow(), 1);
        drop(lines);
        assert_eq!(*followers.borrow(), 0);
    }

    #[tokio::test]
    async fn a_flood_costs_a_bounded_room_and_slow_readers_are_told_what_they_lost() {
        let flows = Arc::new(Flows::default());
        let mut lines = flows.lines(query("follow=true"));
        (0..20_000).for_each(|port| flows.push(flow(port)));
        assert_eq!(flows.kept().len(), KEPT);
        let first = lines.next().await.expect("a line");
        assert_eq!(first, Bytes::from(format!("{{\"lost\":{}}}\n", 20_000 - QUEUE)));
        assert_eq!(ports(&mut lines, 1).await, [20_000 - QUEUE as u64]);
    }
}
